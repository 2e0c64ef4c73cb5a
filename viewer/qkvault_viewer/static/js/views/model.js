/** The model view: every head of every layer, small, in one grid; one of them enlarged. */

import { breathe, el, isDark, scaleCanvas, sizeCanvas, themeColour } from "../dom.js";
import { Enlarged } from "../enlarged.js";
import { binTokens, paintMatrix } from "../matrix.js";
import { linesFigure, rasterFigure, TAKEN_DENSITY, thumbnailNumbers, weightNumbers } from "../taken.js";
import { contrastFor, css, layerColour, ramp } from "../scale.js";
import { thumbnailLines } from "../thumbnails.js";

/**
 * @typedef {import("../context.js").Context} Context
 * @typedef {import("../state.js").Focus} Focus
 * @typedef {{enlarge: (layer: number, head: number) => void,
 *   frame: (layer: number, head: number) => void, close: () => void,
 *   openIn: (view: "heads" | "neuron", layer: number, head: number) => void,
 *   hover: (focus: Focus | null) => void, pick: (focus: Focus) => void}} Acts
 * @typedef {{left: number, top: number, cell: number, high: number, gap: number}} Grid geometry, CSS pixels
 */

const AXIS = 30;
const SLICE_MS = 12;
/** A thumbnail that the pointer rests on is likely to be enlarged. */
const RESTING_MS = 80;
const MOST_AHEAD = 1 << 20;
/** Longer texts are drawn as matrices unless asked otherwise: their lines fill a thumbnail solid. */
const MOST_LINES = 32;

/** @param {Context} context @returns {"lines" | "matrix"} */
export function drawnAs({ state, queries, keys }) {
  if (state.draw !== "auto") return state.draw;
  if (state.view === "heads") return "lines";
  return Math.max(queries.length, keys.length) <= MOST_LINES ? "lines" : "matrix";
}

export class ModelView {
  /** @type {readonly string[]} */
  static needs = ["attention"];

  /** @param {HTMLElement} root @param {import("../api.js").Api} api @param {Acts} acts */
  constructor(root, api, acts) {
    this.root = root;
    this.api = api;
    this.acts = acts;
    this.canvas = el("canvas", { class: "grid-canvas", "aria-hidden": "true" });
    this.marks = el("canvas", { class: "grid-marks", "aria-hidden": "true" });
    this.cursor = el("div", { role: "option", "aria-selected": "true", id: "model-cell", class: "offscreen" });
    this.surface = el("div", {
      class: "grid-surface", role: "listbox", tabindex: "0", "aria-label": "Layers and heads",
      "aria-activedescendant": "model-cell",
    }, this.canvas, this.marks, this.cursor);
    this.caption = el("p", { class: "grid-caption" });
    this.enlarged = new Enlarged(api, {
      close: acts.close, openIn: acts.openIn, hover: acts.hover, pick: acts.pick,
    });
    this.columns = this.enlarged.columns;
    root.append(this.surface, this.caption, this.enlarged.element);
    /** @type {{depth: number, head: number} | null} */
    this.hovered = null;
    this.at = { depth: 0, head: 0 };
    /** Bins of the thumbnails, down and across. */
    this.sides = [0, 0];
    this.listen();
  }

