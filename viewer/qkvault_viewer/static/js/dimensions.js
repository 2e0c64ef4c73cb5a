/** The order of a head's dimensions, and what a query's weights make of the values. Pure. */

/** How many dimensions stay when only the strongest are shown. */
export const STRONGEST = 16;

/**
 * How much each dimension has to do with a query's row, or with one pair of it.
 * @param {Float32Array} products (key_token, dimension), flat
 * @param {number} dimensions
 * @param {readonly number[]} keys that count
 * @returns {Float64Array} sum of |product| per dimension
 */
export function importance(products, dimensions, keys) {
  const sums = new Float64Array(dimensions);
  for (const key of keys) {
    for (let d = 0; d < dimensions; d += 1) sums[d] += Math.abs(products[key * dimensions + d]);
  }
  return sums;
}

/**
 * @param {"order" | "sorted" | "top"} how as they are stored, by importance, or only the strongest
 * @param {number} dimensions
 * @param {ArrayLike<number> | null} sums see {@link importance}; null while no query is chosen
 * @returns {number[]} dimensions shown, left to right
 */
export function orderDimensions(how, dimensions, sums) {
  const order = Array.from({ length: dimensions }, (_, d) => d);
  if (how === "order" || !sums) return order;
  order.sort((a, b) => sums[b] - sums[a] || a - b);
  return how === "top" ? order.slice(0, STRONGEST) : order;
}

/**
 * What each key's value brings to a query: weight · value, and its length.
 * @param {Float32Array} weights per key token
 * @param {Float32Array} values (key_token, dimension), flat
 * @param {number} dimensions
 * @returns {{parts: Float32Array, norms: Float32Array, output: Float32Array}} parts like `values`; norms
 *   Euclidean, per key; output the parts' sum, the head's own result for the query
 */
export function contribute(weights, values, dimensions) {
  const parts = new Float32Array(values.length);
  const norms = new Float32Array(weights.length);
  const output = new Float32Array(dimensions);
  for (let key = 0; key < weights.length; key += 1) {
    let squares = 0;
    for (let d = 0; d < dimensions; d += 1) {
      const part = weights[key] * values[key * dimensions + d];
      parts[key * dimensions + d] = part;
      output[d] += part;
      squares += part * part;
    }
    norms[key] = Math.sqrt(squares);
  }
  return { parts, norms, output };
}
