/** Drawing of the neuron view's columns: stripes of vectors, bars of scores, weights and lengths. */

import { paintSigned } from "./matrix.js";
import { scoreOf, sees, softmaxOf } from "./scoreterms.js";
import { css, formatSigned, formatWeight, signedColour, signedUnit } from "./scale.js";

/**
 * @typedef {{x: number, width: number}} Span CSS pixels
 * @typedef {"query" | "key" | "product" | "score" | "capped" | "bias" | "total" | "softmax" | "value" | "part"
 *   | "norm" | "output"} ColumnName
 * @typedef {Partial<Record<ColumnName, Span>>} Spans
 * @typedef {object} Vectors of one head; rows are tokens
 * @property {Float32Array} query (query_token, dimension), flat
 * @property {Float32Array} key (key_token, dimension), flat
 * @property {Float32Array | null} value (key_token, dimension), flat; null where not kept
 * @property {number} dimensions of query and key
 * @property {number} valueDimensions
 * @property {number} keyHead
 * @property {number} scaling factor of query·key before softmax
 * @property {import("./scoreterms.js").Terms} terms
 * @typedef {object} Selected what follows from the query token in focus
 * @property {number} token
 * @property {Float32Array} products (key_token, dimension), flat
 * @property {Float32Array} scaled scaling · query·key per key token; NaN where masked
 * @property {Float32Array} capped the same after the softcap, if there is one
 * @property {Float32Array} added by the biases
 * @property {Float32Array} scores their sum: what softmax is taken of
 * @property {Float32Array} computed softmax of the scores
 * @property {number} sink share of the softmax that goes to the sink
 * @property {Float32Array | null} weights exact attention per key token, once it is known
 */

const GAP = 14;
const SHARES = { query: 1, key: 1, product: 1, output: 1, value: 1, part: 1 };

/**
 * Divide the room between the token columns: bars have the width they need, vectors share the rest.
 * @param {readonly ColumnName[]} names left to right
 * @param {number} left
 * @param {number} width
 * @returns {Spans}
 */
export function divide(names, left, width) {
  const link = Math.max(26, Math.min(70, width * 0.08));
  const bar = Math.max(54, Math.min(92, width * 0.115));
  const wide = Math.max(66, Math.min(130, width * 0.15));
  const fixed = (/** @type {ColumnName} */ name) => (name === "softmax" || name === "norm" ? wide : bar);
  const vectors = names.filter((name) => name in SHARES).length;
  const bars = names.filter((name) => !(name in SHARES)).reduce((sum, name) => sum + fixed(name), 0);
  const vector = Math.max(24, (width - link - bars - names.length * GAP) / vectors);
  let x = left + GAP;
  /** @type {Spans} */
  const spans = {};
  names.forEach((name, at) => {
    spans[name] = { x, width: name in SHARES ? vector : fixed(name) };
    x += (name in SHARES ? vector : fixed(name)) + (at === 0 ? link : GAP);
  });
  return spans;
}

/** Columns of either page of the neuron view. @param {"score" | "value"} page @param {Vectors} vectors @returns {ColumnName[]} */
export function columnsOf(page, { value, terms }) {
  if (page === "value" && value) return ["output", "softmax", "value", "part", "norm"];
  const biased = terms.slope !== null || terms.bias !== null;
  return ["query", "key", "product", "score", ...(terms.softcap === null ? [] : /** @type {const} */ (["capped"])),
    ...(biased ? /** @type {const} */ (["bias", "total"]) : []), "softmax"];
}

/**
 * Products and scores of one query with all keys.
 * @param {Vectors} vectors
 * @param {number} token
 * @returns {Selected}
 */
export function select({ query, key, dimensions, scaling, terms }, token) {
  const keys = key.length / dimensions;
  const products = new Float32Array(key.length);
  const scaled = new Float32Array(keys);
  const [capped, added, scores] = [new Float32Array(keys), new Float32Array(keys), new Float32Array(keys)];
  for (let other = 0; other < keys; other += 1) {
    let sum = 0;
    for (let d = 0; d < dimensions; d += 1) {
      const product = query[token * dimensions + d] * key[other * dimensions + d];
      products[other * dimensions + d] = product;
      sum += product;
    }
    const seen = sees(terms.mask, token, other);
    scaled[other] = seen ? sum * scaling : NaN;
    const parts = scoreOf(terms, sum * scaling, token, other);
    [capped[other], added[other], scores[other]] = seen ? [parts.capped, parts.added, parts.score] : [NaN, NaN, NaN];
  }
  const { weights: computed, sink } = softmaxOf(scores, terms.sink);
  return { token, products, scaled, capped, added, scores, computed, sink, weights: null };
}

/** @param {ArrayLike<number>} values per key; NaN where masked @param {readonly number[]} keys @returns {number} largest |value| */
export function largestOf(values, keys) {
  return keys.reduce((high, key) => Math.max(high, Math.abs(values[key]) || 0), 1e-6);
}

/**
 * What full bars stand for: one scale for all parts of a score, so that they can be seen to add up; 1 for
 * weights, or the strongest where all are small.
 * @param {Selected} selected
 * @param {Vectors["terms"]} terms
 * @param {readonly number[]} keys shown
 * @returns {{score: number, weight: number}}
 */
