/** Cells as pixels: codes through a colour table, signed values through two hues. Pure. */

import { signedColour } from "./scale.js";

/**
 * √-codes (weight = (code / 255)²) of one map, cropped to some rows and columns.
 * @param {Uint8Array} codes (query, key), flat, from `offset`
 * @param {number} offset
 * @param {number} stride keys per row
 * @param {readonly number[]} rows
 * @param {readonly number[]} columns
 * @param {Uint32Array} table see `ramp` in scale.js
 * @returns {Uint8ClampedArray<ArrayBuffer>} RGBA, columns.length wide and rows.length high
 */
export function paintMatrix(codes, offset, stride, rows, columns, table) {
  const pixels = new Uint32Array(rows.length * columns.length);
  let out = 0;
  for (const row of rows) {
    const base = offset + row * stride;
    for (const column of columns) {
      pixels[out] = table[codes[base + column]];
      out += 1;
    }
  }
  return new Uint8ClampedArray(pixels.buffer);
}

/**
 * Bins of a pooled axis that hold at least one of the given tokens.
 * @param {readonly number[]} tokens ascending
 * @param {number} length tokens of the example
 * @param {number} side bins of the thumbnail; bin b begins at token ⌊b × length / side⌋
 * @returns {number[]} bins, ascending, each once
 */
export function binTokens(tokens, length, side) {
  if (side >= length) return [...tokens];
  const bins = new Set(tokens.map((token) => Math.ceil(((token + 1) * side) / length) - 1));
  return [...bins];
}

/**
 * Signed values, one pixel each: the hue is the sign; NaN is clear.
 * @param {Float32Array} values (row, entry), flat
 * @param {number} across entries of a row
 * @param {readonly number[]} order entries shown, left to right
 * @param {boolean} dark
 * @param {(value: number) => number} opacityOf 0 to 1
 * @returns {Uint8ClampedArray<ArrayBuffer>} RGBA, order.length wide
 */
export function paintSigned(values, across, order, dark, opacityOf) {
  const rows = Math.floor(values.length / across);
  const pixels = new Uint8ClampedArray(4 * rows * order.length);
  const [plus, minus] = [signedColour(1, 1, dark).rgb, signedColour(-1, 1, dark).rgb];
  let out = 0;
  for (let row = 0; row < rows * across; row += across) {
    for (const entry of order) {
      const value = values[row + entry];
      pixels.set(value < 0 ? minus : plus, out);
      pixels[out + 3] = Math.round(255 * opacityOf(value));
      out += 4;
    }
  }
  return pixels;
}
