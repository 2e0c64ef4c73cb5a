/** One band of a pane's lines as pixels; the same in the page and in its worker. */

import { breathe } from "./dom.js";
import { clearField, createField, faintestOf, settle, splatMap, splatRest, toneMap } from "./lines.js";

/**
 * @typedef {import("./lines.js").Grid & {colour: readonly [number, number, number]}} HeadMap
 * @typedef {{maps: HeadMap[], rows: number[], columns: number[], least?: number}} Drawing `least`:
 *   faintest code drawn
 * @typedef {object} Band
 * @property {number} width pixels
 * @property {number} height
 * @property {number} start y of the first row's middle, pixels; may lie above the band
 * @property {number} rowHeight pixels
 * @property {number} thickness pixels
 * @property {number} gain
 * @typedef {{field: import("./lines.js").Field | null}} Scratch kept between bands of one size
 */

const SLICE_MS = 12;
const SLICE_EDGES = 3000;
/** Edges drawn one by one, all heads together; the fainter rest is drawn in blocks. */
const EXACT_EDGES = 24000;
/** A head has at least so many of them: all of a text of 64 tokens. */
const LEAST_EXACT = 4096;

/** @param {Scratch} scratch @param {number} width @param {number} height */
function freshField(scratch, width, height) {
  const { field } = scratch;
  if (field?.width === width && field.height === height) {
    clearField(field);
    field.steps.fill(0);
    return field;
  }
  return (scratch.field = createField(width, height));
}

/**
 * Draw in slices, so that whoever waits for the thread gets it.
 * @param {Drawing} drawing
 * @param {Band} band
 * @param {Scratch} scratch of one caller that draws one band at a time
 * @param {() => boolean} isStale asked between slices
 * @returns {Promise<Uint8ClampedArray<ArrayBuffer> | null>} RGBA; null: overtaken
 */
export async function drawBand({ maps, rows, columns, least = 1 }, band, scratch, isStale) {
  const { start, rowHeight, thickness } = band;
  const field = freshField(scratch, band.width, band.height);
  const y = (/** @type {number} */ at) => start + at * rowHeight;
  const place = { left: y, right: y, thickness, least: 1, rowHeight };
  const chunk = Math.max(1, Math.floor(SLICE_EDGES / Math.max(1, columns.length)));
  const exact = Math.max(LEAST_EXACT, Math.floor(EXACT_EDGES / maps.length));
  const block = Math.ceil(Math.max(rows.length, columns.length) / 64);
  let since = performance.now();
  const pause = async () => {
    if (performance.now() - since <= SLICE_MS) return isStale();
    await breathe();
    since = performance.now();
    return isStale();
  };
  for (const map of maps) {
    place.least = Math.max(least, faintestOf(map, rows, columns, exact));
    for (let at = 0; at < rows.length; at += chunk) {
      splatMap(field, map, rows, columns, place, at, Math.min(rows.length, at + chunk));
      if (await pause()) return null;
    }
    if (place.least > least) splatRest(field, map, rows, columns, place, block, least);
    settle(field, map.colour);
    if (await pause()) return null;
  }
  return toneMap(field, band.gain);
}
