/** What is looked at, as one flat object that the address carries. */

import { formatWhere, parseWhere } from "./slice.js";

/**
 * @typedef {{side: "left" | "right", token: number}} Focus a token of the attending (left) or the
 *   attended (right) column
 * @typedef {"heads" | "model" | "neuron" | "compare"} ViewName
 * @typedef {"all" | "aa" | "bb" | "ab" | "ba"} Filter
 * @typedef {object} State
 * @property {string} store name of the vault; empty for the first one
 * @property {number} example
 * @property {ViewName} view
 * @property {string} stack empty for the vault's first
 * @property {number | null} layer the model's own number; null for the first one kept
 * @property {number} head the head of the neuron view and of the enlarged map
 * @property {number[] | null} heads heads switched on in the head view; null for all
 * @property {Filter} filter
 * @property {"auto" | "lines" | "matrix"} draw
 * @property {boolean} enlarged whether the model view shows `layer`, `head` enlarged
 * @property {boolean} expanded whether the neuron view shows its columns
 * @property {Focus | null} locked
 * @property {"score" | "value"} columns which of them: how the softmax comes about, or what it does
 * @property {"order" | "sorted" | "top"} dims dimensions as stored, by |q×k|, or the strongest only
 * @property {number} mass per cent of the attention that the head view draws, strongest first
 * @property {"show" | "hide" | "renormalise"} special tokens in the head view
 * @property {boolean} words whether the head view takes the tokens of a word together
 * @property {string[]} pins what the example is compared with: `12`, or `vault~12` of another vault
 * @property {string} metric coloured in the head map; empty for pictures of the attention
 * @property {string} query of the corpus list
 * @property {import("./slice.js").Where} where filters of the corpus list
 * @property {string} sort column that the corpus list is sorted by; empty for dataset order
 * @property {boolean} descending
 * @property {string | null} cursor of the corpus list's page
 */

/** @type {Readonly<State>} */
export const START = Object.freeze({
  store: "",
  example: 0,
  view: "heads",
  stack: "",
  layer: null,
  head: 0,
  heads: null,
  filter: "all",
  draw: "auto",
  enlarged: false,
  expanded: false,
  locked: null,
  columns: "score",
  dims: "order",
  mass: 100,
  special: "show",
  words: false,
  pins: [],
  metric: "",
  query: "",
  where: {},
  sort: "",
  descending: false,
  cursor: null,
});

const VIEWS = ["heads", "model", "neuron", "compare"];
/** Columns of a comparison beside the first. */
export const MOST_PINS = 5;
const FILTERS = ["all", "aa", "bb", "ab", "ba"];
const DRAWINGS = ["auto", "lines", "matrix"];
export const SPECIALS = /** @type {const} */ (["show", "hide", "renormalise"]);
export const DIMS = /** @type {const} */ (["order", "sorted", "top"]);

/** @param {string | null} text @returns {number | null} */
function wholeNumber(text) {
  return text !== null && /^\d{1,9}$/.test(text) ? Number(text) : null;
}

/** @param {string | null} text @returns {number[] | null} */
function numberList(text) {
  if (!text) return null;
  const numbers = text.split(".").map(wholeNumber);
  if (numbers.some((number) => number === null)) return null;
  return [.../** @type {Set<number>} */ (new Set(numbers))].sort((a, b) => a - b);
}

/** @param {string | null} text @returns {Focus | null} */
function parseFocus(text) {
  const token = wholeNumber(text?.slice(1) ?? null);
  if (token === null) return null;
  if (text?.[0] === "q") return { side: "left", token };
  return text?.[0] === "k" ? { side: "right", token } : null;
}

/** @param {string | null} text @returns {string[]} */
function pinList(text) {
  const all = (text ?? "").split(".").filter((pin) => /^(?:[0-9a-z-]{1,60}~)?\d{1,9}$/.test(pin));
  return [...new Set(all)].slice(0, MOST_PINS);
}

/**
 * @template {string} T
 * @param {string | null} text
 * @param {readonly string[]} known
 * @param {T} otherwise
 * @returns {T}
 */
function oneOf(text, known, otherwise) {
  return text !== null && known.includes(text) ? /** @type {T} */ (text) : otherwise;
}

