/** What changed between the attention of two examples, cell by cell and head by head. Pure. */

import { WEIGHT_OF_CODE } from "./wire.js";

/**
 * @typedef {import("./align.js").Step} Step
 * @typedef {import("./api.js").Stack} Stack
 * @typedef {{values: Float32Array, keys: number}} Weights (query, key), flat, of so many keys
 * @typedef {readonly [number, number]} Shape query tokens, key tokens
 */

/**
 * Why cells of these stacks cannot be subtracted; null if they can.
 * @param {Stack} a @param {Stack} b
 */
export function whyNotComparable(a, b) {
  if (a.name !== b.name) return `A shows its ${a.name} and B its ${b.name} attention`;
  const shape = (/** @type {Stack} */ stack) => `${stack.layers.length} × ${stack.heads}`;
  if (a.heads !== b.heads || a.layers.length !== b.layers.length) {
    return `A has ${shape(a)} layers and heads, B has ${shape(b)}`;
  }
  return a.layers.join() === b.layers.join() ? null : "A and B keep different layers of their models";
}

/**
 * Mean over some maps.
 * @param {readonly {data: Float32Array, offset: number}[]} maps @param {Shape} shape of each
 * @returns {Weights}
 */
export function meanWeights(maps, [queries, keys]) {
  const values = new Float32Array(queries * keys);
  for (const { data, offset } of maps) {
    for (let cell = 0; cell < values.length; cell += 1) values[cell] += data[offset + cell];
  }
  for (let cell = 0; cell < values.length; cell += 1) values[cell] /= maps.length;
  return { values, keys };
}

/**
 * B − A of every cell whose query and key both have; NaN elsewhere.
 * @param {Weights} a @param {Weights} b @param {readonly Step[]} rows @param {readonly Step[]} columns
 * @returns {Float32Array} (row, column), flat
 */
export function subtract(a, b, rows, columns) {
  const out = new Float32Array(rows.length * columns.length).fill(NaN);
  rows.forEach((row, y) => {
    if (row.a === null || row.b === null) return;
    columns.forEach((column, x) => {
      if (column.a === null || column.b === null) return;
      const before = a.values[/** @type {number} */ (row.a) * a.keys + column.a];
      out[y * columns.length + x] = b.values[/** @type {number} */ (row.b) * b.keys + column.b] - before;
    });
  });
  return out;
}

/**
 * Mean |B − A| of each map over the cells whose query and key both have.
 * @param {Uint8Array} a √-codes (map, query, key) @param {Shape} shapeA
 * @param {Uint8Array} b @param {Shape} shapeB
 * @param {readonly Step[]} rows @param {readonly Step[]} columns
 * @returns {Float32Array} one per map; NaN where there is no such cell
 */
export function meanChanges(a, [queriesA, keysA], b, [queriesB, keysB], rows, columns) {
  const pairs = (/** @type {readonly Step[]} */ steps) => steps.filter((step) => step.a !== null && step.b !== null);
  const [queries, keys] = [pairs(rows), pairs(columns)];
  const count = Math.floor(a.length / (queriesA * keysA));
  return Float32Array.from({ length: count }, (_, map) => {
    let sum = 0;
    for (const query of queries) {
      const atA = (map * queriesA + /** @type {number} */ (query.a)) * keysA;
      const atB = (map * queriesB + /** @type {number} */ (query.b)) * keysB;
      for (const key of keys) {
        sum += Math.abs(WEIGHT_OF_CODE[b[atB + /** @type {number} */ (key.b)]] - WEIGHT_OF_CODE[a[atA + /** @type {number} */ (key.a)]]);
      }
    }
    return sum / (queries.length * keys.length);
  });
}

/**
 * Cells of the greatest rise and the greatest fall.
 * @param {Float32Array} values
 * @returns {{rise: number, fall: number, largest: number}} cells (-1 for none) and the greatest |value|
 */
export function findExtremes(values) {
  let rise = -1;
  let fall = -1;
  values.forEach((value, cell) => {
    if (value > 0 && (rise < 0 || value > values[rise])) rise = cell;
    if (value < 0 && (fall < 0 || value < values[fall])) fall = cell;
  });
  const largest = Math.max(rise < 0 ? 0 : values[rise], fall < 0 ? 0 : -values[fall]);
  return { rise, fall, largest };
}
