/** The head map: every layer × head of the example as a small picture, to move by. */

import { el, isDark, sizeCanvas, themeColour } from "./dom.js";
import { binTokens, paintMatrix } from "./matrix.js";
import { contrastFor, css, layerColour, ramp } from "./scale.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {{go: (layer: number, head: number, add: boolean) => void}} Acts
 */

const AXIS = 20;
const HIGHEST = 300;

export class HeadMap {
  /** @param {HTMLElement} root @param {import("./api.js").Api} api @param {Acts} acts */
  constructor(root, api, acts) {
    this.root = root;
    this.api = api;
    this.acts = acts;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.cell = el("div", { role: "option", "aria-selected": "true", id: "map-cell", class: "offscreen" });
    this.surface = el("div", {
      class: "map-surface", role: "listbox", tabindex: "0", "aria-label": "Head map: layers down, heads across",
      "aria-activedescendant": "map-cell",
    }, this.canvas, this.cell);
    this.where = el("span", { class: "map-where" });
    root.replaceChildren(el("header", {}, el("h2", { text: "Head map" }), this.where), this.surface);
    this.surface.addEventListener("click", (event) => this.clicked(event));
    this.surface.addEventListener("pointermove", (event) => this.hover(this.cellAt(event)));
    this.surface.addEventListener("pointerleave", () => this.hover(null));
    this.surface.addEventListener("keydown", (event) => this.pressed(event));
    /** @type {{depth: number, head: number} | null} */
    this.hovered = null;
    this.pitch = 16;
  }

  /** @param {Context} context @param {AbortSignal} signal */
  async show(context, signal) {
    const { vault, example, stack } = context;
    this.root.hidden = !("attention" in vault.arrays);
    if (this.root.hidden) return;
    const [frame] = await this.api.frames(vault, example.index, `thumbnails/${stack.name}`, signal);
    this.context = context;
    this.frame = frame;
    this.picture = this.paint(context, frame);
    this.draw();
  }

  /** All thumbnails, drawn once per example and filter. @param {Context} context @param {import("./wire.js").Frame} frame */
  paint({ stack, rows, columns, example }, frame) {
    const side = frame.shape[2];
    const dark = isDark();
    const bins = [rows, columns].map((tokens) => binTokens(tokens, example.length, side));
    const width = Math.max(60, this.surface.clientWidth - AXIS);
    const room = Math.min(width / stack.heads, HIGHEST / stack.layers.length);
    this.pitch = Math.max(4, Math.min(26, room));
    const picture = el("canvas");
    const context = sizeCanvas(picture, AXIS + stack.heads * this.pitch, AXIS + stack.layers.length * this.pitch);
    context.imageSmoothingQuality = "high";
    const tile = el("canvas");
    tile.width = bins[1].length;
    tile.height = bins[0].length;
    const tileContext = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
    const background = themeColour("--cell");
    const inner = this.pitch - (this.pitch > 8 ? 2 : 0.5);
    stack.layers.forEach((_, depth) => {
      const table = ramp(background, layerColour(depth, stack.layers.length, dark), contrastFor(example.length));
      for (let head = 0; head < stack.heads; head += 1) {
        const offset = (depth * stack.heads + head) * side * side;
        const codes = /** @type {Uint8Array} */ (frame.data);
        const pixels = paintMatrix(codes, offset, side, bins[0], bins[1], table);
        tileContext.putImageData(new ImageData(pixels, tile.width, tile.height), 0, 0);
        context.drawImage(tile, AXIS + head * this.pitch, AXIS + depth * this.pitch, inner, inner);
      }
    });
    return picture;
  }

