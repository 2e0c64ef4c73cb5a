/**
 * How a map is read: token by token or word by word, with its special tokens or without them, all of
 * its mass or the strongest part. Pure: codes and numbers in, codes and numbers out.
 *
 * A word stands at its first token: rows, columns and the entries of a map that was read by words are
 * still counted in tokens, so all that draws and picks tokens draws and picks words alike.
 */

import { WEIGHT_OF_CODE } from "./wire.js";

/**
 * @typedef {import("./lines.js").Grid} Grid
 * @typedef {object} Reading
 * @property {boolean} words whether sub-tokens are taken together
 * @property {boolean} hides whether special tokens are left out
 * @property {boolean} renormalises whether the weights of a query are divided by their sum over the
 *   keys that are not special
 * @property {Side} queries
 * @property {Side} keys
 * @typedef {{members: number[][], special: readonly number[]}} Side `members`: tokens of the word that
 *   begins at a token; empty elsewhere
 */

/**
 * Tokens of each word: neighbours with one word number in one text. Special tokens stand alone.
 * @param {{words: readonly number[], segments: readonly number[]}} example
 * @returns {number[][]} as {@link Side}.members
 */
export function groupWords({ words, segments }) {
  /** @type {number[][]} */
  const members = segments.map(() => []);
  let first = 0;
  segments.forEach((segment, token) => {
    const goes = token > 0 && words[token] >= 0 && words[token] === words[token - 1] && segment === segments[token - 1];
    if (!goes) first = token;
    members[first].push(token);
  });
  return members;
}

/** Every token for itself. @param {number} length @returns {number[][]} */
export function singles(length) {
  return Array.from({ length }, (_, token) => [token]);
}

/** Whether maps are shown as they are stored. @param {Reading} reading */
export function isPlain({ words, renormalises }) {
  return !words && !renormalises;
}

/**
 * Weights of one query as they are read: renormalised first, then summed over the tokens of each key
 * word. The mean over the tokens of a query word is the caller's.
 * @param {ArrayLike<number>} weights per key token, from `from`
 * @param {number} from
 * @param {Reading} reading
 * @param {Float32Array | Float64Array} sums per key token, at the first of each word; added to
 * @param {number} share of this query in the mean
 */
export function addRow(weights, from, { keys: { members, special }, renormalises }, sums, share) {
  let whole = 1;
  if (renormalises) {
    whole = 0;
    for (let key = 0; key < special.length; key += 1) if (!special[key]) whole += weights[from + key];
    if (whole <= 0) return;
  }
  const factor = share / whole;
  for (let first = 0; first < members.length; first += 1) {
    for (const key of members[first]) sums[first] += factor * weights[from + key];
  }
}

/**
 * A map of √-codes as it is read.
 * @param {Grid} grid
 * @param {Reading} reading
 * @returns {Grid} the same one where nothing is to be done
 */
export function readMap(grid, reading) {
  if (isPlain(reading)) return grid;
  const { queries, keys: { special }, renormalises } = reading;
  const length = special.length;
  const codes = new Uint8Array(queries.members.length * length);
  const row = new Float32Array(length);
  const sums = new Float32Array(length);
  for (const [first, own] of queries.members.entries()) {
    if (!own.length || (renormalises && queries.special[first])) continue;
    sums.fill(0);
    for (const query of own) {
      const start = grid.offset + query * grid.stride;
      for (let key = 0; key < length; key += 1) row[key] = WEIGHT_OF_CODE[grid.codes[start + key]];
      addRow(row, 0, reading, sums, 1 / own.length);
    }
    for (let key = 0; key < length; key += 1) {
      if (renormalises && special[key]) continue;
      codes[first * length + key] = Math.min(255, Math.round(255 * Math.sqrt(sums[key])));
    }
  }
  return { codes, offset: 0, stride: length };
}

/**
 * @typedef {object} Drawn what of the maps is drawn
 * @property {number} least faintest code drawn
 * @property {number} edges drawn
 * @property {number} all edges that are not zero
 * @property {number} mass of the edges drawn, 0 … 1 of what lies between the tokens shown
 * @property {number} shown mass between the tokens shown, 0 … 1 of all that their queries give away
 */

/**
 * The strongest edges that together hold a share of the mass, over all maps alike. Edges of one code
 * are drawn together or not at all, so what is drawn may hold somewhat more than was asked.
 * @param {readonly Grid[]} maps
 * @param {readonly number[]} rows
 * @param {readonly number[]} columns
 * @param {number} share 0 … 1
 * @returns {Drawn}
 */
export function drawShare(maps, rows, columns, share) {
  const counts = new Uint32Array(256);
  for (const map of maps) countCodes(map, rows, columns, counts);
  return shareOf(counts, maps.length * rows.length, share);
}

/** How often each code occurs. @param {Grid} grid @param {readonly number[]} rows @param {readonly number[]} columns @param {Uint32Array} counts added to */
export function countCodes({ codes, offset, stride }, rows, columns, counts) {
  for (const row of rows) {
    const base = offset + row * stride;
    for (const column of columns) counts[codes[base + column]] += 1;
  }
}

/** {@link drawShare} of codes that were counted. @param {Uint32Array} counts @param {number} given whole rows @param {number} share @returns {Drawn} */
export function shareOf(counts, given, share) {
  let total = 0;
  let all = 0;
  for (let code = 1; code < 256; code += 1) {
    total += counts[code] * WEIGHT_OF_CODE[code];
    all += counts[code];
  }
  let held = 0;
  let edges = 0;
  let least = 256;
  while (least > 1 && (share >= 1 || held < share * total * (1 - 1e-9))) {
    least -= 1;
    held += counts[least] * WEIGHT_OF_CODE[least];
    edges += counts[least];
  }
  return { least, edges, all, mass: total > 0 ? held / total : 0, shown: given ? Math.min(1, total / given) : 0 };
}
