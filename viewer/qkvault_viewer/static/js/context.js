/** The state made sound against the vault and the example at hand: what every part draws from. */

import { groupWords, singles } from "./reading.js";
import { joinLabels, labelTokens } from "./tokens.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {import("./api.js").Vault} Vault
 * @typedef {import("./api.js").Example} Example
 * @typedef {import("./api.js").Stack} Stack
 * @typedef {import("./tokens.js").Label} Label
 */

/**
 * @typedef {object} Context
 * @property {State} state
 * @property {Vault} vault
 * @property {Example} example
 * @property {Stack} stack
 * @property {number} layer the model's own number
 * @property {number} depth position of the layer among those kept
 * @property {number} head
 * @property {number[]} heads switched on, ascending, at least one
 * @property {Label[]} labels one per token
 * @property {number[]} rows attending tokens shown
 * @property {number[]} columns attended tokens shown
 * @property {boolean} pair whether there is a second text to filter by
 * @property {Focus | null} locked
 * @property {import("./reading.js").Reading} reading how the head view takes the maps; plain elsewhere
 */

/** @type {readonly {name: import("./state.js").Filter, title: string}[]} */
export const FILTERS = [
  { name: "all", title: "All" },
  { name: "aa", title: "A→A" },
  { name: "bb", title: "B→B" },
  { name: "ab", title: "A→B" },
  { name: "ba", title: "B→A" },
];

/**
 * Tokens on either side of a sentence filter. [CLS] and the first [SEP] are of the first text.
 * @param {import("./state.js").Filter} filter
 * @param {readonly number[]} segments
 * @returns {{rows: number[], columns: number[]}}
 */
export function filterTokens(filter, segments) {
  const tokens = segments.map((_, token) => token);
  /** @param {string} text */
  const of = (text) => tokens.filter((token) => (segments[token] === 1) === (text === "b"));
  if (filter === "all") return { rows: tokens, columns: tokens };
  return { rows: of(filter[0]), columns: of(filter[1]) };
}

/**
 * Which layer and heads a state means, against what the vault has.
 * @param {State} state
 * @param {Vault} vault
 * @returns {{stack: Stack, layer: number, depth: number, head: number, heads: number[]}}
 */
export function placeState(state, vault) {
  const stack = vault.stacks.find(({ name }) => name === state.stack) ?? vault.stacks[0];
  const depth = Math.max(0, state.layer === null ? 0 : stack.layers.indexOf(state.layer));
  const known = (state.heads ?? []).filter((head) => head < stack.heads);
  return {
    stack,
    layer: stack.layers[depth],
    depth,
    head: Math.min(state.head, stack.heads - 1),
    heads: known.length ? known : Array.from({ length: stack.heads }, (_, head) => head),
  };
}

/** Whether words are known that are more than one token. @param {Example} example */
export function hasWords({ words, segments }) {
  return words.length === segments.length;
}

/** @param {State} state @param {Example} example @returns {import("./reading.js").Reading} */
function makeReading({ view, words, special }, example) {
  const inHeads = view === "heads";
  const byWord = inHeads && words && hasWords(example);
  return {
    words: byWord,
    hides: inHeads && special !== "show",
    renormalises: inHeads && special === "renormalise",
    members: byWord ? groupWords(example) : singles(example.segments.length),
    special: example.special,
  };
}

/**
 * The token that stands for the one in focus: the first of its word.
 * @param {Focus | null} focus
 * @param {number[][]} members
 * @returns {Focus | null}
 */
export function snapFocus(focus, members) {
  if (!focus || members[focus.token]?.length) return focus;
  const token = members.findIndex((tokens) => tokens.includes(focus.token));
  return token < 0 ? focus : { side: focus.side, token };
}

/**
 * @param {State} state
 * @param {Vault} vault
 * @param {Example} example
 * @returns {Context}
 */
export function makeContext(state, vault, example) {
  const pair = example.segments.includes(1) && example.segments.includes(0);
  const sides = filterTokens(pair ? state.filter : "all", example.segments);
  const reading = makeReading(state, example);
  const shows = (/** @type {number} */ token) =>
    reading.members[token].length > 0 && !(reading.hides && example.special[token]);
  const [rows, columns] = [sides.rows.filter(shows), sides.columns.filter(shows)];
  const locked = snapFocus(state.locked, reading.members);
  const shown = locked && (locked.side === "left" ? rows : columns).includes(locked.token);
  const labels = labelTokens(example.tokens);
  return {
    ...placeState(state, vault),
    state,
    vault,
    example,
    labels: reading.words ? labels.map((label, token) => joinLabels(labels, reading.members[token]) ?? label) : labels,
    rows,
    columns,
    pair,
    locked: shown ? locked : null,
    reading,
  };
}
