/** The attention-head view: heads of one layer as lines between the tokens, or as matrices. */

import { fitTokens, TokenColumns } from "../columns.js";
import { breathe, el } from "../dom.js";
import { LineLayer } from "../linelayer.js";
import { loadMaps } from "../maps.js";
import { MatrixPanels } from "../matrixpanels.js";
import { Minimap, MINIMAP_WIDTH } from "../minimap.js";
import { countCodes, isPlain, readMap, shareOf } from "../reading.js";
import { linesFigure, matrixFigure, weightNumbers } from "../taken.js";
import { formatCount, formatWeight } from "../scale.js";
import { WEIGHT_OF_CODE } from "../wire.js";

/**
 * @typedef {import("../context.js").Context} Context
 * @typedef {import("../state.js").Focus} Focus
 * @typedef {import("../lines.js").Grid} Grid
 * @typedef {import("../linelayer.js").HeadMap} HeadMap
 * @typedef {import("../linelayer.js").Drawing} Drawing
 * @typedef {import("../matrixpanels.js").Acts} Acts
 */

const SLICE_CELLS = 1 << 20;

export class HeadView {
  /** Arrays of the vault without which there is nothing to see. @type {readonly string[]} */
  static needs = ["attention"];

  /** @param {HTMLElement} root @param {import("../api.js").Api} api @param {Acts} acts */
  constructor(root, api, acts) {
    this.root = root;
    this.api = api;
    this.columns = new TokenColumns({
      onHover: acts.hover,
      onPick: acts.pick,
      onScroll: () => this.scrolled(),
    });
    this.layer = new LineLayer(this.columns);
    this.minimap = new Minimap(this.columns);
    this.panels = new MatrixPanels(api, acts);
    this.note = el("p", { class: "view-note", id: "drawn" });
    this.area = el("div", { class: "view-area" }, this.columns.element, this.minimap.element, this.panels.element);
    root.append(this.note, this.area);
    /** @type {Focus | null} */
    this.focused = null;
    /** @type {Drawing | null} */
    this.drawing = null;
  }

  /** @param {Context} context @param {AbortSignal} signal @returns {Promise<HeadMap[]>} maps as they are read */
  async readMaps(context, signal) {
    const maps = await loadMaps(this.api, context, signal);
    if (isPlain(context.reading)) return maps;
    const read = [];
    for (const map of maps) {
      read.push({ ...readMap(map, context.reading), colour: map.colour });
      if (context.queries.length * context.keys.length * maps.length > SLICE_CELLS) await breathe();
      signal.throwIfAborted();
    }
    return read;
  }

  /** @param {Context} context @param {AbortSignal} signal */
  async show(context, signal) {
    const { rows, columns, state } = context;
    const maps = await this.readMaps(context, signal);
    const counts = new Uint32Array(256);
    for (const map of maps) {
      countCodes(map, rows, columns, counts);
      if (rows.length * columns.length * maps.length > SLICE_CELLS) await breathe();
      signal.throwIfAborted();
    }
    const drawn = shareOf(counts, maps.length * rows.length, state.mass / 100);
    this.sayDrawn(context, drawn);
    this.drawing = { maps, rows, columns, least: drawn.least };
    const inMatrix = state.draw === "matrix";
    this.panels.element.hidden = !inMatrix;
    this.columns.element.hidden = inMatrix;
    if (inMatrix) {
      this.minimap.place(false);
      this.panels.show(context, this.drawing);
      return;
    }
    this.lay(context);
    const small = this.minimap.show(this.drawing);
    await this.layer.show(this.drawing);
    await small;
  }

  /** @param {Context} context */
  lay(context) {
    const { queries, keys, rows, columns } = context;
    const { element } = this.columns;
    const { clientWidth, clientHeight } = this.area;
    let fit = fitTokens(context, clientWidth, clientHeight);
    const long = Math.max(rows.length, columns.length) * fit.rowHeight > clientHeight;
    this.minimap.place(long);
    if (long) fit = fitTokens(context, clientWidth - MINIMAP_WIDTH, clientHeight);
    this.columns.lay({ queries, keys, rows, columns, ...fit });
    element.scrollTop = Math.min(element.scrollTop, this.columns.contentHeight);
  }

  /**
   * Say in words what of the attention is in the picture.
   * @param {Context} context
   * @param {import("../reading.js").Drawn} drawn
   */
  sayDrawn({ reading, rows, columns, state, keys }, { least, edges, all, mass, shown }) {
    const percent = (/** @type {number} */ share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;
    const parts = [];
    if (state.mass < 100) {
      parts.push(`Drawn: ${percent(mass)} of the mass in ${formatCount(edges)} of ${formatCount(all)} weights, those from about ${formatWeight(least < 256 ? WEIGHT_OF_CODE[least] : 1)} up.`);
    } else {
      parts.push(`Drawn: all of the mass, ${formatCount(all)} weights.`);
    }
    if (reading.renormalises) {
      parts.push("Special tokens are hidden, and every query's weights divided by their sum over the other tokens: not the model's own numbers.");
    } else if (reading.hides) {
      parts.push(`Special tokens are hidden; the others' weights are as the model gave them${columns.length && rows.length ? `, ${percent(shown)} of all` : ""}.`);
    } else if (columns.length < keys.length && !reading.words) {
      parts.push(`${percent(shown)} of these queries' attention goes to the tokens shown.`);
    }
    if (reading.words) parts.push("By words: weights onto a word's tokens are summed, those from its tokens averaged.");
    this.note.textContent = parts.join(" ");
    Object.assign(this.note.dataset, { mass: mass.toFixed(4), edges: String(edges), shown: shown.toFixed(4) });
  }

  /** @param {Focus | null} focus @param {Focus | null} locked */
  focus(focus, locked) {
    this.focused = locked ?? focus;
    if (!this.panels.element.hidden) {
      this.panels.focus(this.focused);
      return;
    }
    this.columns.setFocus(focus, locked);
    this.layer.drawFocus(this.focused);
    this.minimap.mark(this.focused);
  }

  scrolled() {
    this.layer.drawFocus(this.focused);
    this.minimap.mark(this.focused);
    void this.layer.drawInSight();
  }

  /** @param {Context} context @returns {import("../svgfigure.js").Figure} */
  figure(context) {
    const drawing = /** @type {Drawing} */ (this.drawing);
    return this.panels.element.hidden ? linesFigure(context, drawing, context.heads) : matrixFigure(context, drawing);
  }

  /** @param {Context} context */
  numbers(context) {
    return weightNumbers(this.api, context, context.heads);
  }
}
