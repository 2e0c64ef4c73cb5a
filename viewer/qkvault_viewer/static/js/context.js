/** The state made sound against the vault and the example at hand: what every part draws from. */

import { labelTokens } from "./tokens.js";

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

/**
 * @param {State} state
 * @param {Vault} vault
 * @param {Example} example
 * @returns {Context}
 */
export function makeContext(state, vault, example) {
  const pair = example.segments.includes(1) && example.segments.includes(0);
  const { rows, columns } = filterTokens(pair ? state.filter : "all", example.segments);
  const { locked } = state;
  const shown = locked && (locked.side === "left" ? rows : columns).includes(locked.token);
  return {
    ...placeState(state, vault),
    state,
    vault,
    example,
    labels: labelTokens(example.tokens),
    rows,
    columns,
    pair,
    locked: shown ? locked : null,
  };
}
