/** The head map: every layer × head of the example as a picture or by a metric's colour, to move by. */

import { el, isDark, sizeCanvas, themeColour } from "./dom.js";
import { binTokens, paintMatrix } from "./matrix.js";
import { extentOf, formatMetric, metricAbout, metricColour, metricTitle } from "./metrics.js";
import { contrastFor, css, layerColour, ramp } from "./scale.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {{go: (layer: number, head: number, add: boolean) => void,
 *   setMetric: (metric: string) => void, magnify: (layer: number, head: number) => void}} Acts
 * @typedef {{values: Float32Array, title: string, about: string}} Measured values (layer, head), flat;
 *   NaN where there is none
 * @typedef {(context: Context, signal: AbortSignal) => Promise<Float32Array | null>} Differences
 */

/** The menu's entry for pictures where something else is the default. */
const PICTURES = "pictures";

const AXIS = 20;
const HIGHEST = 300;

export class HeadMap {
  /** @param {HTMLElement} root @param {import("./api.js").Api} api @param {Acts} acts @param {Differences} differences of the examples compared */
  constructor(root, api, acts, differences) {
    this.differences = differences;
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
    this.menu = el("select", { class: "map-metric", "aria-label": "Colour of the head map" });
    this.menu.addEventListener("change", () => acts.setMetric(this.menu.value));
    this.scale = el("canvas", { "aria-hidden": "true" });
    this.ends = [el("span", { class: "map-low" }), el("span", { class: "map-high" })];
    this.legend = el("div", { class: "map-legend" }, this.ends[0], this.scale, this.ends[1]);
    /** @type {Measured | null} what is coloured; null while pictures are shown */
    this.measured = null;
    root.replaceChildren(el("header", {}, el("h2", { text: "Head map" }), this.menu), this.surface, this.legend, this.where);
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
    const pictured = "attention" in vault.arrays;
    this.root.hidden = !pictured && !vault.metrics.length;
    if (this.root.hidden) return;
    const measured = await this.measure(context, signal);
    const [frame] = pictured && !measured ? await this.api.frames(vault, example.index, `thumbnails/${stack.name}`, signal) : [null];
    signal.throwIfAborted();
    this.context = context;
    this.measured = measured;
    this.fit(context);
    this.picture = measured ? this.paintMeasured(context, measured.values) : frame && this.paint(context, frame);
    this.fillMenu(context);
    this.fillLegend();
    this.draw();
  }

  /**
   * The numbers to colour by; null for pictures.
   * @param {Context} context @param {AbortSignal} signal
   * @returns {Promise<Measured | null>}
   */
  async measure(context, signal) {
    const { vault, example, stack, state } = context;
    if (state.view === "compare" && state.metric === "") {
      const values = await this.differences(context, signal);
      if (values) return { values, title: "|B − A|", about: "mean change of a weight between tokens that both have" };
    }
    const pictured = "attention" in vault.arrays;
    const metric = vault.metrics.includes(state.metric) ? state.metric : pictured ? "" : vault.metrics[0];
    if (!metric) return null;
    const [frame] = await this.api.frames(vault, example.index, `metrics/${stack.name}`, signal);
    const count = vault.metrics.length;
    const at = vault.metrics.indexOf(metric);
    const values = Float32Array.from({ length: frame.data.length / count }, (_, cell) => frame.data[cell * count + at]);
    return { values, title: metricTitle(metric), about: metricAbout(metric) };
  }

  /** @param {Context} context */
  fillMenu({ vault, state }) {
    const compares = state.view === "compare";
    const pictured = "attention" in vault.arrays;
    const options = [
      ...(compares ? [["", "|B − A|"]] : []),
      ...(pictured ? [[compares ? PICTURES : "", "Pictures"]] : []),
      ...vault.metrics.map((name) => [name, metricTitle(name)]),
    ];
    this.menu.hidden = options.length < 2;
    const key = options.join();
    if (this.menu.dataset.key !== key) {
      this.menu.dataset.key = key;
      this.menu.replaceChildren(...options.map(([value, text]) => el("option", { value, text, title: metricAbout(value) })));
    }
    const known = options.some(([value]) => value === state.metric);
    this.menu.value = known ? state.metric : options[0]?.[0] ?? "";
    if (compares && !this.measured) this.menu.value = PICTURES;
  }

  /** The colours with the numbers at their ends. */
  fillLegend() {
    const extent = this.measured && extentOf(this.measured.values);
    this.legend.hidden = !extent;
    if (!extent) return;
    const width = Math.max(60, this.surface.clientWidth - 110);
    const target = sizeCanvas(this.scale, width, 8);
    for (let x = 0; x < width; x += 1) {
      target.fillStyle = css(metricColour(x / (width - 1)));
      target.fillRect(x, 0, 1.5, 8);
    }
    this.ends.forEach((end, n) => { end.textContent = formatMetric(extent[n]); });
    this.legend.title = `${this.measured?.title}: ${this.measured?.about}`;
  }

