/** Which tokens of two texts are the same token: a diff, as of two files. Pure. */

/**
 * @typedef {{a: number | null, b: number | null, replaced: boolean}} Step a token of A, of B, or of
 *   both; `replaced` where they stand in the same place but are spelled differently
 * @typedef {{steps: Step[], ofA: Int32Array, ofB: Int32Array, matched: number}} Alignment `ofA[i]`: the
 *   token of B that stands for token i of A, -1 for none; `ofB` the other way
 */

/** Cells of the diff's table; longer texts are compared in place between their common ends. */
const MOST_CELLS = 4 << 20;

/** Longer stretches are other text, not other words for the same. */
const MOST_REPLACED = 3;

/**
 * Lengths of the longest common subsequences of the ends of a and b.
 * @param {readonly string[]} a @param {readonly string[]} b
 */
function commonLengths(a, b) {
  const width = b.length + 1;
  const table = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      table[i * width + j] = a[i] === b[j] ? table[(i + 1) * width + j + 1] + 1
        : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  return table;
}

/**
 * Pairs of equal tokens, ascending in both.
 * @param {readonly string[]} a @param {readonly string[]} b
 * @returns {[number, number][]}
 */
function commonPairs(a, b) {
  if (a.length * b.length > MOST_CELLS) {
    return a.flatMap((token, i) => (token === b[i] ? [/** @type {[number, number]} */ ([i, i])] : []));
  }
  const table = commonLengths(a, b);
  const width = b.length + 1;
  /** @type {[number, number][]} */
  const pairs = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) pairs.push([i++, j++]);
    else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return pairs;
}

/**
 * Tokens between two pairs of equal ones: as many on either side, if few, replace each other one by one,
 * otherwise they are on their own.
 * @param {Step[]} steps @param {[number, number]} from @param {[number, number]} to half-open, (A, B)
 */
function fillGap(steps, from, to) {
  const [countA, countB] = [to[0] - from[0], to[1] - from[1]];
  if (countA === countB && countA <= MOST_REPLACED) {
    for (let n = 0; n < countA; n += 1) steps.push({ a: from[0] + n, b: from[1] + n, replaced: true });
    return;
  }
  for (let a = from[0]; a < to[0]; a += 1) steps.push({ a, b: null, replaced: false });
  for (let b = from[1]; b < to[1]; b += 1) steps.push({ a: null, b, replaced: false });
}

/**
 * Align the tokens of two examples. A token of the first text never stands for one of the second.
 * @param {{tokens: readonly string[], segments: readonly number[]}} a
 * @param {{tokens: readonly string[], segments: readonly number[]}} b
 * @returns {Alignment}
 */
export function alignTokens(a, b) {
  /** @type {Step[]} */
  const steps = [];
  for (const segment of [0, 1]) {
    const [inA, inB] = [a, b].map(({ segments }) => segments.flatMap((of, token) => ((of === 1) === (segment === 1) ? [token] : [])));
    const pairs = commonPairs(inA.map((token) => a.tokens[token]), inB.map((token) => b.tokens[token]));
    /** @type {Step[]} */
    const part = [];
    let from = /** @type {[number, number]} */ ([0, 0]);
    for (const [i, j] of pairs) {
      fillGap(part, from, [i, j]);
      part.push({ a: i, b: j, replaced: false });
      from = [i + 1, j + 1];
    }
    fillGap(part, from, [inA.length, inB.length]);
    steps.push(...part.map((step) => ({ ...step, a: step.a === null ? null : inA[step.a], b: step.b === null ? null : inB[step.b] })));
  }
  const ofA = new Int32Array(a.tokens.length).fill(-1);
  const ofB = new Int32Array(b.tokens.length).fill(-1);
  let matched = 0;
  for (const step of steps) {
    if (step.a === null || step.b === null) continue;
    ofA[step.a] = step.b;
    ofB[step.b] = step.a;
    matched += 1;
  }
  return { steps, ofA, ofB, matched };
}
