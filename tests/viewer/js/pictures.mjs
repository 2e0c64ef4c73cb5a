/** Pictures of made maps by the page's drawing modules, to be the same in node and in a browser. */

import { drawBand } from "../../../viewer/qkvault_viewer/static/js/bands.js";
import { createField, settle, splatBand, splatMap, toneMap } from "../../../viewer/qkvault_viewer/static/js/lines.js";
import { binTokens, paintMatrix, paintSigned } from "../../../viewer/qkvault_viewer/static/js/matrix.js";
import { drawScore, drawWeight } from "../../../viewer/qkvault_viewer/static/js/neuroncells.js";
import { contrastFor, headColour, layerColour, ramp, signedColour } from "../../../viewer/qkvault_viewer/static/js/scale.js";
import { thumbnailLines } from "../../../viewer/qkvault_viewer/static/js/thumbnails.js";

/** @typedef {{width: number, pixels: Uint8ClampedArray}} Picture RGBA, row-major */

const count = (length) => Array.from({ length }, (_, at) => at);

/** √-codes of a map of so many tokens: a diagonal, a stripe and a faint rest. */
function makeCodes(tokens, seed) {
  const codes = new Uint8Array(tokens * tokens);
  let state = seed;
  for (let query = 0; query < tokens; query += 1) {
    for (let key = 0; key < tokens; key += 1) {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      const strong = key === (query + seed) % tokens ? 200 : key === 0 ? 90 : 0;
      codes[query * tokens + key] = Math.min(255, strong + ((state >> 16) % 24));
    }
  }
  return codes;
}

/** Signed values, one of them missing. */
function makeValues(length) {
  const values = Float32Array.from({ length }, (_, at) => ((at * 37) % 41 - 20) / 6);
  values[5] = NaN;
  return values;
}

/** Lines of a short text, two heads over one another. */
function lines() {
  const field = createField(96, 120);
  const y = (at) => 10 + at * 20;
  for (const head of [0, 1]) {
    splatMap(field, { codes: makeCodes(6, head + 1), offset: 0, stride: 6 }, count(6), count(6), { left: y, right: y, thickness: 1.7, least: 1 });
    settle(field, headColour(head, false));
  }
  return { width: 96, pixels: toneMap(field, 2) };
}

/** A band in the middle of a long text: the strongest edges, and the rest in blocks. */
async function band() {
  const tokens = count(96);
  const maps = [0, 1, 2].map((head) => ({ codes: makeCodes(96, head + 3), offset: 0, stride: 96, colour: headColour(head, true) }));
  const size = { width: 84, height: 60, start: -300, rowHeight: 7, thickness: 1, gain: 1.1 };
  const pixels = await drawBand({ maps, rows: tokens, columns: tokens }, size, { field: null }, () => false);
  return { width: 84, pixels };
}

/** Bundles, as on the minimap. */
function bundles() {
  const field = createField(60, 80);
  for (const [from, to, mass] of [[5, 70, 2], [40, 40, 1], [75, 10, 0.5]]) splatBand(field, from, to, 6, mass);
  settle(field, [90, 90, 100]);
  return { width: 60, pixels: toneMap(field, 1.1) };
}

/** Thumbnails of one sentence of two, pooled. */
function matrix() {
  const bins = binTokens(count(90).slice(30), 90, 64);
  const table = ramp([255, 255, 255], layerColour(2, 12, false), contrastFor(90));
  return { width: bins.length, pixels: paintMatrix(makeCodes(64, 5), 0, 64, bins, bins, table) };
}

/** A thumbnail of lines of a text that is pooled. */
function thumbnail() {
  const paint = thumbnailLines({ rows: count(64), columns: count(64) }, 48, 64, 1);
  return { width: 48, pixels: paint({ codes: makeCodes(64, 7), offset: 0, stride: 64 }, layerColour(4, 6, true)) };
}

/** Vectors of some tokens, their dimensions in another order. */
function stripes() {
  const order = count(16).reverse();
  return { width: 16, pixels: paintSigned(makeValues(16 * 12), 16, order, true, (value) => signedColour(value, 3, true).alpha) };
}

/** Bars of scores and weights, as rectangles without antialiasing: what is asked of the canvas. */
function bars() {
  const width = 100;
  const pixels = new Uint8ClampedArray(width * 80 * 4);
  const colours = { track: [225, 225, 230], weight: [20, 90, 180], line: [150, 150, 150], ink: [0, 0, 0] };
  const context = {
    fillStyle: "",
    fillText() {},
    fillRect(x, y, wide, high) {
      const said = this.fillStyle.match(/^rgb\((\d+) (\d+) (\d+)/)?.slice(1).map(Number) ?? colours[this.fillStyle];
      for (let row = Math.round(y); row < Math.round(y + high); row += 1) {
        for (let column = Math.round(x); column < Math.round(x + wide); column += 1) {
          pixels.set([...said, 255], 4 * (row * width + column));
        }
      }
    },
  };
  const inks = { ink: "ink", muted: "ink", line: "line", weight: "weight", track: "track" };
  const style = { spans: {}, rowHeight: 20, font: 8, dark: false, inks, family: "x" };
  [3.5, -1.25].forEach((score, at) => drawScore(context, style, { x: 4, width: 92 }, score, 4, 10 + 20 * at));
  [0.75, 0.02].forEach((weight, at) => drawWeight(context, style, { x: 4, width: 92 }, weight, 1, 50 + 20 * at));
  return { width, pixels };
}

/** @returns {Promise<Record<string, Picture>>} */
export async function makePictures() {
  return { lines: lines(), band: await band(), bundles: bundles(), matrix: matrix(), thumbnail: thumbnail(), stripes: stripes(), bars: bars() };
}
