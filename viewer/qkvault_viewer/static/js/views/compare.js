/** The comparison: heads of one layer for several examples side by side, and what changed from A. */

import { PAD } from "../columns.js";
import { makeVerdict, nameLabel } from "../corpus.js";
import { ComparePane } from "../comparepane.js";
import { DifferencePanel } from "../differencepanel.js";
import { findExtremes, subtract } from "../difference.js";
import { el } from "../dom.js";
import { changeNumbers, comparisonFigure, weightNumbers } from "../taken.js";
import { plainText } from "../tokens.js";

/**
 * @typedef {import("../context.js").Context} Context
 * @typedef {import("../comparison.js").Side} Side
 * @typedef {import("../align.js").Step} Step
 * @typedef {import("../state.js").Focus} Focus
 * @typedef {{hover: (focus: Focus | null) => void, pick: (focus: Focus) => void,
 *   unpin: (pin: string) => void, swap: (pin: string) => void, pinNeighbour: (by: 1 | -1) => void,
 *   pinTwin: (store: string) => void, otherStores: () => {name: string, title: string}[]}} Acts
 */

const LETTERS = "ABCDEFGHIJ";
const HEAD = 36;
const LEAST_ROW = 14.5;
/** Longer texts have no rows without a partner in their difference map. */
const MOST_HATCHED = 96;

/** Tokens that stand where another example has another one. @param {Side[]} sides @param {"a" | "b"} end */
function findReplaced(sides, end) {
  const on = (/** @type {"queries" | "keys"} */ axis) => new Set(sides.flatMap(({ alignment }) =>
    (alignment?.[axis].steps ?? []).filter((step) => step.replaced).map((step) => step[end])));
  return { queries: on("queries"), keys: on("keys") };
}

/**
 * Of long texts only the tokens that have a partner: the others would crowd them out.
 * @param {{rows: Step[], columns: Step[]}} shown
 * @returns {{rows: Step[], columns: Step[], left: number}} `left`: rows left out
 */
function leaveOut(shown) {
  const { rows, columns } = shown;
  if (Math.max(rows.length, columns.length) <= MOST_HATCHED) return { ...shown, left: 0 };
  const matched = (/** @type {Step} */ { a, b }) => a !== null && b !== null;
  const kept = { rows: rows.filter(matched), columns: columns.filter(matched) };
  return { ...kept, left: rows.length - kept.rows.length };
}

export class CompareView {
  /** Arrays of the vault without which there is nothing to see. @type {readonly string[]} */
  static needs = ["attention"];

  /** @param {HTMLElement} root @param {import("../api.js").Api} api @param {Acts} acts @param {import("../comparison.js").Comparison} comparison */
  constructor(root, api, acts, comparison) {
    this.root = root;
    this.api = api;
    this.acts = acts;
    this.comparison = comparison;
    this.bar = el("div", { class: "compare-bar" });
    this.grid = el("div", { class: "compare-grid" });
    root.append(this.bar, this.grid);
    /** @type {ComparePane[]} A first */
    this.panes = [];
    /** @type {(DifferencePanel)[]} */
    this.panels = [];
    /** @type {Side[]} */
    this.sides = [];
    /** @type {(import("../differencepanel.js").Difference | null)[]} of each side, null where there is none */
    this.differences = [];
    /** @type {Focus | null} in tokens of A */
    this.hovered = null;
    this.key = "";
  }

  /** The columns that the page scrolls to a token in. */
  get columns() {
    return this.panes[0].columns;
  }

  /** @param {Context} context @param {AbortSignal} signal */
  async show(context, signal) {
    const sides = await this.comparison.sides(context, signal);
    this.sides = sides;
    this.build(sides.length);
    const tallest = Math.max(...[context, ...sides.map((side) => side.context)].map((one) => Math.max(one?.rows.length ?? 0, one?.columns.length ?? 0)));
    this.grid.style.setProperty("--tall", `${HEAD + 2 * PAD + tallest * LEAST_ROW}px`);
    this.fillBar(context, sides);
    // With one other, A's tokens without a partner are hatched as well.
    const alone = sides.length === 1 ? sides[0].alignment : null;
    const turn = (/** @type {import("../align.js").Alignment} */ one) => ({ ...one, ofB: one.ofA });
    const mirrored = alone && { queries: turn(alone.queries), keys: turn(alone.keys) };
    const drawn = [this.panes[0].show(context, mirrored, findReplaced(sides, "a"), signal)];
    sides.forEach((side, n) => {
      const pane = this.panes[n + 1];
      if (side.context) drawn.push(pane.show(side.context, side.alignment, findReplaced([side], "b"), signal));
      else pane.refuse(side.trouble);
    });
    await Promise.all([...drawn, this.showDifferences(context, signal)]);
  }

