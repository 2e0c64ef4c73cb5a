/** One example of a comparison: heads of a layer as lines between its tokens. */

import { fitTokens, TokenColumns } from "./columns.js";
import { el } from "./dom.js";
import { LineLayer } from "./linelayer.js";
import { loadMaps } from "./maps.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {import("./comparison.js").Alignments} Alignments
 * @typedef {{queries: Set<number | null>, keys: Set<number | null>}} Replaced
 * @typedef {{hover: (focus: Focus | null) => void, pick: (focus: Focus) => void}} Acts
 */

export class ComparePane {
  /** @param {string} letter @param {import("./api.js").Api} api @param {Acts} acts */
  constructor(letter, api, acts) {
    this.api = api;
    /** @type {Alignments | null} see {@link show} */
    this.alignment = null;
    this.columns = new TokenColumns({
      onHover: acts.hover,
      onPick: acts.pick,
      onScroll: () => this.scrolled(),
      decorate: (row, side, token) => this.decorate(row, side === "left" ? "queries" : "keys", token),
    });
    this.layer = new LineLayer(this.columns);
    this.head = el("header", { class: "compare-head" });
    this.area = el("div", { class: "compare-area" }, this.columns.element);
    this.element = el("section", { class: "compare-pane", "aria-label": `Example ${letter}` }, this.head, this.area);
    /** @type {Focus | null} */
    this.focused = null;
    /** @type {Replaced} see {@link show} */
    this.replaced = { queries: new Set(), keys: new Set() };
    this.shown = false;
  }

  /** @param {HTMLElement} row @param {"queries" | "keys"} axis @param {number} token */
  decorate(row, axis, token) {
    if (this.alignment && this.alignment[axis].ofB[token] < 0) row.classList.add("is-unmatched");
    else if (this.replaced[axis].has(token)) row.classList.add("is-replaced");
  }

  /**
   * @param {Context} context
   * @param {Alignments | null} alignment whose B is this example; null where no partner is looked for
   * @param {Replaced} replaced tokens that stand where another example has another
   * @param {AbortSignal} signal
   */
  async show(context, alignment, replaced, signal) {
    const { queries, keys, rows, columns } = context;
    const maps = await loadMaps(this.api, context, signal);
    this.alignment = alignment;
    this.replaced = replaced;
    this.area.replaceChildren(this.columns.element);
    this.columns.lay({
      queries, keys, rows, columns,
      ...fitTokens(context, this.area.clientWidth, this.area.clientHeight, 0.34),
    });
    this.columns.element.scrollTop = Math.min(this.columns.element.scrollTop, this.columns.contentHeight);
    await this.layer.show({ maps, rows, columns });
    this.shown = true;
  }

  /** @param {string} trouble */
  refuse(trouble) {
    this.shown = false;
    this.area.replaceChildren(el("p", { class: "hint is-error", text: trouble }));
  }

  /** @param {Focus | null} focus @param {Focus | null} locked */
  focus(focus, locked) {
    if (!this.shown) return;
    this.focused = locked ?? focus;
    this.columns.setFocus(focus, locked);
    this.layer.drawFocus(this.focused);
  }

  scrolled() {
    this.layer.drawFocus(this.focused);
    void this.layer.drawInSight();
  }
}
