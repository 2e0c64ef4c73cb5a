/**
 * The lines between two token columns: a density of all edges behind, and on top the exact lines of
 * the token in focus with a bar per head on each of its partners.
 */

import { BandPainter } from "./bandpainter.js";
import { isDark, sizeCanvas } from "./dom.js";
import { css } from "./scale.js";
import { WEIGHT_OF_CODE } from "./wire.js";
import { PAD } from "./columns.js";

/**
 * @typedef {import("./bands.js").HeadMap} HeadMap
 * @typedef {import("./bands.js").Drawing} Drawing
 */

const BAND = 640;
const GAIN = 2.6;
/** Of a longer text only so many tokens' lines meet in one band. */
const MOST_CROSSING = 160;

export class LineLayer {
  /** @param {import("./columns.js").TokenColumns} columns */
  constructor(columns) {
    this.columns = columns;
    /** @type {Drawing | null} */
    this.drawing = null;
    /** @type {Map<number, HTMLCanvasElement>} bands drawn, by number */
    this.fresh = new Map();
    this.running = 0;
    this.painter = new BandPainter();
    this.width = 0;
    this.round = 0;
    /** Round whose drawing the painter has. */
    this.taken = 0;
  }

  get tokenWidth() {
    return this.columns.tokens?.tokenWidth ?? 0;
  }

  get rowHeight() {
    return this.columns.tokens?.rowHeight ?? 20;
  }

  get thickness() {
    return Math.max(1, Math.min(2, this.rowHeight * 0.085));
  }

  /**
   * Draw all edges of these maps; what is in sight first, the rest on scrolling.
   * @param {Drawing} drawing
   */
  async show(drawing) {
    this.drawing = drawing;
    this.round += 1;
    this.width = Math.max(40, Math.floor(this.columns.body.clientWidth - 2 * this.tokenWidth));
    this.columns.back.style.insetInlineStart = `${this.tokenWidth}px`;
    this.fresh = new Map();
    const { round } = this;
    await this.painter.take(drawing, round);
    if (round !== this.round) return;
    this.taken = round;
    await this.drawInSight();
  }

  /** Draw the bands in sight that are not there yet; a later {@link show} overtakes it. */
  async drawInSight() {
    const { round, drawing } = this;
    if (!drawing || this.running === round || this.taken !== round) return;
    this.running = round;
    for (let band = this.nextBand(); band !== null; band = this.nextBand()) {
      const canvas = await this.drawBand(drawing, band, round);
      if (!canvas) return;
      this.fresh.set(band, canvas);
    }
    this.running = 0;
    this.place();
  }

  /** @returns {number | null} */
  nextBand() {
    const { scrollTop, clientHeight } = this.columns.element;
    const end = Math.min(this.columns.contentHeight - 1, scrollTop + clientHeight + 80);
    for (let band = Math.floor(Math.max(0, scrollTop - 80) / BAND); band <= end / BAND; band += 1) {
      if (!this.fresh.has(band)) return band;
    }
    return null;
  }

  /** Swap the new bands in, all at once, so that old and new lines are never seen together. */
  place() {
    this.columns.back.replaceChildren(...this.fresh.values());
  }

