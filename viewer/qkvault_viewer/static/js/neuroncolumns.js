/** The opened neuron view: one query against every key, dimension by dimension. */

import { fontFor, PAD } from "./columns.js";
import { contribute, importance, orderDimensions } from "./dimensions.js";
import { el, isDark, scaleCanvas, sizeCanvas, themeColour } from "./dom.js";
import {
  columnsOf, divide, drawCells, drawMasked, drawScore, drawWeight, frameCells, largestOf, pictureOf, scalesOf, select,
} from "./neuroncells.js";
import { NeuronFoot } from "./neuronfoot.js";
import { describeCell, titlesOf } from "./neuronwords.js";
import { css, formatWeight } from "./scale.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./neuroncells.js").Vectors} Vectors
 * @typedef {import("./neuroncells.js").Selected} Selected
 * @typedef {import("./neuroncells.js").Style} Style
 * @typedef {import("./neuroncells.js").Span} Span
 * @typedef {import("./neuroncells.js").ColumnName} ColumnName
 * @typedef {Partial<Record<ColumnName, HTMLCanvasElement>>} Pictures
 * @typedef {ReturnType<typeof contribute>} Contribution
 * @typedef {{context: Context, vectors: Vectors, style: Style, names: ColumnName[]}} Scene
 */

export class NeuronColumns {
  /** @param {import("./columns.js").TokenColumns} columns @param {HTMLElement} root of the view */
  constructor(columns, root) {
    this.columns = columns;
    this.root = root;
    this.heading = el("div", { class: "neuron-heading", "aria-hidden": "true" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.foot = new NeuronFoot();
    columns.element.addEventListener("pointermove", (event) => this.pointed(event));
    columns.element.addEventListener("pointerleave", () => this.unpoint());
    /** @type {Scene | null} null while the view shows lines */
    this.scene = null;
    /** @type {Selected | null} */
    this.selected = null;
    /** @type {Contribution | null} */
    this.contribution = null;
    /** @type {number | null} key of the pair whose dimensions are ordered */
    this.partner = null;
    /** @type {number[]} dimensions shown, left to right */
    this.order = [];
    /** @type {Pictures} */
    this.pictures = {};
    /** @type {number | null} place of the dimension under the pointer */
    this.pointedAt = null;
  }

  /** Back to lines. */
  hide() {
    this.scene = null;
    this.selected = null;
    this.foot.element.hidden = true;
    this.unpoint();
    this.heading.replaceChildren();
  }

  /** @param {Context} context @param {Vectors} vectors */
  show(context, vectors) {
    this.selected = null;
    this.contribution = null;
    this.unpoint();
    const names = columnsOf(context.state.columns, vectors);
    const style = this.makeStyle(names);
    this.columns.back.replaceChildren();
    this.scene = { context, vectors, style, names };
    this.foot.show(this.scene);
    this.showTitles(this.scene);
    this.arrange();
    this.draw();
  }

  /** @param {ColumnName[]} names @returns {Style} */
  makeStyle(names) {
    const { tokenWidth = 0, rowHeight = 20 } = this.columns.tokens ?? {};
    const colour = (/** @type {string} */ name) => css(themeColour(name));
    return {
      tokenWidth,
      spans: divide(names, tokenWidth, this.columns.body.clientWidth - 2 * tokenWidth),
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

  /** @param {Scene} scene */
  showTitles({ vectors, style, names }) {
    const titles = titlesOf(vectors);
    this.heading.replaceChildren(...names.map((name) => {
      const { x, width } = /** @type {Span} */ (style.spans[name]);
      const title = el("span", { class: "neuron-title", text: titles[name], "data-column": name });
      title.style.left = `${x}px`;
      title.style.width = `${width}px`;
      return title;
    }));
  }

  /** Order the dimensions by the query in focus, and paint them so. */
  arrange() {
    if (!this.scene) return;
    const { context, vectors, style, names } = this.scene;
    const { selected, contribution } = this;
    const ofValue = names.includes("value");
    const dimensions = ofValue ? vectors.valueDimensions : vectors.dimensions;
    const products = ofValue ? contribution?.parts : selected?.products;
    const seen = context.columns.filter((key) => selected && !Number.isNaN(selected.scores[key]));
    const keys = this.partner !== null && seen.includes(this.partner) ? [this.partner] : seen;
    const sums = products ? importance(products, dimensions, keys) : null;
    this.order = orderDimensions(context.state.dims, dimensions, sums);
    /** @type {Partial<Record<ColumnName, Float32Array | null | undefined>>} */
    const sources = ofValue ? { value: vectors.value, part: contribution?.parts, output: contribution?.output }
      : { query: vectors.query, key: vectors.key, product: selected?.products };
    this.pictures = {};
    for (const [name, values] of Object.entries(sources)) {
      if (values) this.pictures[/** @type {ColumnName} */ (name)] = pictureOf(values, dimensions, this.order, style.dark);
    }
    this.root.dataset.dimensions = this.order.join(" ");
  }

  /**
   * Choose the query, and the key whose pair orders the dimensions.
   * @param {number | null} token
   * @param {number | null} partner
   * @param {(selected: Selected) => Promise<Float32Array>} weightsOf exact weights of its row
   */
  async select(token, partner, weightsOf) {
    if (!this.scene) return;
    this.partner = partner;
    this.contribution = null;
    this.selected = token === null ? null : select(this.scene.vectors, token);
    this.foot.clear();
    this.arrange();
    this.draw();
    const { selected, scene } = this;
    if (!selected) return;
    selected.weights = await weightsOf(selected);
    if (this.selected !== selected) return;
    const { value, valueDimensions } = scene.vectors;
    if (value && scene.names.includes("value")) {
      this.contribution = contribute(selected.weights, value, valueDimensions);
      this.arrange();
    }
    this.foot.say(scene, selected);
    this.draw();
  }

  /** Another key to order by. @param {number | null} partner */
  pair(partner) {
    if (partner !== this.partner) {
      this.partner = partner;
      if (this.scene?.context.state.dims !== "order") this.arrange();
    }
    this.draw();
  }

  draw() {
    if (!this.scene) return;
    const { element, overlay, body } = this.columns;
    this.drawOn(sizeCanvas(overlay, body.clientWidth, element.clientHeight), this.scene);
    if (this.selected?.weights) this.foot.drawSink(this.scene, this.selected);
  }

  /** What is in sight, and the sink's row under it. @param {number} density @returns {import("./taken.js").Picture[]} */
  take(density) {
    const { body, element } = this.columns;
    const { foot, scene, selected } = this;
    const height = Math.min(element.clientHeight, this.columns.contentHeight - element.scrollTop);
    const [canvas, width] = [el("canvas"), body.clientWidth];
    if (scene) this.drawOn(scaleCanvas(canvas, width, height, density), scene);
    return [{ canvas, width, height }, ...(scene && selected?.weights ? foot.take(scene, selected, density) : [])];
  }

  /** @param {CanvasRenderingContext2D} target @param {Scene} scene */
  drawOn(target, scene) {
    const { element } = this.columns;
    const { context, style, names } = scene;
    const { rowHeight, spans } = style;
    const first = Math.max(0, Math.floor((element.scrollTop - PAD) / rowHeight));
    const last = Math.ceil((element.scrollTop + element.clientHeight) / rowHeight);
    const y = (/** @type {number} */ at) => this.columns.centre(at) - element.scrollTop;
    const { rows, columns } = context;
    if (this.pictures.query && spans.query) {
      for (let at = first; at < Math.min(last, rows.length); at += 1) {
        target.globalAlpha = this.selected && this.selected.token !== rows[at] ? 0.45 : 1;
        drawCells(target, this.pictures.query, rows[at], spans.query, y(at), rowHeight);
      }
    }
    target.globalAlpha = 1;
    for (const name of /** @type {ColumnName[]} */ (["key", "value"])) {
      const [picture, span] = [this.pictures[name], spans[name]];
      if (!picture || !span) continue;
      for (let at = first; at < Math.min(last, columns.length); at += 1) {
        drawCells(target, picture, columns[at], span, y(at), rowHeight);
      }
    }
    if (this.selected) this.drawSelected(target, scene, first, Math.min(last, columns.length), y);
    else this.drawHint(target, style, names);
    if (this.pointedAt !== null) this.drawGuide(target, scene, this.pointedAt);
  }

  /**
   * @param {CanvasRenderingContext2D} target
   * @param {Scene} scene
   * @param {number} first
   * @param {number} last
   * @param {(at: number) => number} y
   */
  drawSelected(target, scene, first, last, y) {
    const { context: { columns, rows }, style, names } = scene;
    const { token, scaled, capped, added, scores, weights } = /** @type {Selected} */ (this.selected);
    const { spans, rowHeight, inks } = style;
    const from = y(rows.indexOf(token));
    /** @type {[ColumnName, Float32Array][]} */
    const bars = [["score", scaled], ["capped", capped], ["bias", added], ["total", scores]];
    const { score: mostScore, weight: full } = scalesOf(/** @type {Selected} */ (this.selected), scene.vectors.terms, columns);
    const norms = this.contribution?.norms;
    const mostNorm = norms ? largestOf(norms, columns) : 1;
    this.sayScale(weights ? full : 1);
    if (spans.output && this.pictures.output) drawCells(target, this.pictures.output, 0, spans.output, from, rowHeight);
    const own = spans.query ?? spans.output;
    if (own) frameCells(target, own, from, rowHeight, inks.ink, 1.5);
    const masked = names.filter((name) => !["query", "key", "output", "value"].includes(name))
      .map((name) => /** @type {Span} */ (spans[name]));
    for (let at = first; at < last; at += 1) {
      const key = columns[at];
      if (Number.isNaN(scores[key])) {
        drawMasked(target, style, masked, y(at));
        continue;
      }
      if (spans.product && this.pictures.product) drawCells(target, this.pictures.product, key, spans.product, y(at), rowHeight);
      for (const [name, values] of bars) {
        const span = spans[name];
        if (span) drawScore(target, style, span, values[key], mostScore, y(at));
      }
      if (!weights) continue;
      if (spans.softmax) drawWeight(target, style, spans.softmax, weights[key], full, y(at));
      if (spans.part && this.pictures.part) drawCells(target, this.pictures.part, key, spans.part, y(at), rowHeight);
      if (spans.norm && norms) drawWeight(target, style, spans.norm, norms[key], mostNorm, y(at));
      this.drawLink(target, style, from, y(at), weights[key]);
    }
  }

  /** Tell what a full bar is, where it is not 1. @param {number} full */
  sayScale(full) {
    const title = this.heading.querySelector('[data-column="softmax"]');
    if (title) title.textContent = full === 1 ? "softmax" : `softmax ≤${formatWeight(full)}`;
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
    const [own, other] = spans.query ? [spans.query, spans.key] : [spans.output, spans.softmax];
    if (strength < 0.01 || !own || !other) return;
    target.globalAlpha = strength;
    target.strokeStyle = inks.weight;
    target.lineWidth = 1.6;
    target.beginPath();
    target.moveTo(own.x + own.width + 2, from);
    target.lineTo(other.x - 2, to);
    target.stroke();
    for (const span of [spans.key, spans.product, spans.value, spans.part]) {
      if (span) frameCells(target, span, to, rowHeight, inks.weight, 1.2);
    }
    target.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} target @param {Style} style @param {ColumnName[]} names */
  drawHint(target, { spans, inks, family }, names) {
    const [from, to] = [spans[names.includes("value") ? "output" : "product"], spans[names.includes("value") ? "softmax" : "softmax"]];
    if (!from || !to) return;
    target.fillStyle = inks.muted;
    target.font = `13px ${family}`;
    target.textAlign = "center";
    target.textBaseline = "middle";
    target.fillText("Point at a token on the left", (from.x + to.x + to.width) / 2, Math.min(90, this.columns.element.clientHeight / 3));
  }

  /** A frame around one dimension, in all blocks. @param {CanvasRenderingContext2D} target @param {Scene} scene @param {number} place */
  drawGuide(target, { style: { spans, inks } }, place) {
    target.strokeStyle = inks.ink;
    target.lineWidth = 1;
    target.globalAlpha = 0.55;
    const { scrollTop, clientHeight } = this.columns.element;
    const bottom = Math.min(clientHeight + 2, this.columns.contentHeight - PAD - scrollTop);
    const top = Math.max(-2, PAD - scrollTop);
    for (const span of [spans.query, spans.key, spans.product, spans.output, spans.value, spans.part]) {
      if (!span) continue;
      const wide = span.width / this.order.length;
      target.strokeRect(span.x + place * wide, top, wide, bottom - top);
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
    const block = Object.entries(style.spans).find(([, span]) => x >= span.x && x < span.x + span.width);
    const name = /** @type {ColumnName | undefined} */ (block?.[0]);
    const token = name === "query" || name === "output" ? context.rows[at] : context.columns[at];
    const inVector = name !== undefined && ["query", "key", "product", "output", "value", "part"].includes(name);
    const place = block && inVector ? Math.floor(((x - block[1].x) / block[1].width) * this.order.length) : null;
    const text = name && token !== undefined
      ? describeCell({ context, vectors, selected: this.selected, contribution: this.contribution }, name, token, place === null ? null : this.order[place])
      : "";
    if (!text) {
      this.unpoint();
      return;
    }
    this.pointedAt = place;
    this.tip.textContent = text;
    this.tip.hidden = false;
    const room = this.root.getBoundingClientRect();
    const left = Math.min(event.clientX - room.left + 14, room.width - this.tip.offsetWidth - 6);
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${Math.min(event.clientY - room.top + 18, room.height - 30)}px`;
    this.draw();
  }

  unpoint() {
    this.tip.hidden = true;
    if (this.pointedAt === null) return;
    this.pointedAt = null;
    this.draw();
  }
}