  listen() {
    this.surface.addEventListener("pointermove", (event) => this.hover(this.cellAt(event)));
    this.surface.addEventListener("pointerleave", () => this.hover(null));
    this.surface.addEventListener("click", (event) => this.choose(this.cellAt(event)));
    this.surface.addEventListener("dblclick", (event) => {
      const cell = this.cellAt(event);
      if (cell && this.context) this.acts.openIn("heads", this.context.stack.layers[cell.depth], cell.head);
    });
    this.surface.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** @param {Context} context @param {AbortSignal} signal */
  async show(context, signal) {
    const { vault, example, stack } = context;
    const path = `thumbnails/${stack.name}`;
    const [frame] = await this.api.frames(vault, example.index, path, signal);
    this.context = context;
    this.sides = [frame.shape[2], frame.shape[3]];
    this.codes = /** @type {Uint8Array} */ (frame.data);
    this.at = { depth: context.depth, head: context.head };
    this.place(context);
    this.drawMarks();
    await this.draw(/** @type {CanvasRenderingContext2D} */ (this.context2d), devicePixelRatio || 1, context, signal);
    const box = this.cellBox(this.at);
    box.x += this.surface.offsetLeft - this.root.scrollLeft;
    box.y += this.surface.offsetTop - this.root.scrollTop;
    await this.enlarged.show(context, box, this.root, signal);
  }

  /** Fit the grid into the window. Lines may use spare height; matrices stay square. @param {Context} context */
  place(context) {
    const { layers, heads } = { layers: context.stack.layers.length, heads: context.stack.heads };
    const width = (this.root.clientWidth - AXIS - 12) / heads;
    const height = (this.root.clientHeight - 28 - AXIS) / layers;
    const pitch = Math.max(10, Math.min(210, Math.floor(Math.min(width, height))));
    const gap = pitch >= 40 ? 5 : pitch >= 20 ? 3 : 1;
    const stretch = drawnAs(context) === "lines" ? 1.45 : 1;
    const down = Math.max(pitch, Math.floor(Math.min(height, pitch * stretch)));
    /** @type {Grid} */
    this.grid = { left: AXIS, top: AXIS - 6, cell: pitch - gap, high: down - gap, gap };
    this.size = { width: AXIS + heads * pitch + 4, height: AXIS + layers * down };
    this.context2d = sizeCanvas(this.canvas, this.size.width, this.size.height);
    const { left, top, cell, high } = this.grid;
    this.surface.dataset.geometry = [left, top, cell, high, gap].join(" ");
    this.surface.style.width = `${this.size.width}px`;
    this.surface.style.height = `${this.size.height}px`;
  }

  /** Where a cell lies on the canvas, CSS pixels. @param {{depth: number, head: number}} cell */
  cellBox({ depth, head }) {
    const { left, top, cell, high, gap } = /** @type {Grid} */ (this.grid);
    return { x: left + head * (cell + gap), y: top + depth * (high + gap), width: cell, height: high };
  }

  /**
   * Cell by cell, leaving the browser room to answer.
   * @param {CanvasRenderingContext2D} target
   * @param {number} density its pixels per CSS pixel
   * @param {Context} context @param {AbortSignal} [signal]
   */
  async draw(target, density, context, signal) {
    const { stack, rows, columns, queries, keys } = context;
    const [down, across] = this.sides;
    const bins = { rows: binTokens(rows, queries.length, down), columns: binTokens(columns, keys.length, across) };
    const paint = drawnAs(context) === "lines" ? this.linePainter(bins, Math.min(2, density))
      : this.matrixPainter(bins, contrastFor(keys.length), target, density);
    const background = themeColour("--cell");
    const codes = /** @type {Uint8Array} */ (this.codes);
    this.drawAxes(target, context);
    let since = performance.now();
    for (let depth = 0; depth < stack.layers.length; depth += 1) {
      const colour = layerColour(depth, stack.layers.length, isDark());
      for (let head = 0; head < stack.heads; head += 1) {
        const { x, y, width, height } = this.cellBox({ depth, head });
        target.fillStyle = css(background);
        target.fillRect(x, y, width, height);
        const grid = { codes, offset: (depth * stack.heads + head) * down * across, stride: across };
        target.drawImage(paint(grid, colour, background), x, y, width, height);
        if (performance.now() - since > SLICE_MS) {
          await breathe();
          signal?.throwIfAborted();
          since = performance.now();
        }
      }
    }
  }

  /**
   * @param {{rows: number[], columns: number[]}} bins
   * @param {number} contrast
   * @param {CanvasRenderingContext2D} target @param {number} density
   * @returns {(grid: import("../lines.js").Grid, colour: import("../scale.js").Rgb, background: import("../scale.js").Rgb) => HTMLCanvasElement}
   */
  matrixPainter({ rows, columns }, contrast, target, density) {
    const tile = el("canvas");
    tile.width = columns.length;
    tile.height = rows.length;
    const context = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
    const shrinks = /** @type {Grid} */ (this.grid).cell * density < columns.length;
    target.imageSmoothingEnabled = shrinks;
    target.imageSmoothingQuality = "high";
    return (grid, colour, background) => {
      const pixels = paintMatrix(grid.codes, grid.offset, grid.stride, rows, columns, ramp(background, colour, contrast));
      context.putImageData(new ImageData(pixels, columns.length, rows.length), 0, 0);
      return tile;
    };
  }

  /**
   * @param {{rows: number[], columns: number[]}} bins
   * @param {number} density
   * @returns {(grid: import("../lines.js").Grid, colour: import("../scale.js").Rgb) => HTMLCanvasElement}
   */
  linePainter(bins, density) {
    const { cell, high } = /** @type {Grid} */ (this.grid);
    const [width, height] = [Math.round(cell * density), Math.round(high * density)];
    const tile = el("canvas");
    tile.width = width;
    tile.height = height;
    const context = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
    const paint = thumbnailLines(bins, width, height, density);
    return (grid, colour) => {
      context.putImageData(new ImageData(paint(grid, colour), width, height), 0, 0);
      return tile;
    };
  }

  /** @param {CanvasRenderingContext2D} target @param {Context} context */
  drawAxes(target, { stack }) {
    const { cell, high, gap, left, top } = /** @type {Grid} */ (this.grid);
    const every = cell + gap >= 15 ? 1 : Math.ceil(15 / (cell + gap));
    target.fillStyle = css(themeColour("--muted"));
    target.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    target.textAlign = "center";
    target.textBaseline = "alphabetic";
    for (let head = 0; head < stack.heads; head += every) {
      target.fillText(String(head), left + head * (cell + gap) + cell / 2, top - 7);
    }
    target.textAlign = "right";
    target.textBaseline = "middle";
    stack.layers.forEach((layer, depth) => {
      if (depth % every === 0) target.fillText(String(layer), left - 8, top + depth * (high + gap) + high / 2);
    });
  }

  drawMarks() {
    if (!this.context || !this.size) return;
    const target = sizeCanvas(this.marks, this.size.width, this.size.height);
    const { enlarged } = this.context.state;
    const frame = (/** @type {{depth: number, head: number}} */ cell, /** @type {string} */ name, /** @type {number} */ width) => {
      const box = this.cellBox(cell);
      target.strokeStyle = css(themeColour(name));
      target.lineWidth = width;
      target.strokeRect(box.x - 1, box.y - 1, box.width + 2, box.height + 2);
    };
    if (this.hovered) frame(this.hovered, "--muted", 1);
    frame(this.at, "--accent", enlarged ? 2.5 : 1.5);
    const { stack } = this.context;
    const { depth, head } = this.hovered ?? this.at;
    this.cursor.textContent = `Layer ${stack.layers[depth]}, head ${head}`;
    this.caption.textContent = `Layers down, heads across · layer ${stack.layers[depth]}, head ${head}`
      + (this.hovered ? " · click to enlarge, double-click for the head view" : "");
  }

  /** @param {MouseEvent} event @returns {{depth: number, head: number} | null} */
  cellAt(event) {
    if (!this.context || !this.grid) return null;
    const { left, top, cell, high, gap } = this.grid;
    const box = this.surface.getBoundingClientRect();
    const head = Math.floor((event.clientX - box.left - left) / (cell + gap));
    const depth = Math.floor((event.clientY - box.top - top) / (high + gap));
    const { stack } = this.context;
    const inside = head >= 0 && head < stack.heads && depth >= 0 && depth < stack.layers.length;
    return inside ? { depth, head } : null;
  }

  /** @param {{depth: number, head: number} | null} cell */
  hover(cell) {
    if (cell?.depth === this.hovered?.depth && cell?.head === this.hovered?.head) return;
    this.hovered = cell;
    this.drawMarks();
    clearTimeout(this.resting);
    if (cell) this.resting = setTimeout(() => this.fetchAhead(cell), RESTING_MS);
  }

  /** What a click on this cell would need; whoever needs it is told what is wrong. @param {{depth: number, head: number}} cell */
  fetchAhead({ depth, head }) {
    if (!this.context) return;
    const { vault, example, stack, queries, keys } = this.context;
    if (queries.length * keys.length > MOST_AHEAD) return;
    this.api.frames(vault, example.index, `attention/${stack.name}/${stack.layers[depth]}/${head}`).catch(() => {});
  }

  /** Enlarge, or close what is enlarged already. @param {{depth: number, head: number} | null} cell */
  choose(cell) {
    if (!cell || !this.context) return;
    const { state, stack } = this.context;
    const same = state.enlarged && cell.depth === this.at.depth && cell.head === this.at.head;
    if (same) this.acts.close();
    else this.acts.enlarge(stack.layers[cell.depth], cell.head);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!this.context || event.ctrlKey || event.metaKey || event.altKey || (!by && event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    event.stopPropagation();
    if (!by) {
      this.choose(this.at);
      return;
    }
    const { stack } = this.context;
    const within = (/** @type {number} */ at, /** @type {number} */ count) => Math.max(0, Math.min(count - 1, at));
    this.acts.frame(stack.layers[within(this.at.depth + by[0], stack.layers.length)], within(this.at.head + by[1], stack.heads));
  }

  /** @param {Focus | null} focus @param {Focus | null} locked */
  focus(focus, locked) {
    this.enlarged.focus(focus, locked);
  }

  /** The enlarged head, or all of them. @param {Context} context @returns {Promise<import("../svgfigure.js").Figure>} */
  async figure(context) {
    const { drawing } = this.enlarged.layer;
    if (context.state.enlarged && drawing) return linesFigure(context, drawing, [context.head]);
    const { width, height } = /** @type {{width: number, height: number}} */ (this.size);
    const canvas = el("canvas");
    await this.draw(scaleCanvas(canvas, width, height, TAKEN_DENSITY), TAKEN_DENSITY, context);
    return rasterFigure([{ canvas, width, height }], null, context, null);
  }

  /** @param {Context} context */
  async numbers(context) {
    if (context.state.enlarged) return weightNumbers(this.api, context, [context.head]);
    return thumbnailNumbers(context, /** @type {Uint8Array} */ (this.codes), this.sides);
  }
}