/**
 * Read a query string. Whatever it does not say, or says wrongly, is as at the start.
 * @param {string} search
 * @returns {State}
 */
export function parseState(search) {
  const given = new URLSearchParams(search);
  return {
    store: given.get("store") ?? "",
    example: wholeNumber(given.get("ex")) ?? 0,
    view: oneOf(given.get("view"), VIEWS, START.view),
    stack: given.get("stack") ?? "",
    layer: wholeNumber(given.get("layer")),
    head: wholeNumber(given.get("head")) ?? 0,
    heads: numberList(given.get("heads")),
    filter: oneOf(given.get("filter"), FILTERS, START.filter),
    draw: oneOf(given.get("draw"), DRAWINGS, START.draw),
    enlarged: given.get("enlarged") === "1",
    expanded: given.get("expanded") === "1",
    locked: parseFocus(given.get("token")),
    columns: oneOf(given.get("columns"), ["score", "value"], START.columns),
    dims: oneOf(given.get("dims"), DIMS, START.dims),
    mass: Math.min(100, Math.max(1, wholeNumber(given.get("mass")) ?? START.mass)),
    special: oneOf(given.get("special"), SPECIALS, START.special),
    words: given.get("words") === "1",
    pins: pinList(given.get("vs")),
    metric: /^\w{0,80}$/.test(given.get("metric") ?? "") ? given.get("metric") ?? "" : "",
    query: (given.get("q") ?? "").slice(0, 500),
    where: parseWhere(given.get("where")),
    sort: (given.get("sort") ?? "").slice(0, 200),
    descending: given.get("order") === "desc",
    cursor: given.get("cursor"),
  };
}

/**
 * The query string of a state; what is as at the start is left out, so equal states are equal strings.
 * @param {State} state
 * @returns {string} with its `?`, or empty
 */
export function formatState(state) {
  const { locked } = state;
  /** @type {[string, string][]} */
  const all = [
    ["store", state.store],
    ["ex", state.example ? String(state.example) : ""],
    ["view", state.view === START.view ? "" : state.view],
    ["stack", state.stack],
    ["layer", state.layer === null ? "" : String(state.layer)],
    ["head", state.head ? String(state.head) : ""],
    ["heads", state.heads ? state.heads.join(".") : ""],
    ["filter", state.filter === START.filter ? "" : state.filter],
    ["draw", state.draw === START.draw ? "" : state.draw],
    ["enlarged", state.enlarged ? "1" : ""],
    ["expanded", state.expanded ? "1" : ""],
    ["token", locked ? `${locked.side === "left" ? "q" : "k"}${locked.token}` : ""],
    ["columns", state.columns === START.columns ? "" : state.columns],
    ["dims", state.dims === START.dims ? "" : state.dims],
    ["mass", state.mass === START.mass ? "" : String(state.mass)],
    ["special", state.special === START.special ? "" : state.special],
    ["words", state.words ? "1" : ""],
    ["vs", state.pins.join(".")],
    ["metric", state.metric],
    ["q", state.query],
    ["where", formatWhere(state.where)],
    ["sort", state.sort],
    ["order", state.descending ? "desc" : ""],
    ["cursor", state.cursor ?? ""],
  ];
  const said = all.filter(([, value]) => value !== "");
  return said.length ? `?${new URLSearchParams(said)}` : "";
}

/** The one state of a page, with the address bar as its mirror. */
export class Store {
  /** @param {(state: State, before: State) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.state = parseState(location.search);
    addEventListener("popstate", () => this.accept(parseState(location.search)));
  }

  /** @param {State} next */
  accept(next) {
    const before = this.state;
    this.state = next;
    this.onChange(next, before);
  }

  /**
   * Change some of the state.
   * @param {Partial<State>} change
   * @param {{replace?: boolean}} [how] `replace` for what the back button should not step through
   */
  set(change, { replace = false } = {}) {
    const next = { ...this.state, ...change };
    const address = formatState(next);
    if (address === formatState(this.state)) return;
    const url = `${location.pathname}${address}${location.hash}`;
    if (replace) history.replaceState(null, "", url);
    else history.pushState(null, "", url);
    this.accept(next);
  }
}
