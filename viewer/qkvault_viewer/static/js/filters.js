/** What narrows and orders the corpus list: filters made of the vault's columns, and the sort menu. */

import { el } from "./dom.js";
import { metricTitle } from "./metrics.js";
import { formatCount } from "./scale.js";
import {
  describeCondition, isNarrowed, metricColumn, parseMetricColumn, setBound, toggleValue,
} from "./slice.js";
import { plainText } from "./tokens.js";

/**
 * @typedef {import("./api.js").Vault} Vault
 * @typedef {import("./state.js").State} State
 * @typedef {import("./slice.js").Column} Column
 * @typedef {import("./slice.js").Where} Where
 * @typedef {import("./slice.js").Scalar} Scalar
 * @typedef {{narrow: (where: Where) => void, search: (query: string) => void,
 *   order: (sort: string, descending: boolean) => void, clear: () => void}} Acts
 */

const TITLES = /** @type {Record<string, string>} */ ({
  index: "Dataset order", id: "Id", text: "Text", length: "Tokens", label: "Label",
  prediction: "Prediction", correct: "Verdict",
});
const UNFILTERED = ["index", "id", "text"];
const FEW = 12;

/** @param {string} column */
export function columnTitle(column) {
  return TITLES[column] ?? plainText(column.replace(/^columns\./, ""));
}

/**
 * A column's value as a person says it.
 * @param {string} column @param {Scalar | undefined} value @param {Vault} vault
 */
export function nameValue(column, value, vault) {
  if (value === null || value === undefined) return "none";
  if (column === "correct") return value ? "right" : "wrong";
  const names = column === "label" ? vault.gold_names : column === "prediction" ? vault.label_names : [];
  if (typeof value === "number" && names[value]) return plainText(names[value]);
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  return plainText(String(value)) || "(empty)";
}

/** @param {string} name @param {Vault} vault */
export function sortTitle(name, vault) {
  const measured = parseMetricColumn(name, vault.stacks[0].name);
  if (!measured || !vault.metrics.includes(measured.metric)) return columnTitle(name || "index");
  const stack = measured.stack === vault.stacks[0].name ? "" : `${measured.stack} `;
  return `${metricTitle(measured.metric)} · ${stack}layer ${measured.layer} head ${measured.head}`;
}

export class Filters {
  /** @param {Acts} acts */
  constructor(acts) {
    this.acts = acts;
    /** @type {Column[]} */
    this.columns = [];
    /** @type {{vault: Vault, state: State, place: {stack: string, layer: number, head: number}} | null} */
    this.at = null;
    this.open = el("button", {
      type: "button", class: "filter-open", "aria-expanded": "false", "aria-controls": "filter-panel", text: "Filter",
      onclick: () => this.toggle(),
    });
    this.sort = el("select", { id: "sort", "aria-label": "Sort by" });
    this.sort.addEventListener("change", () => this.chosen());
    this.turn = el("button", { type: "button", class: "sort-turn", onclick: () => this.turned() });
    this.layer = el("select", { "aria-label": "Layer of the head metric" });
    this.head = el("select", { "aria-label": "Head of the head metric" });
    for (const menu of [this.layer, this.head]) menu.addEventListener("change", () => this.chosen());
    this.whose = el("div", { class: "sort-head" }, "layer", this.layer, "head", this.head);
    this.chips = el("div", { class: "filter-chips", role: "group", "aria-label": "Filters in force" });
    this.panel = el("div", { class: "filter-panel", id: "filter-panel", role: "group", "aria-label": "Filters", hidden: true });
    this.elements = [
      el("div", { class: "corpus-bar" }, this.open, el("span", { class: "sort-menu" }, this.sort, this.turn)),
      this.whose, this.panel, this.chips,
    ];
  }

  toggle() {
    this.panel.hidden = !this.panel.hidden;
    this.open.setAttribute("aria-expanded", String(!this.panel.hidden));
    this.fillPanel();
    if (!this.panel.hidden) /** @type {HTMLElement | null} */ (this.panel.querySelector("button, input, select"))?.focus();
  }