  /** Panes and panels for so many sides. @param {number} count */
  build(count) {
    const key = String(count);
    this.root.classList.toggle("is-alone", count === 0);
    if (this.key === key) return;
    this.key = key;
    this.panes = Array.from({ length: count + 1 }, (_, n) => new ComparePane(LETTERS[n], this.api, {
      hover: (focus) => this.hoveredIn(n, focus),
      pick: (focus) => this.pickedIn(n, focus),
    }));
    this.panels = Array.from({ length: count }, () => new DifferencePanel({ hover: (focus) => this.acts.hover(focus), pick: (focus) => this.acts.pick(focus) }));
    this.grid.style.setProperty("--sides", String(count + 1));
    this.grid.classList.toggle("is-pair", count === 1);
    this.grid.replaceChildren(...this.panes.map((pane) => pane.element),
      ...(count > 1 ? [this.makeKey()] : []), ...this.panels.map((panel) => panel.element));
  }

  /** What stands under A where there are several differences. */
  makeKey() {
    return el("div", { class: "compare-key" },
      el("p", { text: "Each map is the example above it minus A." }),
      el("p", {}, el("b", { class: "is-up", text: "Blue" }), " rose, ", el("b", { class: "is-down", text: "orange" }), " fell. One scale for all."),
      el("p", { class: "hint", text: "Tokens are matched by a diff. A word put in another's place is written in blue letters; hatched rows have no partner." }));
  }

  /** @param {Context} context @param {AbortSignal} signal */
  async showDifferences(context, signal) {
    const ready = await Promise.all(this.sides.map(async (side) => {
      if (!side.context || !side.alignment || side.unlike) return null;
      const [a, b] = await Promise.all([this.comparison.weights(context, signal), this.comparison.weights(side.context, signal)]);
      const { rows, columns, left } = leaveOut(this.comparison.shown(context, side.context, side.alignment));
      return { rows, columns, left, values: subtract(a, b, rows, columns), a, b, contextA: context, contextB: side.context };
    }));
    signal.throwIfAborted();
    const largest = Math.max(1e-6, ...ready.map((one) => (one ? findExtremes(one.values).largest : 0)));
    this.differences = ready.map((one, n) => one && { ...one, largest, name: LETTERS[n + 1] });
    this.differences.forEach((one, n) => {
      const name = LETTERS[n + 1];
      if (one) this.panels[n].show(one);
      else this.panels[n].refuse(name, this.sides[n].unlike ?? (this.sides[n].trouble || "One of them could not be read"));
    });
  }

  /** @param {Context} context @param {Side[]} sides */
  fillBar(context, sides) {
    const { heads, layer, stack } = context;
    const which = heads.length === stack.heads ? `mean of all ${stack.heads} heads`
      : heads.length > 1 ? `mean of heads ${heads.join(", ")}` : `head ${heads[0]}`;
    const ways = [
      el("button", { type: "button", text: "+ Next example", title: "Pin the next example of the list", onclick: () => this.acts.pinNeighbour(1) }),
      ...this.makeTwins(),
    ];
    const about = sides.length
      ? el("p", { class: "compare-about", text: `Difference: layer ${layer}, ${which}` })
      : el("div", { class: "compare-start" },
        el("h2", { text: "Compare this example with another" }),
        el("p", { text: "Press ⇄ on an example of the list, or Space to pin the one that is open, then open others. The same example of another vault shows what fine-tuning changed." }));
    this.bar.replaceChildren(about, el("div", { class: "compare-ways" }, ...ways));
    [context, ...sides.map((side) => side.context)].forEach((one, n) => {
      this.panes[n].head.replaceChildren(...this.makeHead(LETTERS[n], one, n ? sides[n - 1].pin : null, context));
    });
  }

