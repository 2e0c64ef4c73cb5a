/** One example of a comparison: heads of a layer as lines between its tokens. */

import { fitTokens, TokenColumns } from "./columns.js";
import { el, isDark } from "./dom.js";
import { LineLayer } from "./linelayer.js";
import { headColour } from "./scale.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {import("./align.js").Alignment} Alignment
 * @typedef {{hover: (focus: Focus | null) => void, pick: (focus: Focus) => void}} Acts
 */

const WHOLE_LAYER_BYTES = 4 << 20;

export class ComparePane {
  /** @param {string} letter @param {import("./api.js").Api} api @param {Acts} acts */
  constructor(letter, api, acts) {
    this.api = api;
    /** @type {Alignment | null} see {@link show} */
    this.alignment = null;
    this.columns = new TokenColumns({
      onHover: acts.hover,
      onPick: acts.pick,
      onScroll: () => this.scrolled(),
      decorate: (row, _, token) => this.decorate(row, token),
    });
    this.layer = new LineLayer(this.columns);
    this.head = el("header", { class: "compare-head" });
    this.area = el("div", { class: "compare-area" }, this.columns.element);
    this.element = el("section", { class: "compare-pane", "aria-label": `Example ${letter}` }, this.head, this.area);
    /** @type {Focus | null} */
    this.focused = null;
    /** @type {Set<number | null>} see {@link show} */
    this.replaced = new Set();
    this.shown = false;
  }

  /** @param {HTMLElement} row @param {number} token */
  decorate(row, token) {
    if (this.alignment && this.alignment.ofB[token] < 0) row.classList.add("is-unmatched");
    else if (this.replaced.has(token)) row.classList.add("is-replaced");
  }

  /**
   * @param {Context} context
   * @param {Alignment | null} alignment whose B is this example; null where no partner is looked for
   * @param {Iterable<number | null>} replaced tokens that stand where another example has another
   * @param {AbortSignal} signal
   */
  async show(context, alignment, replaced, signal) {
    const { example, rows, columns } = context;
    const maps = await this.loadMaps(context, signal);
    this.alignment = alignment;
    this.replaced = new Set(replaced);
    this.area.replaceChildren(this.columns.element);
    this.columns.lay({
      labels: context.labels, special: example.special, segments: example.segments, rows, columns,
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

  /** @param {Context} context @param {AbortSignal} signal */
  async loadMaps({ vault, example, stack, layer, heads }, signal) {
    const path = `attention/${stack.name}/${layer}`;
    const size = example.length ** 2;
    const whole = stack.heads * size <= WHOLE_LAYER_BYTES;
    const frames = await Promise.all((whole ? [path] : heads.map((head) => `${path}/${head}`))
      .map((each) => this.api.frames(vault, example.index, each, signal)));
    const dark = isDark();
    return heads.map((head, n) => ({
      codes: /** @type {Uint8Array} */ (frames[whole ? 0 : n][0].data),
      offset: whole ? head * size : 0,
      stride: example.length,
      colour: headColour(head, dark),
    }));
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
