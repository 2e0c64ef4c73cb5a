/** One head of the model view, enlarged beside its thumbnail, with its tokens. */

import { fitTokens, TokenColumns } from "./columns.js";
import { el, isDark } from "./dom.js";
import { LineLayer } from "./linelayer.js";
import { layerColour } from "./scale.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {{close: () => void, openIn: (view: "heads" | "neuron", layer: number, head: number) => void,
 *   hover: (focus: Focus | null) => void, pick: (focus: Focus) => void}} Acts
 * @typedef {{x: number, y: number, width: number, height: number}} Box of the thumbnail, CSS pixels of the view
 */

const WIDTH = 400;
const MARGIN = 10;
const HEADER = 46;

export class Enlarged {
  /** @param {import("./api.js").Api} api @param {Acts} acts */
  constructor(api, acts) {
    this.api = api;
    this.columns = new TokenColumns({
      onHover: acts.hover,
      onPick: acts.pick,
      onScroll: () => this.scrolled(),
    });
    this.layer = new LineLayer(this.columns);
    this.title = el("h2", { class: "enlarged-title" });
    const go = (/** @type {"heads" | "neuron"} */ view) => () => {
      if (this.context) acts.openIn(view, this.context.layer, this.context.head);
    };
    this.element = el("section", { class: "enlarged", hidden: true, "aria-label": "Enlarged head" },
      el("header", {}, this.title,
        el("button", { type: "button", text: "Heads", title: "Open this head in the head view", onclick: go("heads") }),
        el("button", { type: "button", text: "Neuron", title: "Open this head in the neuron view", onclick: go("neuron") }),
        el("button", { type: "button", class: "plain", text: "✕", "aria-label": "Close", onclick: acts.close })),
      this.columns.element);
    /** @type {Focus | null} */
    this.focused = null;
  }

  /**
   * @param {Context} context
   * @param {Box} box
   * @param {HTMLElement} room the view it opens in
   * @param {AbortSignal} signal
   */
  async show(context, box, room, signal) {
    this.context = context;
    if (!context.state.enlarged) {
      this.element.hidden = true;
      return;
    }
    const { vault, example, stack, layer, head, depth, queries, keys, rows, columns } = context;
    const path = `attention/${stack.name}/${layer}/${head}`;
    const [frame] = await this.api.frames(vault, example.index, path, signal);
    this.title.textContent = `Layer ${layer}, head ${head}`;
    this.element.hidden = false;
    this.place(context, box, room);
    const { element } = this.columns;
    this.columns.lay({
      queries,
      keys,
      rows,
      columns,
      ...fitTokens(context, element.clientWidth, element.clientHeight, 0.34),
    });
    const colour = layerColour(depth, stack.layers.length, isDark());
    const codes = /** @type {Uint8Array} */ (frame.data);
    await this.layer.show({ maps: [{ codes, offset: 0, stride: frame.shape[1], colour }], rows, columns });
  }

  /** Right of the thumbnail, else left of it, never out of the room. @param {Context} context @param {Box} box @param {HTMLElement} room */
  place({ rows, columns }, box, room) {
    const width = Math.min(WIDTH, room.clientWidth - 2 * MARGIN);
    const wanted = HEADER + 20 + Math.max(rows.length, columns.length) * 22;
    const height = Math.max(160, Math.min(wanted, room.clientHeight - 2 * MARGIN));
    const right = box.x + box.width + MARGIN;
    const left = box.x - MARGIN - width;
    const x = right + width <= room.clientWidth - MARGIN ? right
      : left >= MARGIN ? left
        : box.x + box.width / 2 < room.clientWidth / 2 ? room.clientWidth - width - MARGIN : MARGIN;
    const y = Math.max(MARGIN, Math.min(box.y + box.height / 2 - height / 2, room.clientHeight - height - MARGIN));
    Object.assign(this.element.style, {
      left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px`,
    });
  }

  /** @param {Focus | null} focus @param {Focus | null} locked */
  focus(focus, locked) {
    this.focused = locked ?? focus;
    if (this.element.hidden) return;
    this.columns.setFocus(focus, locked);
    this.layer.drawFocus(this.focused);
  }

  scrolled() {
    this.layer.drawFocus(this.focused);
    void this.layer.drawInSight();
  }
}
