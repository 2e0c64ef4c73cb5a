/** The whole of a long text beside the part in sight: all lines small, the window, the focus's partners. */

import { breathe, el, sizeCanvas, themeColour } from "./dom.js";
import { createField, settle, splatBand, toneMap } from "./lines.js";
import { css } from "./scale.js";
import { WEIGHT_OF_CODE } from "./wire.js";

/**
 * @typedef {import("./lines.js").Grid} Grid
 * @typedef {import("./linelayer.js").Drawing} Drawing
 * @typedef {import("./state.js").Focus} Focus
 */

export const MINIMAP_WIDTH = 66;
const MOST_BINS = 96;
const SLICE_MS = 12;
const EDGE = 5;

/**
 * Add one map's mass to bins of tokens.
 * @param {Grid} grid
 * @param {readonly number[]} rows
 * @param {readonly number[]} columns
 * @param {number} least faintest code counted
 * @param {number} bins along either side
 * @param {Float32Array} sums (row bin, column bin), flat; added to
 * @param {number} first only rows from the n-th
 * @param {number} last up to this one
 */
export function poolMass(grid, rows, columns, least, bins, sums, first = 0, last = rows.length) {
  const count = Math.max(rows.length, columns.length);
  for (let at = first; at < last; at += 1) {
    const base = grid.offset + rows[at] * grid.stride;
    const bin = Math.floor((at * bins) / count) * bins;
    for (let other = 0; other < columns.length; other += 1) {
      const code = grid.codes[base + columns[other]];
      if (code >= least) sums[bin + Math.floor((other * bins) / count)] += WEIGHT_OF_CODE[code];
    }
  }
}

export class Minimap {
  /** @param {import("./columns.js").TokenColumns} columns */
  constructor(columns) {
    this.columns = columns;
    this.picture = el("canvas", { "aria-hidden": "true" });
    this.marks = el("canvas", { class: "minimap-marks", "aria-hidden": "true" });
    this.element = el("div", { class: "minimap", hidden: true, title: "The whole text; click or drag to go there" },
      this.picture, this.marks);
    /** @param {PointerEvent} event */
    const go = (event) => {
      if (!(event.buttons & 1)) return;
      const { element } = this.columns;
      const share = (event.clientY - this.element.getBoundingClientRect().top) / this.element.clientHeight;
      element.scrollTop = share * this.columns.contentHeight - element.clientHeight / 2;
    };
    this.element.addEventListener("pointerdown", (event) => {
      this.element.setPointerCapture(event.pointerId);
      go(event);
    });
    this.element.addEventListener("pointermove", go);
    this.round = 0;
    /** @type {Focus | null} */
    this.focus = null;
    /** @type {Drawing | null} */
    this.drawing = null;
  }

  /** Make room for it where not all rows are in sight. @param {boolean} wanted */
  place(wanted) {
    this.element.hidden = !wanted;
    this.columns.element.style.right = wanted ? `${MINIMAP_WIDTH}px` : "";
  }

  /** @param {Drawing} drawing */
  async show(drawing) {
    const round = (this.round += 1);
    this.drawing = drawing;
    if (this.element.hidden) return;
    const { maps, rows, columns, least = 1 } = drawing;
    const count = Math.max(rows.length, columns.length);
    const bins = Math.min(MOST_BINS, count);
    const sums = new Float32Array(bins * bins);
    const chunk = Math.max(1, Math.floor(200000 / Math.max(1, columns.length)));
    let since = performance.now();
    for (const map of maps) {
      for (let at = 0; at < rows.length; at += chunk) {
        poolMass(map, rows, columns, least, bins, sums, at, Math.min(rows.length, at + chunk));
        if (performance.now() - since < SLICE_MS) continue;
        await breathe();
        if (round !== this.round) return;
        since = performance.now();
      }
    }
    this.paint(sums, bins, maps.length * (rows.length / bins));
    this.mark(this.focus);
  }

  /** @param {Float32Array} sums @param {number} bins @param {number} mass of a row of bins */
  paint(sums, bins, mass) {
    const [width, height] = [MINIMAP_WIDTH - 2 * EDGE - 12, this.element.clientHeight];
    const field = createField(width, height);
    const tall = height / bins;
    for (let cell = 0; cell < sums.length; cell += 1) {
      const share = sums[cell] / mass;
      if (share < 0.004) continue;
      const [from, to] = [Math.floor(cell / bins), cell % bins];
      splatBand(field, (from + 0.5) * tall, (to + 0.5) * tall, Math.max(1, tall * 0.5), share * tall * 0.5);
    }
    settle(field, themeColour("--soft"));
    const target = sizeCanvas(this.picture, MINIMAP_WIDTH, height, 1);
    target.putImageData(new ImageData(toneMap(field, 1.1), width, height), EDGE + 6, 0);
  }

  /** The window onto the text, and where the token in focus and its partners are. @param {Focus | null} focus */
  mark(focus) {
    this.focus = focus;
    if (this.element.hidden) return;
    const { element, contentHeight } = this.columns;
    const height = this.element.clientHeight;
    const target = sizeCanvas(this.marks, MINIMAP_WIDTH, height);
    const scale = height / contentHeight;
    const accent = themeColour("--accent");
    target.fillStyle = css(accent, 0.1);
    target.strokeStyle = css(accent, 0.75);
    const box = /** @type {const} */ ([1.5, element.scrollTop * scale + 0.5, MINIMAP_WIDTH - 3, Math.max(6, element.clientHeight * scale) - 1]);
    target.fillRect(...box);
    target.strokeRect(...box);
    if (focus && this.drawing) this.markPartners(target, focus, scale, this.drawing);
  }

  /** @param {CanvasRenderingContext2D} target @param {Focus} focus @param {number} scale @param {Drawing} drawing */
  markPartners(target, focus, scale, { maps, rows, columns }) {
    const isLeft = focus.side === "left";
    const [own, others] = isLeft ? [rows, columns] : [columns, rows];
    const at = own.indexOf(focus.token);
    if (at < 0) return;
    const weights = others.map((other) => maps.reduce((most, { codes, offset, stride }) =>
      Math.max(most, codes[offset + (isLeft ? focus.token * stride + other : other * stride + focus.token)]), 0));
    const strongest = weights.reduce((high, code) => Math.max(high, code), 1);
    const [near, far] = isLeft ? [0, MINIMAP_WIDTH - 9] : [MINIMAP_WIDTH - 9, 0];
    const accent = themeColour("--accent");
    weights.forEach((code, other) => {
      const share = (code / strongest) ** 2;
      if (share < 0.05) return;
      target.fillStyle = css(accent, 0.15 + 0.85 * share);
      target.fillRect(far, this.columns.centre(other) * scale - 1, 9, 2);
    });
    target.fillStyle = css(accent);
    target.fillRect(near, this.columns.centre(at) * scale - 1.5, 9, 3);
  }
}
