/** The head view as matrices: one square per head, queries down, keys across. */

import { el, isDark, sizeCanvas, themeColour } from "./dom.js";
import { paintMatrix } from "./matrix.js";
import { loadNumbers } from "./numbers.js";
import { contrastFor, css, formatWeight, headColour, ramp } from "./scale.js";
import { isolate } from "./tokens.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {import("./linelayer.js").Drawing} Drawing
 * @typedef {{hover: (focus: Focus | null) => void, pick: (focus: Focus) => void,
 *   isolateHead: (head: number) => void}} Acts
 * @typedef {{x: number, y: number, width: number, height: number}} Box CSS pixels
 * @typedef {{head: number, row: number, column: number}} Cell `row`, `column`: places among those shown
 */

const CAPTION = 19;
const GAP = 14;
const MARGIN = 12;
const MOST_CELL = 30;
const LEAST_LABELLED = 11;

/**
 * Squares of one size that fill a room best.
 * @param {number} count
 * @param {number} width
 * @param {number} height
 * @param {number} ratio width of a square's content over its height
 * @returns {{across: number, width: number, height: number}} of one
 */
export function arrange(count, width, height, ratio) {
  let best = { across: 1, width: 1, height: 1 };
  for (let across = 1; across <= count; across += 1) {
    const down = Math.ceil(count / across);
    const wide = (width - (across - 1) * GAP) / across;
    const high = (height - (down - 1) * GAP) / down - CAPTION;
    const side = Math.floor(Math.min(wide, high * ratio));
    if (side > best.width) best = { across, width: side, height: Math.floor(side / ratio) };
  }
  return best;
}

