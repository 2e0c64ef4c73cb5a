/** The state made sound against the vault and the example at hand: what every part draws from. */

import { hasWords, makeAxes, sidesOf } from "./axes.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {import("./api.js").Vault} Vault
 * @typedef {import("./api.js").Example} Example
 * @typedef {import("./api.js").Stack} Stack
 * @typedef {import("./axes.js").Axis} Axis
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
 * @property {Axis} queries tokens that attend
 * @property {Axis} keys tokens attended to; the same axis in self-attention
 * @property {ReturnType<typeof sidesOf>} sides the same, as the vault has them
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
 * Tokens that a sentence filter leaves on one side. [CLS] and the first [SEP] are of the first text.
 * @param {import("./state.js").Filter} filter
 * @param {0 | 1} end 0 for attending tokens, 1 for those attended to
 * @param {readonly number[]} segments
 * @returns {number[]}
 */
export function filterTokens(filter, end, segments) {
  const tokens = segments.map((_, token) => token);
  return filter === "all" ? tokens : tokens.filter((token) => (segments[token] === 1) === (filter[end] === "b"));
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

/** Tokens of the side that a focus is on. @param {Pick<Context, "queries" | "keys">} context @param {Focus["side"]} side */
export function axisOf({ queries, keys }, side) {
  return side === "left" ? queries : keys;
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
  const place = placeState(state, vault);
  const sides = sidesOf(place.stack, example);
  const inHeads = state.view === "heads";
  const words = inHeads && state.words && hasWords(sides.queries) && hasWords(sides.keys);
  const axes = makeAxes(sides, words);
  const reading = {
    words,
    hides: inHeads && state.special !== "show",
    renormalises: inHeads && state.special === "renormalise",
    queries: axes.queries,
    keys: axes.keys,
  };
  const pair = [axes.queries, axes.keys].every(({ segments }) => segments.includes(0) && segments.includes(1));
  const [rows, columns] = [["queries", 0], ["keys", 1]].map(([side, end]) => {
    const { segments, members, special } = axes[/** @type {"queries" | "keys"} */ (side)];
    return filterTokens(pair ? state.filter : "all", /** @type {0 | 1} */ (end), segments)
      .filter((token) => members[token].length > 0 && !(reading.hides && special[token]));
  });
  const locked = state.locked && snapFocus(state.locked, axisOf(axes, state.locked.side).members);
  const shown = locked && (locked.side === "left" ? rows : columns).includes(locked.token);
  return { ...place, ...axes, sides, state, vault, example, rows, columns, pair, reading, locked: shown ? locked : null };
}