  /**
   * @param {Vault} vault @param {State} state
   * @param {{stack: {name: string}, layer: number, head: number}} place what the page looks at
   * @param {Column[]} columns
   */
  show(vault, state, place, columns) {
    this.at = { vault, state, place: { stack: place.stack.name, layer: place.layer, head: place.head } };
    this.columns = columns;
    const count = Object.keys(state.where).length;
    this.open.textContent = count ? `Filter · ${count}` : "Filter";
    this.open.classList.toggle("is-on", count > 0);
    this.fillSort();
    this.fillChips();
    this.fillPanel();
  }

  fillSort() {
    if (!this.at) return;
    const { vault, state, place } = this.at;
    const measured = parseMetricColumn(state.sort, vault.stacks[0].name);
    const isMeasured = measured !== null && vault.metrics.includes(measured.metric);
    const key = vault.base + this.columns.length;
    if (this.sort.dataset.key !== key) {
      this.sort.dataset.key = key;
      const plain = this.columns.filter(({ present }) => present > 0)
        .map(({ name }) => el("option", { value: name === "index" ? "" : name, text: columnTitle(name) }));
      if (!plain.length) plain.push(el("option", { value: "", text: columnTitle("index") }));
      const heads = vault.metrics.map((name) => el("option", { value: `${name}[`, text: metricTitle(name) }));
      this.sort.replaceChildren(...plain, ...(heads.length ? [el("optgroup", { label: "Of one head" }, ...heads)] : []));
    }
    this.sort.value = isMeasured ? `${measured.metric}[` : state.sort;
    this.turn.textContent = state.descending ? "↓" : "↑";
    this.turn.title = state.descending ? "Highest first" : "Lowest first";
    this.turn.setAttribute("aria-label", `${this.turn.title}; turn around`);
    this.whose.hidden = !isMeasured;
    const stack = vault.stacks.find(({ name }) => name === (isMeasured ? measured.stack : place.stack)) ?? vault.stacks[0];
    fillNumbers(this.layer, stack.layers, isMeasured ? measured.layer : place.layer);
    fillNumbers(this.head, Array.from({ length: stack.heads }, (_, head) => head), isMeasured ? measured.head : place.head);
  }

  /** The sort menu, or the layer or head beside it, has another value. */
  chosen() {
    if (!this.at) return;
    const { vault, state, place } = this.at;
    const { value } = this.sort;
    if (!value.endsWith("[")) {
      this.acts.order(value, false);
      return;
    }
    const before = parseMetricColumn(state.sort, vault.stacks[0].name);
    const measured = { stack: before?.stack ?? place.stack, metric: value.slice(0, -1), layer: Number(this.layer.value), head: Number(this.head.value) };
    this.acts.order(metricColumn(measured, vault.stacks[0].name), before ? state.descending : true);
  }

  turned() {
    if (this.at) this.acts.order(this.at.state.sort, !this.at.state.descending);
  }

  fillChips() {
    if (!this.at) return;
    const { vault, state } = this.at;
    const chips = Object.entries(state.where).map(([name, condition]) => {
      const title = parseMetricColumn(name, vault.stacks[0].name) ? sortTitle(name, vault) : columnTitle(name);
      const text = describeCondition(title, condition, (value) => nameValue(name, value, vault));
      const { [name]: _, ...rest } = state.where;
      return el("button", {
        type: "button", class: "filter-chip", "aria-label": `Remove the filter ${text}`, title: text,
        onclick: () => this.acts.narrow(rest),
      }, el("bdi", { text }), el("span", { "aria-hidden": "true", text: "✕" }));
    });
    if (isNarrowed(state) && chips.length) {
      chips.push(el("button", { type: "button", class: "filter-clear plain", text: "Clear all", onclick: () => this.acts.clear() }));
    }
    this.chips.replaceChildren(...chips);
  }

  fillPanel() {
    if (this.panel.hidden || !this.at) return;
    const held = document.activeElement instanceof HTMLElement && this.panel.contains(document.activeElement)
      ? document.activeElement.dataset.control : undefined;
    const groups = this.columns.filter(({ name, present }) => present > 0 && !UNFILTERED.includes(name))
      .map((column) => this.makeGroup(column)).filter((group) => group !== null);
    const metric = this.makeMetricGroup();
    if (metric) groups.push(metric);
    this.panel.replaceChildren(...groups);
    for (const control of this.panel.querySelectorAll("[data-control]")) {
      const element = /** @type {HTMLElement} */ (control);
      if (held && element.dataset.control === held) element.focus();
    }
  }

