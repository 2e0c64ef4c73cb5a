/** Attention as a matrix: codes through a colour table into pixels. Pure. */

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
