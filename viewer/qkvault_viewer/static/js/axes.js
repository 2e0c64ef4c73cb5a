/**
 * The two sides of a map: the tokens that attend and those attended to. They are one text's in
 * self-attention, two texts' in the cross-attention of an encoder-decoder. Pure.
 */

import { groupWords, singles } from "./reading.js";
import { joinLabels, labelTokens } from "./tokens.js";

/**
 * @typedef {import("./api.js").Example} Example
 * @typedef {import("./api.js").TokenList} TokenList
 * @typedef {object} Axis
 * @property {readonly string[]} tokens as the tokenizer spells them
 * @property {import("./tokens.js").Label[]} labels one per token; of whole words where words are taken together
 * @property {readonly number[]} special
 * @property {readonly number[]} segments
 * @property {number} length tokens
 * @property {number[][]} members tokens of the word that begins at a token; empty elsewhere
 */

/**
 * Tokens of either side of a stack's maps. A decoder reads the target where there is one.
 * @param {{name: string}} stack
 * @param {Example} example
 * @returns {{queries: TokenList, keys: TokenList}} one and the same list in self-attention
 */
export function sidesOf({ name }, example) {
  const target = example.target ?? example;
  return { queries: name === "encoder" ? example : target, keys: name === "decoder" ? target : example };
}

/** Whether it is known which tokens make a word. @param {TokenList} list */
export function hasWords({ words, tokens }) {
  return words.length === tokens.length;
}

/**
 * @param {TokenList} list
 * @param {boolean} byWord whether the tokens of a word are taken together
 * @returns {Axis}
 */
function makeAxis(list, byWord) {
  const { tokens, special, segments } = list;
  const members = byWord ? groupWords(list) : singles(tokens.length);
  const labels = labelTokens(tokens);
  return {
    tokens, special, segments, length: tokens.length, members,
    labels: byWord ? labels.map((label, token) => joinLabels(labels, members[token]) ?? label) : labels,
  };
}

/**
 * @param {{queries: TokenList, keys: TokenList}} sides
 * @param {boolean} byWord
 * @returns {{queries: Axis, keys: Axis}} one and the same axis in self-attention
 */
export function makeAxes({ queries, keys }, byWord) {
  const own = makeAxis(queries, byWord);
  return { queries: own, keys: keys === queries ? own : makeAxis(keys, byWord) };
}
