/** Exact weights of one token with its partners, read as the view reads its maps. */

import { axisOf } from "./context.js";
import { addRow, isPlain } from "./reading.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {import("./reading.js").Reading} Reading
 * @typedef {import("./api.js").Api} Api
 */

/** Whole exact maps are asked for only up to this size, all heads shown together. */
const MOST_BYTES = 24 << 20;

/**
 * Weights of a query, or onto a key, in every head; a word's at its first token.
 * @param {Api} api
 * @param {Context} context
 * @param {Focus} focus
 * @param {number[]} heads heads whose numbers are needed; the others may be left at zero
 * @returns {Promise<Float32Array>} (head, token of the other side), flat
 * @throws {Error} where the numbers would take too much to read
 */
export async function loadNumbers(api, context, focus, heads) {
  const { vault, example, stack, layer, reading } = context;
  const place = `${stack.name}/${layer}`;
  const ask = (/** @type {string} */ path) => api.frames(vault, example.index, path)
    .then(([frame]) => /** @type {Float32Array} */ (frame.data));
  if (isPlain(reading)) return ask(`${focus.side === "left" ? "row" : "column"}/${place}/${focus.token}`);
  const own = axisOf(context, focus.side).members[focus.token];
  if (focus.side === "left") {
    return readRows(await Promise.all(own.map((query) => ask(`row/${place}/${query}`))), reading, stack.heads);
  }
  if (!reading.renormalises) {
    return readColumns(await Promise.all(own.map((key) => ask(`column/${place}/${key}`))), reading, stack.heads);
  }
  const { length } = context.queries;
  if (heads.length * length * context.keys.length * 4 > MOST_BYTES) {
    throw new Error("Renormalised weights onto a token are not listed for a text this long; choose fewer heads.");
  }
  const maps = await Promise.all(heads.map((head) => ask(`attention/${place}/${head}?as=f32`)));
  const weights = new Float32Array(stack.heads * length);
  heads.forEach((head, n) => weights.set(readOnto(maps[n], focus.token, reading), head * length));
  return weights;
}

/**
 * The mean over the queries of a word, its keys summed by word.
 * @param {Float32Array[]} rows of each query, (head, key_token)
 * @param {Reading} reading
 * @param {number} heads
 */
export function readRows(rows, reading, heads) {
  const { length } = reading.keys.members;
  const weights = new Float32Array(heads * length);
  const sums = new Float64Array(length);
  for (let head = 0; head < heads; head += 1) {
    sums.fill(0);
    for (const row of rows) addRow(row, head * length, reading, sums, 1 / rows.length);
    weights.set(sums, head * length);
  }
  return weights;
}

/**
 * The sum over the keys of a word, its queries averaged by word.
 * @param {Float32Array[]} columns of each key, (head, query_token)
 * @param {Reading} reading
 * @param {number} heads
 */
export function readColumns(columns, { queries: { members } }, heads) {
  const { length } = members;
  const weights = new Float32Array(heads * length);
  for (let head = 0; head < heads; head += 1) {
    members.forEach((queries, first) => {
      let sum = 0;
      for (const column of columns) for (const query of queries) sum += column[head * length + query];
      if (queries.length) weights[head * length + first] = sum / queries.length;
    });
  }
  return weights;
}

/** Weights onto one key of a whole map. @param {Float32Array} map @param {number} key @param {Reading} reading */
function readOnto(map, key, reading) {
  const { length } = reading.keys.members;
  const onto = new Float32Array(reading.queries.members.length);
  const sums = new Float64Array(length);
  reading.queries.members.forEach((queries, first) => {
    sums.fill(0);
    for (const query of queries) addRow(map, query * length, reading, sums, 1 / queries.length);
    onto[first] = sums[key];
  });
  return onto;
}