  /** @param {Context} context */
  fit({ stack }) {
    const width = Math.max(60, this.surface.clientWidth - AXIS);
    const room = Math.min(width / stack.heads, HIGHEST / stack.layers.length);
    this.pitch = Math.max(4, Math.min(26, room));
  }

  /** @param {Context} context @param {Float32Array} values (layer, head) */
  paintMeasured({ stack }, values) {
    const picture = el("canvas");
    const target = sizeCanvas(picture, AXIS + stack.heads * this.pitch, AXIS + stack.layers.length * this.pitch);
    const [low, high] = extentOf(values) ?? [0, 1];
    const inner = this.pitch - (this.pitch > 8 ? 2 : 0.5);
    values.forEach((value, cell) => {
      const x = AXIS + (cell % stack.heads) * this.pitch;
      const y = AXIS + Math.floor(cell / stack.heads) * this.pitch;
      if (Number.isFinite(value)) {
        target.fillStyle = css(metricColour(high > low ? (value - low) / (high - low) : 0.5));
        target.fillRect(x, y, inner, inner);
      } else {
        hatch(target, x, y, inner, inner, css(themeColour("--line-strong")));
      }
    });
    return picture;
  }

  /** All thumbnails, drawn once per example and filter. @param {Context} context @param {import("./wire.js").Frame} frame */
  paint({ stack, rows, columns, queries, keys }, frame) {
    const [, , down, across] = frame.shape;
    const dark = isDark();
    const bins = [binTokens(rows, queries.length, down), binTokens(columns, keys.length, across)];
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
      const table = ramp(background, layerColour(depth, stack.layers.length, dark), contrastFor(keys.length));
      for (let head = 0; head < stack.heads; head += 1) {
        const offset = (depth * stack.heads + head) * down * across;
        const codes = /** @type {Uint8Array} */ (frame.data);
        const pixels = paintMatrix(codes, offset, across, bins[0], bins[1], table);
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
    // Accent blue would drown among the colours of a metric.
    const mark = this.measured ? "--ink" : "--accent";
    const several = state.view === "heads" || state.view === "compare";
    const all = several && heads.length === stack.heads;
    if (several) {
      if (all) {
        target.strokeStyle = css(themeColour(mark));
        target.lineWidth = 1.5;
        target.strokeRect(AXIS - 1.5, AXIS + depth * this.pitch - 1.5, stack.heads * this.pitch + 1, this.pitch + 1);
      } else {
        for (const one of heads) frame(depth, one, mark, 1.75);
      }
    } else {
      frame(depth, head, mark, 1.75);
    }
    if (this.hovered) frame(this.hovered.depth, this.hovered.head, "--ink", 1);
    const where = this.describe();
    this.where.textContent = where;
    this.cell.textContent = where;
  }

  /** What is under the pointer, else what is shown. */
  describe() {
    const { stack, layer, depth, head, heads, state } = /** @type {Context} */ (this.context);
    if (this.hovered) return `layer ${stack.layers[this.hovered.depth]}, head ${this.hovered.head}${this.valueOf(this.hovered)}`;
    if (state.view === "model" || state.view === "neuron") return `layer ${layer}, head ${head}${this.valueOf({ depth, head })}`;
    if (heads.length === 1) return `layer ${layer}, head ${heads[0]}${this.valueOf({ depth, head: heads[0] })}`;
    if (heads.length === stack.heads) return `layer ${layer}, all heads`;
    return heads.length > 4 ? `layer ${layer}, ${heads.length} heads`
      : `layer ${layer}, heads ${heads.join(", ")}`;
  }

  /** The number of a cell, in words; nothing while pictures are shown. @param {{depth: number, head: number}} cell */
  valueOf({ depth, head }) {
    if (!this.measured || !this.context) return "";
    const value = this.measured.values[depth * this.context.stack.heads + head];
    return ` · ${this.measured.title} ${Number.isFinite(value) ? formatMetric(value) : "is not defined here"}`;
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
    const steps = {
      ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], k: [-1, 0], j: [1, 0], h: [0, -1], l: [0, 1],
    };
    const step = steps[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || (!step && event.key !== "Enter")) return;
    event.preventDefault();
    event.stopPropagation();
    const { stack, depth, head, layer } = this.context;
    if (event.key === "Enter") {
      this.acts.magnify(layer, head);
      return;
    }
    const row = Math.min(stack.layers.length - 1, Math.max(0, depth + step[0]));
    const column = Math.min(stack.heads - 1, Math.max(0, head + step[1]));
    this.acts.go(stack.layers[row], column, false);
  }
}

/**
 * Fill a box with thin diagonals: there is no number here.
 * @param {CanvasRenderingContext2D} target
 * @param {number} x @param {number} y @param {number} width @param {number} height
 * @param {string} colour
 */
export function hatch(target, x, y, width, height, colour) {
  target.save();
  target.beginPath();
  target.rect(x, y, width, height);
  target.clip();
  target.beginPath();
  for (let at = -height; at < width; at += 5) {
    target.moveTo(x + at, y + height);
    target.lineTo(x + at + height, y);
  }
  target.strokeStyle = colour;
  target.lineWidth = 0.8;
  target.stroke();
  target.restore();
}