export function scalesOf({ scaled, capped, added, scores, weights }, terms, keys) {
  const parts = [scaled, capped, added, scores].map((values) => largestOf(values, keys));
  const strongest = weights ? largestOf(weights, keys) : 1;
  return { score: Math.max(...parts, Math.abs(terms.sink?.value ?? 0)), weight: strongest > 0.25 ? 1 : strongest };
}

/**
 * Rows of signed values as a picture, one pixel per value.
 * @param {Float32Array} values (token, dimension), flat
 * @param {number} dimensions
 * @param {readonly number[]} order dimensions shown, left to right
 * @param {boolean} dark
 */
export function pictureOf(values, dimensions, order, dark) {
  const canvas = document.createElement("canvas");
  canvas.width = order.length;
  canvas.height = Math.max(1, values.length / dimensions);
  const unit = signedUnit(values);
  const pixels = paintSigned(values, dimensions, order, dark, (value) => signedColour(value, unit, dark).alpha);
  if (pixels.length) canvas.getContext("2d")?.putImageData(new ImageData(pixels, canvas.width), 0, 0);
  return canvas;
}

/**
 * @typedef {{ink: string, muted: string, line: string, weight: string, track: string}} Inks
 * @typedef {{spans: Spans, tokenWidth: number, rowHeight: number, font: number, dark: boolean, inks: Inks,
 *   family: string}} Style
 */

/**
 * One row of a picture as cells.
 * @param {CanvasRenderingContext2D} context
 * @param {HTMLCanvasElement} picture
 * @param {number} token
 * @param {Span} span
 * @param {number} y middle of the row
 * @param {number} rowHeight
 */
export function drawCells(context, picture, token, span, y, rowHeight) {
  const height = Math.max(2, rowHeight - 4);
  context.imageSmoothingEnabled = picture.width > span.width;
  context.drawImage(picture, 0, token, picture.width, 1, span.x, y - height / 2, span.width, height);
}

/**
 * Frame a run of cells.
 * @param {CanvasRenderingContext2D} context
 * @param {Span} span
 * @param {number} y
 * @param {number} rowHeight
 * @param {string} colour
 * @param {number} width
 */
export function frameCells(context, span, y, rowHeight, colour, width) {
  const height = Math.max(2, rowHeight - 4);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.strokeRect(span.x - 0.5, y - height / 2 - 0.5, span.width + 1, height + 1);
}

/**
 * A score as a bar from the middle of its column, and its number.
 * @param {CanvasRenderingContext2D} context
 * @param {Style} style
 * @param {Span} span
 * @param {number} score
 * @param {number} most largest |score| of the column
 * @param {number} y
 */
export function drawScore(context, { rowHeight, font, dark, inks, family }, { x, width }, score, most, y) {
  const number = font * 2.9;
  const room = Math.max(8, width - number);
  const height = Math.max(2, Math.min(12, rowHeight - 6));
  const middle = x + room / 2;
  const length = (Math.abs(score) / most) * (room / 2);
  context.fillStyle = css(signedColour(score, most, dark).rgb, 0.85);
  context.fillRect(score < 0 ? middle - length : middle, y - height / 2, Math.max(0.5, length), height);
  context.fillStyle = inks.line;
  context.fillRect(middle - 0.5, y - rowHeight / 2, 1, rowHeight);
  context.fillStyle = inks.ink;
  context.font = `${font}px ${family}`;
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillText(formatSigned(score), x + width, y + 0.5);
}

/**
 * A weight as a bar on a scale from 0 to 1 (or to the strongest, where all are small), and its number.
 * @param {CanvasRenderingContext2D} context
 * @param {Style} style
 * @param {Span} span
 * @param {number} weight
 * @param {number} full weight of a full bar
 * @param {number} y
 */
export function drawWeight(context, { rowHeight, font, inks, family }, { x, width }, weight, full, y) {
  const number = font * 2.9;
  const room = Math.max(10, width - number);
  const height = Math.max(2, Math.min(12, rowHeight - 6));
  context.fillStyle = inks.track;
  context.fillRect(x, y - height / 2, room, height);
  context.fillStyle = inks.weight;
  context.fillRect(x, y - height / 2, room * Math.min(1, weight / full), height);
  context.fillStyle = inks.ink;
  context.font = `${font}px ${family}`;
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillText(formatWeight(weight), x + width, y + 0.5);
}

/**
 * Show that the query does not see this key.
 * @param {CanvasRenderingContext2D} context
 * @param {Style} style
 * @param {readonly Span[]} columns that stay empty; the last one says so
 * @param {number} y
 */
export function drawMasked(context, { rowHeight, font, inks, family }, columns, y) {
  const height = Math.max(2, rowHeight - 4);
  for (const span of columns) {
    context.save();
    context.beginPath();
    context.rect(span.x, y - height / 2, span.width, height);
    context.clip();
    context.strokeStyle = inks.line;
    context.lineWidth = 1;
    context.beginPath();
    for (let x = span.x - height; x < span.x + span.width; x += 6) {
      context.moveTo(x, y + height / 2);
      context.lineTo(x + height, y - height / 2);
    }
    context.stroke();
    context.restore();
  }
  context.fillStyle = inks.muted;
  context.font = `${font}px ${family}`;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const last = columns[columns.length - 1];
  context.fillText("masked", last.x + last.width, y + 0.5);
}
