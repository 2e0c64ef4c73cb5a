/** Draws bands here where that is quick, in a worker where it would hold the page up. */

import { drawBand } from "./bands.js";
import { breathe } from "./dom.js";

/**
 * @typedef {import("./bands.js").Drawing} Drawing
 * @typedef {import("./bands.js").Band} Band
 */

/** Edges, all heads together, from which a worker draws. */
const MANY_EDGES = 300000;

/** @type {any} */
let policy = null;

/** A worker's address needs a policy where the page demands Trusted Types. @returns {Worker} */
function startWorker() {
  const address = new URL("./lineworker.js", import.meta.url).href;
  const types = /** @type {any} */ (globalThis).trustedTypes;
  policy ??= types?.createPolicy("qkvault-worker", {
    createScriptURL: (/** @type {string} */ url) => {
      if (url !== address) throw new TypeError("no other script is run in a worker");
      return url;
    },
  });
  return new Worker(policy ? policy.createScriptURL(address) : address, { type: "module" });
}

export class BandPainter {
  constructor() {
    /** @type {Worker | null} */
    this.worker = null;
    this.broken = false;
    /** @type {import("./bands.js").Scratch} */
    this.scratch = { field: null };
    this.round = 0;
    this.away = false;
    /** @type {Drawing | null} */
    this.drawing = null;
    /** @type {((pixels: Uint8ClampedArray<ArrayBuffer> | null) => void) | null} */
    this.resolve = null;
  }

  /**
   * What is to be drawn from now on; bands of earlier rounds come to nothing.
   * @param {Drawing} drawing
   * @param {number} round
   * @returns {Promise<void>} once a worker has it
   */
  async take(drawing, round) {
    this.round = round;
    this.drawing = drawing;
    this.answer(null);
    const { maps, rows, columns, least } = drawing;
    this.away = maps.length * rows.length * columns.length > MANY_EDGES && this.hasWorker();
    if (!this.away) return;
    const copies = [];
    for (const { codes, offset, stride, colour } of maps) {
      copies.push({ codes: codes.slice(offset, offset + stride * stride), offset: 0, stride, colour });
      if (stride > 1000) await breathe();
      if (round !== this.round) return;
    }
    this.worker?.postMessage({ round, drawing: { maps: copies, rows, columns, least } }, copies.map(({ codes }) => codes.buffer));
  }

  hasWorker() {
    if (this.worker || this.broken) return !this.broken;
    try {
      this.worker = startWorker();
    } catch {
      this.broken = true;
      return false;
    }
    this.worker.addEventListener("message", ({ data }) => {
      if (data.round === this.round) this.answer(data.pixels);
    });
    this.worker.addEventListener("error", () => {
      this.broken = true;
      this.away = false;
      this.answer(null);
    });
    return true;
  }

  /** @param {Uint8ClampedArray<ArrayBuffer> | null} pixels */
  answer(pixels) {
    this.resolve?.(pixels);
    this.resolve = null;
  }

  /**
   * One band at a time.
   * @param {Band} band
   * @param {number} round
   * @returns {Promise<Uint8ClampedArray<ArrayBuffer> | null>} null: overtaken
   */
  async draw(band, round) {
    if (round !== this.round || !this.drawing) return null;
    if (this.away) {
      const pixels = await new Promise((/** @type {(pixels: Uint8ClampedArray<ArrayBuffer> | null) => void} */ resolve) => {
        this.resolve = resolve;
        this.worker?.postMessage({ round, band });
      });
      if (pixels || round !== this.round || !this.broken) return pixels;
    }
    return drawBand(this.drawing, band, this.scratch, () => round !== this.round);
  }
}
