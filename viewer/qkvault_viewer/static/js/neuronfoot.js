/** Under the columns of the neuron view: the sink's own row, and whether all adds up. */

import { el, scaleCanvas, sizeCanvas } from "./dom.js";
import { drawScore, drawWeight, scalesOf } from "./neuroncells.js";
import { describeSum } from "./neuronwords.js";

/**
 * @typedef {import("./neuroncells.js").Selected} Selected
 * @typedef {import("./neuroncolumns.js").Scene} Scene
 */

const HEIGHT = 26;

export class NeuronFoot {
  constructor() {
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.sink = el("div", { class: "neuron-sink", hidden: true, title: "A learnt score beside the keys' in the softmax: its share of the attention goes to no token" }, this.canvas);
    this.sum = el("p", { class: "neuron-sum" });
    this.element = el("div", { class: "neuron-foot", hidden: true }, this.sink, this.sum);
  }

  /** @param {Scene} scene */
  show({ vectors, names }) {
    this.sink.hidden = vectors.terms.sink?.mode !== "softmax" || !names.includes("softmax");
    this.clear();
  }

  /** Keep its place, so that rows do not move when it is filled. */
  clear() {
    this.sum.textContent = "\u00a0";
    delete this.sum.dataset.difference;
    sizeCanvas(this.canvas, this.sink.clientWidth, HEIGHT);
  }

  /** @param {Scene} scene @param {Selected} selected */
  say({ context, vectors }, selected) {
    const { text, difference } = describeSum(context, vectors, selected);
    this.sum.textContent = text;
    this.sum.dataset.difference = String(difference);
    this.sum.dataset.sink = String(selected.sink);
  }

  /** The sink as one more key, on the scales of the keys. @param {Scene} scene @param {Selected} selected */
  drawSink(scene, selected) {
    if (!this.sink.hidden) this.drawOn(sizeCanvas(this.canvas, this.sink.clientWidth, HEIGHT), scene, selected);
  }

  /** @param {Scene} scene @param {Selected} selected @param {number} density @returns {import("./taken.js").Picture[]} */
  take(scene, selected, density) {
    if (this.sink.hidden) return [];
    const [canvas, width] = [el("canvas"), this.sink.clientWidth];
    this.drawOn(scaleCanvas(canvas, width, HEIGHT, density), scene, selected);
    return [{ canvas, width, height: HEIGHT }];
  }

  /** @param {CanvasRenderingContext2D} target @param {Scene} scene @param {Selected} selected */
  drawOn(target, { context, vectors: { terms }, style }, selected) {
    if (!terms.sink) return;
    const { spans, inks, family, font, tokenWidth } = style;
    const { score: most, weight: full } = scalesOf(selected, terms, context.columns);
    const row = { ...style, rowHeight: Math.min(style.rowHeight, HEIGHT) };
    const score = spans.total ?? spans.capped ?? spans.score;
    if (score) drawScore(target, row, score, terms.sink.value, most, HEIGHT / 2);
    if (!spans.softmax) return;
    drawWeight(target, row, spans.softmax, selected.sink, full, HEIGHT / 2);
    target.fillStyle = inks.ink;
    target.font = `italic ${font}px ${family}`;
    target.textAlign = "left";
    target.textBaseline = "middle";
    target.fillText("sink", this.sink.clientWidth - tokenWidth + 9, HEIGHT / 2 + 0.5);
  }
}
