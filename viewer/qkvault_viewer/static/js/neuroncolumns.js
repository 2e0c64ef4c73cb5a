/** The opened neuron view: one query against every key, dimension by dimension. */

import { fontFor, PAD } from "./columns.js";
import { el, isDark, sizeCanvas, themeColour } from "./dom.js";
import {
  divide, drawCells, drawMasked, drawScore, drawWeight, frameCells, pictureOf, select,
} from "./neuroncells.js";
import { css, formatSigned, formatWeight } from "./scale.js";
import { isolate } from "./tokens.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./neuroncells.js").Vectors} Vectors
 * @typedef {import("./neuroncells.js").Selected} Selected
 * @typedef {import("./neuroncells.js").Style} Style
 * @typedef {{context: Context, vectors: Vectors, style: Style,
 *   query: HTMLCanvasElement, key: HTMLCanvasElement}} Scene
 */

export class NeuronColumns {
  /** @param {import("./columns.js").TokenColumns} columns @param {HTMLElement} root of the view */
  constructor(columns, root) {
    this.columns = columns;
    this.root = root;
    this.heading = el("div", { class: "neuron-heading", "aria-hidden": "true" });
    this.tip = el("div", { class: "tip", hidden: true });
    columns.element.addEventListener("pointermove", (event) => this.pointed(event));
    columns.element.addEventListener("pointerleave", () => this.unpoint());
    /** @type {Scene | null} null while the view shows lines */
    this.scene = null;
    /** @type {(Selected & {picture: HTMLCanvasElement}) | null} */
    this.selected = null;
    /** @type {number | null} dimension under the pointer */
    this.dimension = null;
  }

  /** Back to lines. */
  hide() {
    this.scene = null;
    this.selected = null;
    this.unpoint();
    this.heading.replaceChildren();
  }

  /** @param {Context} context @param {Vectors} vectors */
  show(context, vectors) {
    this.selected = null;
    this.unpoint();
    const style = this.makeStyle();
    this.columns.back.replaceChildren();
    this.scene = {
      context,
      vectors,
      style,
      query: pictureOf(vectors.query, vectors.dimensions, style.dark),
      key: pictureOf(vectors.key, vectors.dimensions, style.dark),
    };
    this.showTitles(vectors, style);
    this.draw();
  }

  /** @returns {Style} */
  makeStyle() {
    const { tokenWidth = 0, rowHeight = 20 } = this.columns.tokens ?? {};
    const colour = (/** @type {string} */ name) => css(themeColour(name));
    return {
      spans: divide(tokenWidth, this.columns.body.clientWidth - 2 * tokenWidth),
      rowHeight,
      font: Math.min(12, fontFor(rowHeight)),
      dark: isDark(),
      family: getComputedStyle(document.body).fontFamily,
      inks: {
        ink: colour("--ink"), muted: colour("--muted"), line: colour("--line"),
        weight: colour("--weight"), track: colour("--cell"),
      },
    };
  }

  /** @param {Vectors} vectors @param {Style} style */
  showTitles({ scaling, dimensions }, { spans }) {
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
  }

  /**
   * Choose the query.
   * @param {number | null} token
   * @param {(selected: Selected) => Promise<Float32Array>} weightsOf exact weights of its row
   */
  async select(token, weightsOf) {
    if (!this.scene) return;
    const { vectors, style } = this.scene;
    if (token === null) {
      this.selected = null;
      this.draw();
      return;
    }
    const chosen = select(vectors, token);
    const selected = { ...chosen, picture: pictureOf(chosen.products, vectors.dimensions, style.dark) };
    this.selected = selected;
    this.draw();
    selected.weights = await weightsOf(selected);
    if (this.selected === selected) this.draw();
  }

  draw() {
    if (!this.scene) return;
    const { element, overlay } = this.columns;
    const target = sizeCanvas(overlay, this.columns.body.clientWidth, element.clientHeight);
    const { context, style } = this.scene;
    const { rowHeight, spans } = style;
    const first = Math.max(0, Math.floor((element.scrollTop - PAD) / rowHeight));
    const last = Math.ceil((element.scrollTop + element.clientHeight) / rowHeight);
    const y = (/** @type {number} */ at) => this.columns.centre(at) - element.scrollTop;
    const { rows, columns } = context;
    for (let at = first; at < Math.min(last, rows.length); at += 1) {
      target.globalAlpha = this.selected && this.selected.token !== rows[at] ? 0.45 : 1;
      drawCells(target, this.scene.query, rows[at], spans.query, y(at), rowHeight);
    }
    target.globalAlpha = 1;
    for (let at = first; at < Math.min(last, columns.length); at += 1) {
      drawCells(target, this.scene.key, columns[at], spans.key, y(at), rowHeight);
    }
    if (this.selected) this.drawSelected(target, this.scene, first, Math.min(last, columns.length), y);
    else this.drawHint(target, style);
    if (this.dimension !== null) this.drawGuide(target, this.scene, this.dimension);
  }