  draw() {
    if (!this.picture || !this.context) return;
    const { stack, depth, head, heads, state } = this.context;
    const size = [AXIS + stack.heads * this.pitch, AXIS + stack.layers.length * this.pitch];
    const target = sizeCanvas(this.canvas, size[0], size[1]);
    target.drawImage(this.picture, 0, 0, size[0], size[1]);
    this.drawAxes(target);
    const inner = this.pitch - (this.pitch > 8 ? 2 : 0.5);
    const frame = (/** @type {number} */ row, /** @type {number} */ column, /** @type {string} */ name, /** @type {number} */ width) => {
      target.strokeStyle = css(themeColour(name));
      target.lineWidth = width;
      target.strokeRect(AXIS + column * this.pitch - 0.75, AXIS + row * this.pitch - 0.75, inner + 1.5, inner + 1.5);
    };
    const all = state.view === "heads" && heads.length === stack.heads;
    if (state.view === "heads") {
      if (all) {
        target.strokeStyle = css(themeColour("--accent"));
        target.lineWidth = 1.5;
        target.strokeRect(AXIS - 1.5, AXIS + depth * this.pitch - 1.5, stack.heads * this.pitch + 1, this.pitch + 1);
      } else {
        for (const one of heads) frame(depth, one, "--accent", 1.5);
      }
    } else {
      frame(depth, head, "--accent", 1.5);
    }
    if (this.hovered) frame(this.hovered.depth, this.hovered.head, "--ink", 1);
    const where = this.describe();
    this.where.textContent = where;
    this.cell.textContent = where;
  }

  /** What is under the pointer, else what is shown. */
  describe() {
    const { stack, layer, head, heads, state } = /** @type {Context} */ (this.context);
    if (this.hovered) return `layer ${stack.layers[this.hovered.depth]}, head ${this.hovered.head}`;
    if (state.view !== "heads") return `layer ${layer}, head ${head}`;
    if (heads.length === stack.heads) return `layer ${layer}, all heads`;
    return heads.length > 4 ? `layer ${layer}, ${heads.length} heads`
      : `layer ${layer}, head${heads.length > 1 ? "s" : ""} ${heads.join(", ")}`;
  }

  /** @param {CanvasRenderingContext2D} target */
  drawAxes(target) {
    const { stack } = /** @type {Context} */ (this.context);
    const every = Math.max(1, Math.ceil(15 / this.pitch));
    target.fillStyle = css(themeColour("--muted"));
    target.font = `10px ${getComputedStyle(document.body).fontFamily}`;
    target.textBaseline = "middle";
    target.textAlign = "center";
    for (let head = 0; head < stack.heads; head += every) {
      target.fillText(String(head), AXIS + (head + 0.5) * this.pitch - 1, AXIS - 9);
    }
    target.textAlign = "right";
    for (let depth = 0; depth < stack.layers.length; depth += every) {
      target.fillText(String(stack.layers[depth]), AXIS - 6, AXIS + (depth + 0.5) * this.pitch - 0.5);
    }
  }

  /** @param {MouseEvent} event @returns {{depth: number, head: number} | null} */
  cellAt(event) {
    if (!this.context) return null;
    const box = this.canvas.getBoundingClientRect();
    const head = Math.floor((event.clientX - box.left - AXIS) / this.pitch);
    const depth = Math.floor((event.clientY - box.top - AXIS) / this.pitch);
    const { stack } = this.context;
    const inside = head >= 0 && head < stack.heads && depth >= 0 && depth < stack.layers.length;
    return inside ? { depth, head } : null;
  }

  /** @param {{depth: number, head: number} | null} cell */
  hover(cell) {
    if (cell?.depth === this.hovered?.depth && cell?.head === this.hovered?.head) return;
    this.hovered = cell;
    this.draw();
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const cell = this.cellAt(event);
    if (cell && this.context) this.acts.go(this.context.stack.layers[cell.depth], cell.head, event.shiftKey);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (!this.context) return;
    /** @type {Record<string, [number, number]>} */
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const { stack, depth, head } = this.context;
    const row = Math.min(stack.layers.length - 1, Math.max(0, depth + step[0]));
    const column = Math.min(stack.heads - 1, Math.max(0, head + step[1]));
    this.acts.go(stack.layers[row], column, false);
  }
}
