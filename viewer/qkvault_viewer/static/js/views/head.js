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

const WHOLE_LAYER_BYTES = 4 << 20;

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

  /**
   * Maps of the heads switched on: the whole layer in one request, so that heads come and go at once;
   * head by head where the layer would be large.
   * @param {Context} context
   * @param {AbortSignal} signal
   * @returns {Promise<import("../linelayer.js").HeadMap[]>}
   */
  async loadMaps({ vault, example, stack, layer, heads }, signal) {
    const path = `attention/${stack.name}/${layer}`;
    const size = example.length ** 2;
    const dark = isDark();
    const whole = stack.heads * size <= WHOLE_LAYER_BYTES;
    const frames = await Promise.all((whole ? [path] : heads.map((head) => `${path}/${head}`))
      .map((each) => this.api.frames(vault, example.index, each, signal)));
    return heads.map((head, n) => ({
      codes: /** @type {Uint8Array} */ (frames[whole ? 0 : n][0].data),
      offset: whole ? head * size : 0,
      stride: example.length,
      colour: headColour(head, dark),
    }));
  }

  /** @param {Context} context @param {AbortSignal} signal */
  async show(context, signal) {
    const { example, rows, columns } = context;
    const maps = await this.loadMaps(context, signal);
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