  /**
   * @param {CanvasRenderingContext2D} target
   * @param {Scene} scene
   * @param {number} first
   * @param {number} last
   * @param {(at: number) => number} y
   */
  drawSelected(target, { context: { columns, rows }, style }, first, last, y) {
    const { token, scores, weights, picture } = /** @type {NonNullable<typeof this.selected>} */ (this.selected);
    const { spans, rowHeight, inks } = style;
    const from = y(rows.indexOf(token));
    const most = columns.reduce((high, key) => Math.max(high, Math.abs(scores[key]) || 0), 1e-6);
    const strongest = weights ? columns.reduce((high, key) => Math.max(high, weights[key]), 0) : 1;
    const full = strongest > 0.25 ? 1 : Math.max(1e-6, strongest);
    this.sayScale(weights ? full : 1);
    frameCells(target, spans.query, from, rowHeight, inks.ink, 1.5);
    for (let at = first; at < last; at += 1) {
      const key = columns[at];
      if (Number.isNaN(scores[key])) {
        drawMasked(target, style, y(at));
        continue;
      }
      drawCells(target, picture, key, spans.product, y(at), rowHeight);
      drawScore(target, style, scores[key], most, y(at));
      if (weights) {
        drawWeight(target, style, weights[key], full, y(at));
        this.drawLink(target, style, from, y(at), weights[key]);
      }
    }
  }

  /** Tell what a full bar is, where it is not 1. @param {number} full */
  sayScale(full) {
    const title = this.heading.lastElementChild;
    if (title) title.textContent = full === 1 ? "softmax" : `softmax to ${formatWeight(full)}`;
  }

  /**
   * @param {CanvasRenderingContext2D} target
   * @param {Style} style
   * @param {number} from
   * @param {number} to
   * @param {number} weight
   */
  drawLink(target, { spans, inks, rowHeight }, from, to, weight) {
    const strength = Math.tanh(1.8 * weight);
    if (strength < 0.01) return;
    target.globalAlpha = strength;
    target.strokeStyle = inks.weight;
    target.lineWidth = 1.6;
    target.beginPath();
    target.moveTo(spans.query.x + spans.query.width + 2, from);
    target.lineTo(spans.key.x - 2, to);
    target.stroke();
    frameCells(target, spans.key, to, rowHeight, inks.weight, 1.2);
    frameCells(target, spans.product, to, rowHeight, inks.weight, 1.2);
    target.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} target @param {Style} style */
  drawHint(target, { spans, inks, family }) {
    const middle = (spans.product.x + spans.softmax.x + spans.softmax.width) / 2;
    target.fillStyle = inks.muted;
    target.font = `13px ${family}`;
    target.textAlign = "center";
    target.textBaseline = "middle";
    target.fillText("Point at a token on the left", middle, Math.min(90, this.columns.element.clientHeight / 3));
  }

  /** A frame around one dimension, in all three blocks. @param {CanvasRenderingContext2D} target @param {Scene} scene @param {number} dimension */
  drawGuide(target, { style: { spans, inks }, vectors }, dimension) {
    target.strokeStyle = inks.ink;
    target.lineWidth = 1;
    target.globalAlpha = 0.55;
    const { scrollTop, clientHeight } = this.columns.element;
    const bottom = Math.min(clientHeight + 2, this.columns.contentHeight - PAD - scrollTop);
    const top = Math.max(-2, PAD - scrollTop);
    for (const span of [spans.query, spans.key, spans.product]) {
      const wide = span.width / vectors.dimensions;
      target.strokeRect(span.x + dimension * wide, top, wide, bottom - top);
    }
    target.globalAlpha = 1;
  }

  /** @param {PointerEvent} event */
  pointed(event) {
    if (!this.scene) return;
    const { context, style, vectors } = this.scene;
    const { element } = this.columns;
    const box = element.getBoundingClientRect();
    const x = event.clientX - box.left;
    const at = Math.floor((event.clientY - box.top + element.scrollTop - PAD) / style.rowHeight);
    const { query, key, product } = style.spans;
    const block = Object.entries({ query, key, product })
      .find(([, span]) => x >= span.x && x < span.x + span.width);
    const token = block?.[0] === "query" ? context.rows[at] : context.columns[at];
    if (!block || token === undefined) {
      this.unpoint();
      return;
    }
    const [name, span] = block;
    this.dimension = Math.floor(((x - span.x) / span.width) * vectors.dimensions);
    this.tip.textContent = this.describe(this.scene, name, token, this.dimension);
    this.tip.hidden = false;
    const room = this.root.getBoundingClientRect();
    const left = Math.min(event.clientX - room.left + 14, room.width - this.tip.offsetWidth - 6);
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${Math.min(event.clientY - room.top + 18, room.height - 30)}px`;
    this.draw();
  }

  /** Numbers of one dimension. @param {Scene} scene @param {string} block @param {number} token @param {number} d */
  describe({ context: { labels }, vectors: { query, key, dimensions } }, block, token, d) {
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
    this.draw();
  }
}
