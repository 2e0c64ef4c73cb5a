/** The corpus list: a page at a time of the examples found, filtered and sorted. */

import { el } from "./dom.js";
import { formatCount } from "./scale.js";
import { isAbort } from "./api.js";
import { placeState } from "./context.js";
import { Filters, nameValue, sortTitle } from "./filters.js";
import { formatMetric } from "./metrics.js";
import { formatWhere, isNarrowed } from "./slice.js";
import { plainText } from "./tokens.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./api.js").Row} Row
 * @typedef {import("./api.js").Page} Page
 * @typedef {{open: (index: number) => void, search: (query: string) => void,
 *   turn: (cursor: string | null) => void, step: (by: 1 | -1) => void, pin: (index: number) => void,
 *   pinHere: () => void}
 *   & import("./filters.js").Acts} Acts
 */

const LIMIT = 50;
const TYPING_MS = 180;

/** @param {import("./api.js").Label} label @param {readonly string[]} names */
export function nameLabel(label, names) {
  if (label === null) return "–";
  if (typeof label === "number" && Number.isInteger(label) && names[label]) return plainText(names[label]);
  if (typeof label === "number" && !Number.isInteger(label)) return label.toFixed(2);
  return plainText(String(label));
}

/** @param {boolean | null} correct */
export function makeVerdict(correct) {
  if (correct === null) return el("span", { class: "verdict" });
  return el("span", {
    class: `verdict ${correct ? "is-right" : "is-wrong"}`,
    text: correct ? "✓" : "✗",
    role: "img",
    "aria-label": correct ? "predicted right" : "predicted wrong",
  });
}

export class Corpus {
  /** @param {HTMLElement} root @param {import("./api.js").Api} api @param {Acts} acts */
  constructor(root, api, acts) {
    this.api = api;
    this.acts = acts;
    /** @type {Page | null} */
    this.page = null;
    this.key = "";
    /** @type {string[]} cursors of the pages before this one, as far as they were visited */
    this.visited = [];
    this.first = 0;
    this.field = el("input", {
      type: "search", id: "search", placeholder: "Search the texts", "aria-label": "Search the texts",
      autocomplete: "off", spellcheck: "false", maxlength: "500",
    });
    this.field.addEventListener("input", () => this.typed());
    this.filters = new Filters(acts);
    this.count = el("p", { class: "corpus-count", role: "status" });
    this.list = el("div", { class: "corpus-list", role: "listbox", tabindex: "0", "aria-label": "Examples" });
    this.list.addEventListener("click", (event) => this.clicked(event));
    this.list.addEventListener("keydown", (event) => this.pressed(event));
    this.back = el("button", { type: "button", text: "‹ Back", onclick: () => this.turnBack() });
    this.range = el("span", { class: "corpus-range" });
    this.on = el("button", { type: "button", text: "More ›", onclick: () => this.turnOn() });
    root.replaceChildren(
      el("div", { class: "corpus-search" }, this.field, ...this.filters.elements, this.count),
      this.list,
      el("div", { class: "corpus-pages" }, this.back, this.range, this.on),
    );
  }

  typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.acts.search(this.field.value.trim()), TYPING_MS);
  }

  turnBack() {
    this.acts.turn(this.visited.at(-1) || null);
  }

  turnOn() {
    if (this.page?.next) this.acts.turn(this.page.next);
  }

  /**
   * Load the page that the state names, if it is another than the one shown, and mark the example.
   * @param {import("./api.js").Vault} vault
   * @param {import("./state.js").State} state
   * @param {AbortSignal} signal
   */
  async show(vault, state, signal) {
    if (document.activeElement !== this.field) this.field.value = state.query;
    const slice = JSON.stringify([vault.base, state.query, formatWhere(state.where), state.sort, state.descending]);
    const key = JSON.stringify([slice, state.cursor]);
    const filters = this.showFilters(vault, state, signal);
    if (key !== this.key) {
      this.list.setAttribute("aria-busy", "true");
      try {
        const page = await this.api.examples(vault, state, { cursor: state.cursor, limit: LIMIT }, signal);
        this.remember(key, state.cursor, page);
        this.key = key;
        this.fill(page, vault, state);
      } catch (error) {
        if (isAbort(error)) throw error;
        this.fail(error instanceof Error ? error.message : String(error));
      } finally {
        this.list.removeAttribute("aria-busy");
      }
    }
    await filters;
    this.mark(state);
  }

  /** @param {import("./api.js").Vault} vault @param {import("./state.js").State} state @param {AbortSignal} signal */
  async showFilters(vault, state, signal) {
    const { columns } = await this.api.columns(vault, signal).catch(() => ({ columns: [] }));
    if (!signal.aborted) this.filters.show(vault, state, placeState(state, vault), columns);
  }

  /**
   * Keep the way back: which pages led here.
   * @param {string} key @param {string | null} cursor @param {Page} page
   */
  remember(key, cursor, page) {
    const [slice] = JSON.parse(key);
    const [sliceBefore, cursorBefore] = this.key ? JSON.parse(this.key) : [];
    if (slice !== sliceBefore || cursor === null) {
      this.visited = [];
      this.first = cursor === null ? 0 : -1;
    } else if (this.visited.at(-1) === (cursor ?? "")) {
      this.visited.pop();
      this.first = this.first < 0 ? -1 : this.first - LIMIT;
    } else if (this.page?.next === cursor) {
      this.visited.push(cursorBefore ?? "");
      this.first = this.first < 0 ? -1 : this.first + (this.page?.rows.length ?? 0);
    } else {
      this.visited = [];
      this.first = -1;
    }
    this.page = page;
  }

  /** @param {Page} page @param {import("./api.js").Vault} vault @param {import("./state.js").State} state */
  fill(page, vault, state) {
    this.list.replaceChildren(...page.rows.map((row) => this.makeRow(row, vault, state)));
    this.list.scrollTop = 0;
    this.list.setAttribute("role", page.rows.length ? "listbox" : "group");
    if (page.rows.length === 0) this.list.replaceChildren(this.makeEmpty(vault, state));
    const { total } = page;
    this.count.textContent = isNarrowed(state) ? `${formatCount(total)} of ${formatCount(vault.examples)} examples` : `${formatCount(total)} examples`;
    const last = this.first + page.rows.length;
    this.range.textContent = this.first < 0 || total === 0 ? "" : `${formatCount(this.first + 1)}–${formatCount(last)}`;
    this.back.textContent = this.visited.length || this.first === 0 ? "‹ Back" : "‹ First";
    this.back.disabled = this.first === 0;
    this.on.disabled = !page.next;
  }

  /** What to do where nothing is found. @param {import("./api.js").Vault} vault @param {import("./state.js").State} state */
  makeEmpty(vault, state) {
    if (!isNarrowed(state)) return el("p", { class: "hint", text: "This vault holds no examples." });
    const filtered = Object.keys(state.where).length > 0;
    const why = !filtered ? "No example has these words. Try fewer, or the beginning of one with a star: rain*."
      : state.query ? "No example has these words and passes the filters." : "No example passes these filters.";
    const ways = [];
    if (state.query && filtered) ways.push(el("button", { type: "button", text: "Keep only the filters", onclick: () => this.acts.search("") }));
    if (state.query && filtered) ways.push(el("button", { type: "button", text: "Keep only the words", onclick: () => this.acts.narrow({}) }));
    ways.push(el("button", { type: "button", text: `Show all ${formatCount(vault.examples)}`, onclick: () => this.acts.clear() }));
    return el("div", { class: "corpus-empty" }, el("span", { class: "corpus-empty-sign", "aria-hidden": "true", text: "∅" }), el("p", { text: why }), ...ways);
  }

  /** @param {string} message */
  fail(message) {
    this.key = "";
    this.count.textContent = "";
    this.range.textContent = "";
    this.list.setAttribute("role", "group");
    this.list.replaceChildren(el("div", { class: "corpus-empty" }, el("p", { class: "is-error", text: message }),
      el("button", { type: "button", text: "Show all, in dataset order", onclick: () => this.acts.clear() })));
  }

  /** @param {Row} row @param {import("./api.js").Vault} vault @param {import("./state.js").State} state */
  makeRow(row, vault, state) {
    const facts = el("span", { class: "row-facts" },
      el("span", { class: "row-id", text: plainText(row.id) }),
      el("span", { class: "row-length", text: `${row.length} tokens` }));
    if (row.label !== null || row.prediction !== null) {
      const label = nameLabel(row.label, vault.gold_names);
      const prediction = row.prediction === null ? "" : ` → ${nameLabel(row.prediction, vault.label_names)}`;
      facts.append(el("span", { class: "row-label", text: row.label === null ? prediction.slice(1) : label + prediction }),
        makeVerdict(row.correct));
    }
    const measured = Object.entries(row.metrics ?? {}).filter(([name]) => name === state.sort);
    for (const [name, value] of measured) facts.append(this.makeSorted(sortTitle(name, vault), formatMetric(value)));
    if (Object.hasOwn(row.columns, state.sort.replace(/^columns\./, "")) && !(state.sort in row)) {
      const value = /** @type {import("./slice.js").Scalar} */ (row.columns[state.sort.replace(/^columns\./, "")]);
      facts.append(this.makeSorted(sortTitle(state.sort, vault), nameValue(state.sort, value, vault)));
    }
    // For the pointer only: an option holds no button. Space pins the one that is open.
    facts.append(el("span", { class: "row-pin", "aria-hidden": "true", text: "⇄", title: "Compare with this one" }));
    return el("div", {
      class: "row", role: "option", id: `row-${row.index}`, "data-index": row.index, "aria-selected": "false",
    }, ...row.text.map((text) => el("bdi", { class: "row-text", text: plainText(text) })), facts);
  }

  /** The examples after and before this one, as far as the page shows them. @param {number} example @returns {Row[]} */
  near(example) {
    const rows = this.page?.rows ?? [];
    const at = rows.findIndex(({ index }) => index === example);
    return at < 0 ? [] : [rows[at + 1], rows[at - 1]].filter((row) => row !== undefined);
  }

  /** The value that the list is sorted by. @param {string} title @param {string} value */
  makeSorted(title, value) {
    return el("span", { class: "row-sorted", title }, el("bdi", { text: value }));
  }

  /** @param {import("./state.js").State} state */
  mark({ example, pins }) {
    for (const row of this.list.querySelectorAll(".row")) {
      const on = Number(/** @type {HTMLElement} */ (row).dataset.index) === example;
      if (on && row.getAttribute("aria-selected") !== "true") row.scrollIntoView({ block: "nearest" });
      row.setAttribute("aria-selected", String(on));
      row.classList.toggle("is-pinned", pins.includes(String(/** @type {HTMLElement} */ (row).dataset.index)));
    }
    if (this.list.querySelector(`#row-${example}`)) this.list.setAttribute("aria-activedescendant", `row-${example}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  /** @param {Event} event */
  clicked(event) {
    const target = /** @type {Element} */ (event.target);
    const row = target.closest(".row");
    if (row instanceof HTMLElement && target.closest(".row-pin")) this.acts.pin(Number(row.dataset.index));
    else if (row instanceof HTMLElement) this.acts.open(Number(row.dataset.index));
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      this.acts.pinHere();
      return;
    }
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    event.stopPropagation();
    this.acts.step(event.key === "ArrowDown" ? 1 : -1);
  }

  /**
   * What is before or after this example in the list as it is searched, on the next page if need be.
   * @param {import("./api.js").Vault} vault
   * @param {import("./state.js").State} state
   * @param {1 | -1} by
   * @returns {Promise<Partial<import("./state.js").State> | null>} null at the ends
   */
  async neighbour(vault, state, by) {
    const rows = this.page?.rows ?? [];
    const at = rows.findIndex(({ index }) => index === state.example);
    if (at < 0) {
      const { place, previous, next } = await this.api.position(vault, state.example, state);
      const example = place === null ? rows[0]?.index ?? null : by > 0 ? next : previous;
      return example === null ? null : { example };
    }
    if (rows[at + by]) return { example: rows[at + by].index };
    if (by > 0 ? !this.page?.next : !this.visited.length) return null;
    const cursor = by > 0 ? this.page?.next ?? null : this.visited.at(-1) || null;
    const page = await this.api.examples(vault, state, { cursor, limit: LIMIT });
    const row = page.rows.at(by > 0 ? 0 : -1);
    return row ? { example: row.index, cursor } : null;
  }
}