  /** @param {Column} column */
  makeGroup(column) {
    const { name, type, distinct } = column;
    const isNumber = type === "integer" || type === "number";
    const control = distinct && distinct.length <= FEW ? this.makeValues(column)
      : isNumber ? this.makeRange(name, column.min, column.max)
        : distinct ? this.makeMenu(column) : null;
    return control && el("fieldset", {}, el("legend", { text: columnTitle(name) }), control);
  }

  /** @param {Column} column @returns {[Scalar, number][]} */
  valuesOf({ distinct, present }) {
    const lacking = (this.at?.vault.examples ?? 0) - present;
    return [...(distinct ?? []), ...(lacking > 0 ? [/** @type {[Scalar, number]} */ ([null, lacking])] : [])];
  }

  /** @param {Column} column */
  makeValues(column) {
    const { vault, state } = /** @type {NonNullable<typeof this.at>} */ (this.at);
    const chosen = state.where[column.name];
    return el("div", { class: "filter-values" }, ...this.valuesOf(column).map(([value, count]) => el("button", {
      type: "button",
      "data-control": `${column.name} ${JSON.stringify(value)}`,
      "aria-pressed": String(Array.isArray(chosen) && chosen.includes(value)),
      onclick: () => this.acts.narrow(toggleValue(state.where, column.name, value)),
    }, el("bdi", { text: nameValue(column.name, value, vault) }), el("small", { text: formatCount(count) }))));
  }

  /** @param {Column} column */
  makeMenu(column) {
    const { vault, state } = /** @type {NonNullable<typeof this.at>} */ (this.at);
    const chosen = state.where[column.name];
    const values = this.valuesOf(column);
    const menu = el("select", { "aria-label": columnTitle(column.name), "data-control": column.name },
      el("option", { value: "", text: Array.isArray(chosen) ? "One more…" : "Any" }),
      ...values.map(([value, count], n) => el("option", {
        value: n,
        text: `${Array.isArray(chosen) && chosen.includes(value) ? "✓ " : ""}${nameValue(column.name, value, vault)} (${formatCount(count)})`,
      })));
    menu.addEventListener("change", () => {
      if (menu.value) this.acts.narrow(toggleValue(state.where, column.name, values[Number(menu.value)][0]));
    });
    return menu;
  }

  /** @param {string} name @param {Scalar} low @param {Scalar} high */
  makeRange(name, low, high) {
    const { state } = /** @type {NonNullable<typeof this.at>} */ (this.at);
    const range = state.where[name];
    const ends = /** @type {const} */ (["min", "max"]).map((end) => {
      const value = Array.isArray(range) ? undefined : range?.[end];
      const hint = end === "min" ? low : high;
      const field = el("input", {
        type: "text", inputmode: "decimal", autocomplete: "off", "data-control": `${name} ${end}`,
        "aria-label": `${columnTitle(name)}, ${end === "min" ? "at least" : "at most"}`,
        placeholder: typeof hint === "number" ? String(Number(hint.toPrecision(4))) : "",
      });
      field.value = value === undefined ? "" : String(value);
      field.addEventListener("change", () => {
        const text = field.value.trim().replace(",", ".");
        const number = text === "" ? null : Number(text);
        if (number === null || Number.isFinite(number)) this.acts.narrow(setBound(state.where, name, end, number));
        else field.value = value === undefined ? "" : String(value);
      });
      return field;
    });
    return el("div", { class: "filter-range" }, ends[0], el("span", { text: "to" }), ends[1]);
  }

  /** The head metric that the list is sorted by can be bounded too. */
  makeMetricGroup() {
    const { vault, state } = /** @type {NonNullable<typeof this.at>} */ (this.at);
    const measured = parseMetricColumn(state.sort, vault.stacks[0].name);
    if (!vault.metrics.length) return null;
    if (!measured) {
      return el("p", { class: "hint filter-hint", text: "Sort by a head metric to filter by it as well." });
    }
    return el("fieldset", {}, el("legend", { text: sortTitle(state.sort, vault) }), this.makeRange(state.sort, null, null));
  }
}

/** @param {HTMLSelectElement} menu @param {readonly number[]} numbers @param {number} value */
function fillNumbers(menu, numbers, value) {
  const key = numbers.join();
  if (menu.dataset.key !== key) {
    menu.dataset.key = key;
    menu.replaceChildren(...numbers.map((number) => el("option", { value: number, text: number })));
  }
  menu.value = String(value);
}