  /** Ways to the example of the same id in another vault: a button for one vault, a menu for several. */
  makeTwins() {
    const stores = this.acts.otherStores();
    const about = "Pin the example of the same id in another vault";
    if (stores.length < 2) {
      return stores.map(({ name, title }) => el("button", {
        type: "button", text: `+ Same in ${plainText(title)}`, title: about, onclick: () => this.acts.pinTwin(name),
      }));
    }
    const select = el("select", { "aria-label": about, title: about }, el("option", { value: "", text: "+ Same in …" }),
      ...stores.map(({ name, title }) => el("option", { value: name, text: plainText(title) })));
    select.addEventListener("change", () => {
      this.acts.pinTwin(select.value);
      select.value = "";
    });
    return [select];
  }

  /** @param {string} letter @param {Context | null} context @param {string | null} pin @param {Context} first */
  makeHead(letter, context, pin, first) {
    const nodes = [el("b", { class: "compare-letter", text: letter })];
    if (context) {
      const { example, vault } = context;
      const where = vault.name === first.vault.name ? "" : `${vault.title} `;
      nodes.push(el("bdi", { class: "compare-id", text: plainText(`${where}${example.id}`), title: plainText(example.text.join("\n")) }));
      if (example.prediction !== null) nodes.push(el("span", { text: nameLabel(example.prediction, vault.label_names) }), makeVerdict(example.correct));
      else if (example.label !== null) nodes.push(el("span", { text: `label ${nameLabel(example.label, vault.gold_names)}` }));
    } else nodes.push(el("bdi", { class: "compare-id", text: pin ?? "" }));
    if (pin !== null) {
      nodes.push(el("span", { class: "spacer" }));
      if (context?.vault.name === first.vault.name) {
        nodes.push(el("button", { type: "button", class: "plain", text: "⇄", title: `Make ${letter} the one others are compared with`, "aria-label": `Swap A and ${letter}`, onclick: () => this.acts.swap(pin) }));
      }
      nodes.push(el("button", { type: "button", class: "plain", text: "✕", "aria-label": `Compare no longer with ${letter}`, onclick: () => this.acts.unpin(pin) }));
    }
    return nodes;
  }

  /** A token of a pane as A's; null where A has none. @param {number} pane @param {Focus | null} focus @returns {Focus | null} */
  toFirst(pane, focus) {
    if (!focus || pane === 0) return focus;
    const token = this.sides[pane - 1]?.alignment?.[focus.side === "left" ? "queries" : "keys"].ofB[focus.token] ?? -1;
    return token < 0 ? null : { side: focus.side, token };
  }

  /** @param {number} pane @param {Focus | null} focus */
  hoveredIn(pane, focus) {
    const first = this.toFirst(pane, focus);
    this.acts.hover(first);
    if (focus && !first) this.panes[pane].focus(focus, null);
  }

  /** @param {number} pane @param {Focus} focus */
  pickedIn(pane, focus) {
    const first = this.toFirst(pane, focus);
    if (first) this.acts.pick(first);
  }

  /** @param {Focus | null} focus @param {Focus | null} locked */
  focus(focus, locked) {
    this.panes.forEach((pane, n) => {
      const map = (/** @type {Focus | null} */ one) => {
        if (!one || n === 0) return one;
        const token = this.sides[n - 1]?.alignment?.[one.side === "left" ? "queries" : "keys"].ofA[one.token] ?? -1;
        return token < 0 ? null : { side: one.side, token };
      };
      pane.focus(map(focus), map(locked));
    });
    for (const panel of this.panels) panel.focus(locked ?? focus);
  }

  /** @param {Context} context @returns {import("../svgfigure.js").Figure} */
  figure(context) {
    const contexts = [context, ...this.sides.map((side) => side.context)];
    const shown = contexts.flatMap((one, n) => {
      const { drawing } = this.panes[n].layer;
      return one && drawing && this.panes[n].shown ? [{ letter: LETTERS[n], context: one, drawing }] : [];
    });
    return comparisonFigure(shown, this.differences.filter((one) => one !== null), (one, step, axis) => this.panels[this.differences.indexOf(one)].label(step, axis));
  }

  /** @param {Context} context */
  async numbers(context) {
    const found = this.differences.filter((one) => one !== null);
    return found.length ? changeNumbers(context, found) : weightNumbers(this.api, context, context.heads);
  }
}