  /**
   * @param {Drawing} drawing
   * @param {number} band
   * @param {number} round
   * @returns {Promise<HTMLCanvasElement | null>} null: overtaken
   */
  async drawBand({ maps, rows, columns }, band, round) {
    const top = band * BAND;
    const tokens = Math.max(rows.length, columns.length);
    const fine = tokens <= 64 ? Math.min(2, devicePixelRatio || 1) : 1;
    const squeeze = tokens > 40 ? 0.5 : 1;
    const height = Math.min(BAND, Math.ceil(this.columns.contentHeight - top));
    const size = { width: Math.ceil(this.width * fine * squeeze), height: Math.ceil(height * fine) };
    // Many tokens cross in one fan: without less gain their sum would be a solid block.
    const crossing = Math.min(1, 32 / Math.min(tokens, MOST_CROSSING)) ** 0.35;
    const pixels = await this.painter.draw({
      ...size,
      start: (this.columns.centre(0) - top) * fine,
      rowHeight: this.rowHeight * fine,
      thickness: this.thickness * fine,
      gain: (GAIN / maps.length ** 0.6) * crossing,
    }, round);
    if (!pixels || round !== this.round) return null;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, size);
    canvas.style.top = `${top}px`;
    canvas.style.width = `${this.width}px`;
    canvas.style.height = `${height}px`;
    canvas.getContext("2d")?.putImageData(new ImageData(pixels, size.width, size.height), 0, 0);
    return canvas;
  }

  /**
   * Lines and bars of one token, or nothing.
   * @param {import("./state.js").Focus | null} focus
   */
  drawFocus(focus) {
    const { element, overlay, back } = this.columns;
    const context = sizeCanvas(overlay, this.columns.body.clientWidth, element.clientHeight);
    back.classList.toggle("is-behind", focus !== null);
    element.classList.toggle("has-focus", focus !== null);
    if (!focus || !this.drawing) return;
    const { rows, columns, maps } = this.drawing;
    const own = focus.side === "left" ? rows : columns;
    const others = focus.side === "left" ? columns : rows;
    const at = own.indexOf(focus.token);
    if (at < 0) return;
    const weights = maps.map((map) => others.map((other) => WEIGHT_OF_CODE[
      focus.side === "left"
        ? map.codes[map.offset + focus.token * map.stride + other]
        : map.codes[map.offset + other * map.stride + focus.token]]));
    const strongest = Math.max(1e-6, ...weights.map((list) => list.reduce((a, b) => Math.max(a, b), 0)));
    this.strokeFocus(context, focus, at, weights, strongest);
    this.drawBars(context, focus, weights, strongest);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {import("./state.js").Focus} focus
   * @param {number} at row of the focused token
   * @param {number[][]} weights (head, other token)
   * @param {number} strongest
   */
  strokeFocus(context, focus, at, weights, strongest) {
    const { maps } = /** @type {Drawing} */ (this.drawing);
    const shift = this.columns.element.scrollTop;
    const left = this.tokenWidth;
    const right = left + this.width;
    const [near, far] = focus.side === "left" ? [left, right] : [right, left];
    const from = this.columns.centre(at) - shift;
    const edges = weights.flatMap((list, head) => list.map((weight, other) => ({ weight, head, other })))
      .filter(({ weight }) => weight > strongest * 0.01)
      .sort((a, b) => a.weight - b.weight)
      .slice(-2000);
    for (const { weight, head, other } of edges) {
      const share = weight / strongest;
      context.strokeStyle = css(maps[head].colour, 0.08 + 0.87 * share ** 0.8);
      context.lineWidth = 1 + 1.4 * share;
      context.beginPath();
      context.moveTo(near, from);
      context.lineTo(far, this.columns.centre(other) - shift);
      context.stroke();
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {import("./state.js").Focus} focus
   * @param {number[][]} weights (head, other token)
   * @param {number} strongest
   */
  drawBars(context, focus, weights, strongest) {
    const { maps } = /** @type {Drawing} */ (this.drawing);
    const { scrollTop, clientHeight } = this.columns.element;
    const row = this.rowHeight;
    const from = focus.side === "left" ? this.tokenWidth + this.width : 0;
    const wide = this.tokenWidth / maps.length;
    const most = isDark() ? 0.62 : 0.55;
    const first = Math.max(0, Math.floor((scrollTop - PAD) / row));
    const last = Math.min(weights[0].length, Math.ceil((scrollTop + clientHeight) / row));
    maps.forEach((map, head) => {
      for (let other = first; other < last; other += 1) {
        const share = weights[head][other] / strongest;
        if (share < 0.012) continue;
        context.fillStyle = css(map.colour, most * share ** 0.7);
        const y = this.columns.centre(other) - row / 2 - scrollTop;
        context.fillRect(from + head * wide, y + 0.5, Math.max(0.5, wide - 0.5), row - 1);
      }
    });
  }
}