export class MatrixPanels {
  /** @param {import("./api.js").Api} api @param {Acts} acts */
  constructor(api, acts) {
    this.api = api;
    this.acts = acts;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.marks = el("canvas", { class: "panels-marks", "aria-hidden": "true" });
    this.cursor = el("div", { role: "option", "aria-selected": "true", id: "matrix-cell", class: "offscreen", text: "No cell chosen" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.element = el("div", {
      class: "panels", role: "listbox", tabindex: "0", "aria-activedescendant": "matrix-cell", hidden: true,
      "aria-label": "Attention matrices: attending tokens down, attended tokens across",
    }, this.canvas, this.marks, this.cursor, this.tip);
    /** @type {Box[]} */
    this.boxes = [];
    /** @type {Cell | null} */
    this.cell = null;
    /** @type {Focus | null} */
    this.focused = null;
    this.listen();
  }

  listen() {
    this.element.addEventListener("pointermove", (event) => this.point(this.cellAt(event), event));
    this.element.addEventListener("pointerleave", () => this.point(null));
    this.element.addEventListener("click", () => this.keep());
    this.element.addEventListener("dblclick", (event) => {
      const cell = this.cellAt(event);
      if (cell && this.context) this.acts.isolateHead(this.context.heads[cell.head]);
    });
    this.element.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** @param {Context} context @param {Drawing} drawing */
  show(context, drawing) {
    this.context = context;
    this.drawing = drawing;
    this.cell = null;
    this.tip.hidden = true;
    const { clientWidth, clientHeight } = this.element;
    const target = sizeCanvas(this.canvas, clientWidth, clientHeight);
    this.place(clientWidth, clientHeight, target);
    const { maps, rows, columns, least = 1 } = drawing;
    const background = themeColour("--cell");
    const tile = el("canvas");
    tile.width = columns.length;
    tile.height = rows.length;
    if (!tile.width || !tile.height) return;
    const picture = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
    this.boxes.forEach((box, n) => {
      const { codes, offset, stride } = maps[n];
      const table = ramp(background, headColour(context.heads[n], isDark()), contrastFor(rows.length));
      table.fill(table[0], 0, Math.min(256, least));
      const pixels = paintMatrix(codes, offset, stride, rows, columns, table);
      picture.putImageData(new ImageData(pixels, columns.length, rows.length), 0, 0);
      target.imageSmoothingEnabled = box.width * (devicePixelRatio || 1) < columns.length;
      target.imageSmoothingQuality = "high";
      target.drawImage(tile, box.x, box.y, box.width, box.height);
      this.drawCaption(target, box, context.heads[n]);
    });
    if (this.labelled) this.drawLabels(target, context, this.boxes[0]);
    this.mark();
  }

  /** @param {number} width @param {number} height @param {CanvasRenderingContext2D} target */
  place(width, height, target) {
    const { rows, columns, maps } = /** @type {Drawing} */ (this.drawing);
    const { queries, keys } = /** @type {Context} */ (this.context);
    const ratio = Math.max(1, columns.length) / Math.max(1, rows.length);
    this.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    target.font = this.font;
    const texts = [...rows.slice(0, 200).map((row) => queries.labels[row].text), ...columns.slice(0, 200).map((column) => keys.labels[column].text)];
    const widest = texts.reduce((most, text) => Math.max(most, target.measureText(text.slice(0, 24)).width), 0);
    this.room = Math.min(130, Math.ceil(widest) + 10);
    const room = maps.length === 1 ? this.room : 0;
    let fit = arrange(maps.length, width - 2 * MARGIN - room, height - 2 * MARGIN - room, ratio);
    this.labelled = maps.length === 1 && fit.height / Math.max(1, rows.length) >= LEAST_LABELLED;
    if (maps.length === 1 && !this.labelled) fit = arrange(1, width - 2 * MARGIN, height - 2 * MARGIN, ratio);
    const most = Math.max(1, columns.length) * MOST_CELL;
    if (fit.width > most) fit = { across: fit.across, width: most, height: Math.floor(most / ratio) };
    const side = this.labelled ? this.room : 0;
    const left = Math.max(MARGIN, (width - fit.across * (fit.width + GAP) + GAP - side) / 2) + side;
    this.boxes = maps.map((_, n) => ({
      x: Math.round(left + (n % fit.across) * (fit.width + GAP)),
      y: MARGIN + side + CAPTION + Math.floor(n / fit.across) * (fit.height + GAP + CAPTION),
      width: fit.width,
      height: fit.height,
    }));
    this.element.dataset.boxes = JSON.stringify(this.boxes);
  }

  /** @param {CanvasRenderingContext2D} target @param {Box} box @param {number} head */
  drawCaption(target, { x, y }, head) {
    const top = this.labelled ? MARGIN + CAPTION / 2 - 4 : y - CAPTION / 2;
    const left = this.labelled ? MARGIN : x;
    target.fillStyle = css(headColour(head, isDark()));
    target.fillRect(left, top - 5, 10, 10);
    target.fillStyle = css(themeColour("--soft"));
    target.font = this.font ?? "";
    target.textAlign = "left";
    target.textBaseline = "middle";
    target.fillText(`head ${head}`, left + 15, top + 0.5);
  }

  /** @param {CanvasRenderingContext2D} target @param {Context} context @param {Box} box */
  drawLabels(target, { queries, keys }, { x, y, width, height }) {
    const { rows, columns } = /** @type {Drawing} */ (this.drawing);
    const cut = (/** @type {import("./tokens.js").Label} */ { text }) => isolate(text.length > 18 ? `${text.slice(0, 17)}…` : text);
    target.fillStyle = css(themeColour("--ink"));
    target.font = this.font ?? "";
    target.textBaseline = "middle";
    target.textAlign = "right";
    rows.forEach((token, at) => {
      target.fillText(cut(queries.labels[token]), x - 6, y + ((at + 0.5) * height) / rows.length, this.room);
    });
    target.textAlign = "left";
    columns.forEach((token, at) => {
      target.save();
      target.translate(x + ((at + 0.5) * width) / columns.length, y - 6);
      target.rotate(-Math.PI / 2);
      target.fillText(cut(keys.labels[token]), 0, 0, this.room);
      target.restore();
    });
  }

  /** @param {MouseEvent} event @returns {Cell | null} */
  cellAt(event) {
    if (!this.drawing) return null;
    const area = this.element.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    const head = this.boxes.findIndex((box) => x >= box.x && x < box.x + box.width && y >= box.y && y < box.y + box.height);
    if (head < 0) return null;
    const box = this.boxes[head];
    const { rows, columns } = this.drawing;
    return {
      head,
      row: Math.min(rows.length - 1, Math.floor(((y - box.y) / box.height) * rows.length)),
      column: Math.min(columns.length - 1, Math.floor(((x - box.x) / box.width) * columns.length)),
    };
  }

  /** @param {Cell | null} cell @param {MouseEvent} [event] */
  point(cell, event) {
    const same = cell?.head === this.cell?.head && cell?.row === this.cell?.row && cell?.column === this.cell?.column;
    if (!same) {
      this.cell = cell;
      this.tip.hidden = true;
      this.acts.hover(cell && this.drawing ? { side: "left", token: this.drawing.rows[cell.row] } : null);
      this.mark();
      if (cell) void this.tell(cell);
    }
    if (cell && event) this.placeTip(event);
  }

  /** The exact number of a cell, once it is known. @param {Cell} cell */
  async tell(cell) {
    const { context, drawing } = this;
    if (!context || !drawing) return;
    const [query, key] = [drawing.rows[cell.row], drawing.columns[cell.column]];
    const head = context.heads[cell.head];
    const pair = `${isolate(context.queries.labels[query].text)} → ${isolate(context.keys.labels[key].text)}`;
    const weights = await loadNumbers(this.api, context, { side: "left", token: query }, [head]);
    if (this.cell !== cell || this.context !== context) return;
    const weight = weights[head * context.keys.length + key];
    this.tip.textContent = `head ${head}: ${pair} ${formatWeight(weight)}`;
    this.tip.dataset.weight = String(weight);
    this.tip.hidden = false;
    this.cursor.textContent = this.tip.textContent;
  }

  /** @param {MouseEvent} event */
  placeTip(event) {
    const area = this.element.getBoundingClientRect();
    const left = Math.min(event.clientX - area.left + 14, area.width - Math.max(180, this.tip.offsetWidth) - 6);
    this.tip.style.left = `${Math.max(4, left)}px`;
    this.tip.style.top = `${Math.min(event.clientY - area.top + 18, area.height - 30)}px`;
  }

  /** Keep the query of the cell under the pointer, or let it go. */
  keep() {
    if (this.cell && this.drawing) this.acts.pick({ side: "left", token: this.drawing.rows[this.cell.row] });
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (!this.drawing) return;
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };
    const move = moves[event.key];
    if (!move && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    if (!move) {
      this.keep();
      return;
    }
    const { rows, columns } = this.drawing;
    const from = this.cell ?? { head: 0, row: -move[0], column: -move[1] };
    const within = (/** @type {number} */ at, /** @type {number} */ count) => Math.max(0, Math.min(count - 1, at));
    this.point({
      head: from.head,
      row: within(from.row + move[0], rows.length),
      column: within(from.column + move[1], columns.length),
    });
  }

  /** @param {Focus | null} focus */
  focus(focus) {
    this.focused = focus;
    this.mark();
  }

  /** Frame the row or column in focus and the cell under the pointer. */
  mark() {
    const { drawing } = this;
    if (!drawing || this.element.hidden) return;
    const target = sizeCanvas(this.marks, this.element.clientWidth, this.element.clientHeight);
    const [high, wide] = [drawing.rows.length, drawing.columns.length];
    const row = this.focused?.side === "left" ? drawing.rows.indexOf(this.focused.token) : -1;
    const column = this.focused?.side === "right" ? drawing.columns.indexOf(this.focused.token) : -1;
    this.boxes.forEach(({ x, y, width, height }, n) => {
      target.strokeStyle = css(themeColour("--line-strong"));
      target.lineWidth = 1;
      target.strokeRect(x - 0.5, y - 0.5, width + 1, height + 1);
      target.strokeStyle = css(themeColour("--accent"));
      if (row >= 0) target.strokeRect(x - 0.5, y + (row * height) / high - 0.5, width + 1, height / high + 1);
      if (column >= 0) target.strokeRect(x + (column * width) / wide - 0.5, y - 0.5, width / wide + 1, height + 1);
      if (this.cell?.head !== n) return;
      target.strokeStyle = css(themeColour("--ink"));
      target.lineWidth = 1.5;
      target.strokeRect(x + (this.cell.column * width) / wide - 0.5, y + (this.cell.row * height) / high - 0.5,
        width / wide + 1, height / high + 1);
    });
  }
}
