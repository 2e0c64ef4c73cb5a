/** Drawing of the neuron view's columns: query, key, their product, score, softmax. */

import { css, formatSigned, formatWeight, signedColour, signedUnit } from "./scale.js";

/**
 * @typedef {{x: number, width: number}} Span
 * @typedef {{query: Span, key: Span, product: Span, score: Span, softmax: Span}} Spans CSS pixels
 * @typedef {object} Vectors of one head; rows are tokens
 * @property {Float32Array} query (query_token, dimension), flat
 * @property {Float32Array} key (key_token, dimension), flat
 * @property {number} dimensions
 * @property {number} keyHead
 * @property {number} scaling factor of query·key before softmax
 * @property {boolean} causal
 * @typedef {object} Selected what follows from the query token in focus
 * @property {number} token
 * @property {Float32Array} products (key_token, dimension), flat
 * @property {Float32Array} scores scaling · query·key per key token; NaN where masked
 * @property {Float32Array | null} weights exact attention per key token, once it is known
 */

const GAP = 14;

/**
 * Divide the room between the token columns.
 * @param {number} left
 * @param {number} width
 * @returns {Spans}
 */
export function divide(left, width) {
  const link = Math.max(26, Math.min(70, width * 0.08));
  const score = Math.max(54, Math.min(92, width * 0.115));
  const softmax = Math.max(66, Math.min(130, width * 0.15));
  const vector = Math.max(24, (width - link - score - softmax - 5 * GAP) / 3);
  let x = left + GAP;
  const take = (/** @type {number} */ wide, /** @type {number} */ gap) => {
    const span = { x, width: wide };
    x += wide + gap;
    return span;
  };
  return {
    query: take(vector, link),
    key: take(vector, GAP),
    product: take(vector, GAP),
    score: take(score, GAP),
    softmax: take(softmax, 0),
  };
}

/**
 * Products and scores of one query with all keys.
 * @param {Vectors} vectors
 * @param {number} token
 * @returns {Selected}
 */
export function select({ query, key, dimensions, scaling, causal }, token) {
  const keys = key.length / dimensions;
  const products = new Float32Array(key.length);
  const scores = new Float32Array(keys);
  for (let other = 0; other < keys; other += 1) {
    let sum = 0;
    for (let d = 0; d < dimensions; d += 1) {
      const product = query[token * dimensions + d] * key[other * dimensions + d];
      products[other * dimensions + d] = product;
      sum += product;
    }
    scores[other] = causal && other > token ? NaN : sum * scaling;
  }
  return { token, products, scores, weights: null };
}

/**
 * Softmax over the scores that are not masked: what to show where the vault keeps no attention.
 * @param {Float32Array} scores
 * @returns {Float32Array}
 */
export function softmax(scores) {
  let highest = -Infinity;
  for (const score of scores) if (score > highest) highest = score;
  const powers = scores.map((score) => (Number.isNaN(score) ? 0 : Math.exp(score - highest)));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

/**
 * Rows of signed values as a picture, one pixel per value.
 * @param {Float32Array} values (token, dimension), flat
 * @param {number} dimensions
 * @param {boolean} dark
 */
export function pictureOf(values, dimensions, dark) {
  const canvas = document.createElement("canvas");
  canvas.width = dimensions;
  canvas.height = Math.max(1, values.length / dimensions);
  const image = new ImageData(canvas.width, canvas.height);
  const unit = signedUnit(values);
  for (let i = 0; i < values.length; i += 1) {
    const { rgb, alpha } = signedColour(values[i], unit, dark);
    image.data.set([...rgb, Math.round(255 * alpha)], 4 * i);
  }
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return canvas;
}

/**
 * @typedef {{ink: string, muted: string, line: string, weight: string, track: string}} Inks
 * @typedef {{spans: Spans, rowHeight: number, font: number, dark: boolean, inks: Inks,
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
 * @param {number} score
 * @param {number} most largest |score| of the column
 * @param {number} y
 */
export function drawScore(context, { spans, rowHeight, font, dark, inks, family }, score, most, y) {
  const { x, width } = spans.score;
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
 * @param {number} weight
 * @param {number} full weight of a full bar
 * @param {number} y
 */
export function drawWeight(context, { spans, rowHeight, font, inks, family }, weight, full, y) {
  const { x, width } = spans.softmax;
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
 * Show that a causal model's query does not see this key.
 * @param {CanvasRenderingContext2D} context
 * @param {Style} style
 * @param {number} y
 */
export function drawMasked(context, { spans, rowHeight, font, inks, family }, y) {
  const height = Math.max(2, rowHeight - 4);
  for (const span of [spans.product, spans.score, spans.softmax]) {
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
  context.fillText("masked", spans.softmax.x + spans.softmax.width, y + 0.5);
}
