/** The neuron view: how one head's queries and keys make its attention. */

import { fitTokens, fontFor, PAD, TokenColumns } from "../columns.js";
import { el, isDark, sizeCanvas, themeColour } from "../dom.js";
import { LineLayer } from "../linelayer.js";
import {
  divide, drawCells, drawMasked, drawScore, drawWeight, frameCells, pictureOf, select, softmax,
} from "../neuroncells.js";
import { css, formatSigned } from "../scale.js";
import { isolate } from "../tokens.js";

/**
 * @typedef {import("../context.js").Context} Context
 * @typedef {import("../state.js").Focus} Focus
 * @typedef {import("../neuroncells.js").Vectors} Vectors
 * @typedef {import("../neuroncells.js").Selected} Selected
 * @typedef {{hover: (focus: Focus | null) => void, pick: (focus: Focus) => void,
 *   expand: (expanded: boolean, focus: Focus) => void, say: (text: string) => void}} Acts
 */

export class NeuronView {
  /** @type {readonly string[]} */
  static needs = ["query", "key"];

  /** @param {HTMLElement} root @param {import("../api.js").Api} api @param {Acts} acts */
  constructor(root, api, acts) {
    this.root = root;
    this.api = api;
    this.acts = acts;
    this.columns = new TokenColumns({
      onHover: acts.hover,
      onPick: acts.pick,
      onScroll: () => this.scrolled(),
      decorate: (row, side, token) => this.decorate(row, side, token),
    });
    this.layer = new LineLayer(this.columns);
    this.heading = el("div", { class: "neuron-heading", "aria-hidden": "true" });
    this.note = el("p", { class: "neuron-note" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.columns.element.addEventListener("pointermove", (event) => this.pointed(event));
    this.columns.element.addEventListener("pointerleave", () => this.unpoint());
    root.append(this.note, this.heading, this.columns.element, this.tip);
    /** @type {Selected | null} */
    this.selected = null;
    /** @type {number | null} dimension under the pointer */
    this.dimension = null;
  }

  /** The sign that opens or closes the columns, on every attending token. @param {HTMLElement} row @param {string} side @param {number} token */
  decorate(row, side, token) {
    if (side !== "left") return;
    const open = this.context?.state.expanded ?? false;
    const sign = el("span", {
      class: "expander", text: open ? "−" : "+", role: "button",
      "aria-label": open ? "Back to lines" : "Show query and key",
      title: open ? "Back to lines" : "Show how this token's query meets every key",
    });
    sign.addEventListener("click", (event) => {
      event.stopPropagation();
      this.acts.expand(!open, { side: "left", token });
    });
    row.prepend(sign);
  }

  /** @param {Context} context @param {AbortSignal} signal */
  async show(context, signal) {
    const { vault, example, stack, layer, head, state } = context;
    const at = `${stack.name}/${layer}/${head}`;
    const kept = "attention" in vault.arrays;
    const [[query, key], attention] = await Promise.all([
      this.api.frames(vault, example.index, `vectors/${at}?parts=query,key`, signal),
      kept && !state.expanded ? this.api.frames(vault, example.index, `attention/${at}`, signal) : null,
    ]);
    this.context = context;
    this.vectors = {
      query: /** @type {Float32Array} */ (query.data),
      key: /** @type {Float32Array} */ (key.data),
      dimensions: query.shape[1],
      keyHead: key.head ?? head,
      scaling: stack.score.scaling[context.depth],
      causal: stack.score.causal,
    };
    this.selected = null;
    this.unpoint();
    this.root.classList.toggle("is-expanded", state.expanded);
    this.showNote(context, kept);
    this.lay(context);
    if (state.expanded) this.showColumns();
    else await this.showLines(context, attention?.[0] ?? null);
  }

  /** @param {Context} context @param {boolean} kept */
  showNote({ stack, head, state }, kept) {
    const { keyHead } = /** @type {Vectors} */ (this.vectors);
    const notes = [];
    if (stack.key_heads < stack.heads) {
      notes.push(`Query head ${head} uses key head ${keyHead} of ${stack.key_heads} (grouped-query attention).`);
    }
    if (stack.score.causal) notes.push("Causal: a token sees itself and what is before it.");
    if (!kept) notes.push("No attention is kept; the softmax is computed here from query and key.");
    if (!state.expanded) notes.push(kept ? "Point at a token on the left and press + to see its query meet every key." : "");
    this.note.textContent = notes.filter(Boolean).join(" ");
    this.note.hidden = this.note.textContent === "";
  }

  /** @param {Context} context */
  lay(context) {
    const { element } = this.columns;
    const { expanded } = context.state;
    const dark = isDark();
    const fit = fitTokens(context, element.clientWidth, element.clientHeight, expanded ? 0.15 : 0.27);
    this.columns.lay({
      labels: context.labels,
      special: context.example.special,
      segments: context.example.segments,
      rows: context.rows,
      columns: context.columns,
      ...fit,
      tokenWidth: fit.tokenWidth + (expanded ? 10 : 0),
    });
    const left = this.columns.tokens?.tokenWidth ?? 0;
    const colour = (/** @type {string} */ name) => css(themeColour(name));
    this.style = {
      spans: divide(left, this.columns.body.clientWidth - 2 * left),
      rowHeight: fit.rowHeight,
      font: Math.min(12, fontFor(fit.rowHeight)),
      dark,
      family: getComputedStyle(document.body).fontFamily,
      inks: {
        ink: colour("--ink"), muted: colour("--muted"), line: colour("--line"),
        accent: colour("--weight"), surface: colour("--surface"), hatch: colour("--cell"),
      },
    };
  }

  /** @param {Context} context @param {import("../wire.js").Frame | null} frame */
  async showLines({ rows, columns }, frame) {
    this.heading.replaceChildren();
    const maps = frame ? [{
      codes: /** @type {Uint8Array} */ (frame.data), offset: 0, stride: frame.shape[1],
      colour: themeColour("--weight"),
    }] : [];
    await this.layer.show({ maps, rows, columns });
  }

  showColumns() {
    const { query, key, dimensions, scaling } = /** @type {Vectors} */ (this.vectors);
    const { spans, dark } = /** @type {NonNullable<typeof this.style>} */ (this.style);
    this.columns.back.replaceChildren();
    this.pictures = { query: pictureOf(query, dimensions, dark), key: pictureOf(key, dimensions, dark), product: null };
    const root = Math.abs(scaling * Math.sqrt(dimensions) - 1) < 1e-3;
    const titles = {
      query: "query", key: "key", product: "q × k",
      score: root ? "q·k / √d" : `q·k × ${scaling.toPrecision(2)}`, softmax: "softmax",
    };
    this.heading.replaceChildren(...Object.entries(titles).map(([name, text]) => {
      const span = spans[/** @type {keyof typeof titles} */ (name)];
      const title = el("span", { class: "neuron-title", text });
      title.style.left = `${span.x}px`;
      title.style.width = `${span.width}px`;
      return title;
    }));
    this.drawColumns();
  }

  drawColumns() {
    const { element, overlay } = this.columns;
    if (!this.style || !this.pictures || !this.context) return;
    const target = sizeCanvas(overlay, this.columns.body.clientWidth, element.clientHeight);
    const { rowHeight, spans, inks } = this.style;
    const first = Math.max(0, Math.floor((element.scrollTop - PAD) / rowHeight));
    const last = Math.ceil((element.scrollTop + element.clientHeight) / rowHeight);
    const y = (/** @type {number} */ at) => this.columns.centre(at) - element.scrollTop;
    const { rows, columns } = this.context;
    for (let at = first; at < Math.min(last, rows.length); at += 1) {
      target.globalAlpha = this.selected && this.selected.token !== rows[at] ? 0.45 : 1;
      drawCells(target, this.pictures.query, rows[at], spans.query, y(at), rowHeight);
    }
    target.globalAlpha = 1;
    for (let at = first; at < Math.min(last, columns.length); at += 1) {
      drawCells(target, this.pictures.key, columns[at], spans.key, y(at), rowHeight);
    }
    if (this.selected) this.drawSelected(target, first, Math.min(last, columns.length), y);
    else this.drawHint(target);
    if (this.dimension !== null) this.drawGuide(target, inks.ink);
  }

  /**
   * @param {CanvasRenderingContext2D} target
   * @param {number} first
   * @param {number} last
   * @param {(at: number) => number} y
   */
  drawSelected(target, first, last, y) {
    const { columns, rows } = /** @type {Context} */ (this.context);
    const { token, scores, weights } = /** @type {Selected} */ (this.selected);
    const style = /** @type {NonNullable<typeof this.style>} */ (this.style);
    const { spans, rowHeight, inks } = style;
    const from = y(rows.indexOf(token));
    const most = columns.reduce((high, key) => Math.max(high, Math.abs(scores[key]) || 0), 1e-6);
    const strongest = weights ? columns.reduce((high, key) => Math.max(high, weights[key]), 0) : 1;
    const full = strongest > 0.25 ? 1 : Math.max(1e-6, strongest);
    frameCells(target, spans.query, from, rowHeight, inks.ink, 1.5);
    for (let at = first; at < last; at += 1) {
      const key = columns[at];
      if (Number.isNaN(scores[key])) {
        drawMasked(target, style, y(at));
        continue;
      }
      drawCells(target, /** @type {HTMLCanvasElement} */ (this.pictures?.product), key, spans.product, y(at), rowHeight);
      drawScore(target, style, scores[key], most, y(at));
      if (weights) {
        drawWeight(target, style, weights[key], full, y(at));
        this.drawLink(target, from, y(at), weights[key]);
      }
    }
  }

  /** @param {CanvasRenderingContext2D} target @param {number} from @param {number} to @param {number} weight */
  drawLink(target, from, to, weight) {
    const { spans, inks, rowHeight } = /** @type {NonNullable<typeof this.style>} */ (this.style);
    const strength = Math.tanh(1.8 * weight);
    if (strength < 0.01) return;
    target.globalAlpha = strength;
    target.strokeStyle = inks.accent;
    target.lineWidth = 1.6;
    target.beginPath();
    target.moveTo(spans.query.x + spans.query.width + 2, from);
    target.lineTo(spans.key.x - 2, to);
    target.stroke();
    frameCells(target, spans.key, to, rowHeight, inks.accent, 1.2);
    frameCells(target, spans.product, to, rowHeight, inks.accent, 1.2);
    target.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} target */
  drawHint(target) {
    const { spans, inks, family } = /** @type {NonNullable<typeof this.style>} */ (this.style);
    const middle = (spans.product.x + spans.softmax.x + spans.softmax.width) / 2;
    target.fillStyle = inks.muted;
    target.font = `13px ${family}`;
    target.textAlign = "center";
    target.textBaseline = "middle";
    target.fillText("Point at a token on the left", middle, Math.min(90, this.columns.element.clientHeight / 3));
  }

  /** A line through the dimension under the pointer, in all three blocks. @param {CanvasRenderingContext2D} target @param {string} ink */
  drawGuide(target, ink) {
    const { spans } = /** @type {NonNullable<typeof this.style>} */ (this.style);
    const { dimensions } = /** @type {Vectors} */ (this.vectors);
    target.strokeStyle = ink;
    target.lineWidth = 1;
    target.globalAlpha = 0.55;
    for (const span of [spans.query, spans.key, spans.product]) {
      const wide = span.width / dimensions;
      target.strokeRect(span.x + /** @type {number} */ (this.dimension) * wide, 0, wide, this.columns.element.clientHeight);
    }
    target.globalAlpha = 1;
  }

  /** @param {Focus | null} focus @param {Focus | null} locked */
  focus(focus, locked) {
    this.columns.setFocus(focus, locked);
    const shown = locked ?? focus;
    if (!this.context?.state.expanded) {
      this.focused = shown;
      this.layer.drawFocus(shown);
      return;
    }
    const query = [locked, focus].find((one) => one?.side === "left")?.token ?? null;
    if (query !== (this.selected?.token ?? null)) void this.selectQuery(query);
    else this.drawColumns();
  }

  /** @param {number | null} token */
  async selectQuery(token) {
    const { context, vectors } = this;
    if (!context || !vectors || !this.pictures || !this.style) return;
    const selected = token === null ? null : select(vectors, token);
    this.selected = selected;
    if (selected) this.pictures.product = pictureOf(selected.products, vectors.dimensions, this.style.dark);
    this.drawColumns();
    if (!selected) return;
    selected.weights = await this.weightsOf(context, selected);
    if (this.selected === selected) this.drawColumns();
  }

  /** Exact weights from the vault; computed where it keeps none. @param {Context} context @param {Selected} selected */
  async weightsOf({ vault, example, stack, layer, head }, { token, scores }) {
    if (!("attention" in vault.arrays)) return softmax(scores);
    const path = `row/${stack.name}/${layer}/${token}`;
    const [frame] = await this.api.frames(vault, example.index, path);
    const keys = frame.shape[1];
    return /** @type {Float32Array} */ (frame.data).subarray(head * keys, (head + 1) * keys);
  }

  /** Scores of a query token with every key, for the inspector. @param {number} token @returns {Float32Array | null} */
  scoresOf(token) {
    return this.vectors ? select(this.vectors, token).scores : null;
  }

  /** @param {PointerEvent} event */
  pointed(event) {
    if (!this.context?.state.expanded || !this.style || !this.vectors) return;
    const box = this.columns.element.getBoundingClientRect();
    const x = event.clientX - box.left;
    const at = Math.floor((event.clientY - box.top + this.columns.element.scrollTop - PAD) / this.style.rowHeight);
    const { query, key, product } = this.style.spans;
    const block = Object.entries({ query, key, product })
      .find(([, span]) => x >= span.x && x < span.x + span.width);
    const token = block?.[0] === "query" ? this.context.rows[at] : this.context.columns[at];
    if (!block || token === undefined) {
      this.unpoint();
      return;
    }
    const [name, span] = block;
    this.dimension = Math.floor(((x - span.x) / span.width) * this.vectors.dimensions);
    this.tip.textContent = this.describe(name, token, this.dimension);
    this.tip.hidden = false;
    const room = this.root.getBoundingClientRect();
    const left = Math.min(event.clientX - room.left + 14, room.width - this.tip.offsetWidth - 6);
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${event.clientY - room.top + 18}px`;
    this.drawColumns();
  }

  /** Numbers of one dimension. @param {string} block @param {number} token @param {number} d */
  describe(block, token, d) {
    const { query, key, dimensions } = /** @type {Vectors} */ (this.vectors);
    const { labels } = /** @type {Context} */ (this.context);
    const name = (/** @type {number} */ at) => isolate(labels[at].text);
    const q = (/** @type {number} */ at) => query[at * dimensions + d];
    const k = key[token * dimensions + d];
    if (block === "query") return `dimension ${d} · query of ${name(token)} ${formatSigned(q(token))}`;
    if (!this.selected) return `dimension ${d} · key of ${name(token)} ${formatSigned(k)}`;
    const own = this.selected.token;
    return `dimension ${d} · ${name(own)} ${formatSigned(q(own))} × ${name(token)} ${formatSigned(k)} = ${formatSigned(q(own) * k)}`;
  }

  unpoint() {
    this.tip.hidden = true;
    if (this.dimension === null) return;
    this.dimension = null;
    this.drawColumns();
  }

  scrolled() {
    if (this.context?.state.expanded) {
      this.drawColumns();
    } else {
      this.layer.drawFocus(this.focused ?? null);
      void this.layer.drawInSight();
    }
  }
}
