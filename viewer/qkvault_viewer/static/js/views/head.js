/** The attention-head view: all heads of one layer as lines between the tokens. */

import { fitTokens, TokenColumns } from "../columns.js";
import { isDark } from "../dom.js";
import { LineLayer } from "../linelayer.js";
import { headColour } from "../scale.js";

/**
 * @typedef {import("../context.js").Context} Context
 * @typedef {import("../state.js").Focus} Focus
 * @typedef {import("../lines.js").Grid} Grid
 * @typedef {{hover: (focus: Focus | null) => void, pick: (focus: Focus) => void}} Acts
 */

export class HeadView {
  /** Arrays of the vault without which there is nothing to see. @type {readonly string[]} */
  static needs = ["attention"];

  /** @param {HTMLElement} root @param {import("../api.js").Api} api @param {Acts} acts */
  constructor(root, api, acts) {
    this.root = root;
    this.api = api;
    this.columns = new TokenColumns({
      onHover: acts.hover,
      onPick: acts.pick,
      onScroll: () => this.scrolled(),
    });
    this.layer = new LineLayer(this.columns);
    root.append(this.columns.element);
    /** @type {Focus | null} */
    this.focused = null;
  }

  /** @param {Context} context @param {AbortSignal} signal */
  async show(context, signal) {
    const { vault, example, stack, layer, heads, rows, columns } = context;
    const path = `attention/${stack.name}/${layer}`;
    const [frame] = await this.api.frames(vault, example.index, path, signal);
    const codes = /** @type {Uint8Array} */ (frame.data);
    const [, queries, keys] = frame.shape;
    const dark = isDark();
    const maps = heads.map((head) => ({
      codes, offset: head * queries * keys, stride: keys, colour: headColour(head, dark),
    }));
    const { element } = this.columns;
    this.columns.lay({
      labels: context.labels,
      special: example.special,
      segments: example.segments,
      rows,
      columns,
      ...fitTokens(context, element.clientWidth, element.clientHeight),
    });
    await this.layer.show({ maps, rows, columns });
  }

  /** @param {Focus | null} focus @param {Focus | null} locked */
  focus(focus, locked) {
    this.focused = locked ?? focus;
    this.columns.setFocus(focus, locked);
    this.layer.drawFocus(this.focused);
  }

  scrolled() {
    this.layer.drawFocus(this.focused);
    void this.layer.drawInSight();
  }
}
