/** B − A as a map: rows are attending tokens, columns attended ones, in blue what rose, in orange what fell. */

import { el, isDark, sizeCanvas, themeColour } from "./dom.js";
import { findExtremes } from "./difference.js";
import { hatch } from "./headmap.js";
import { paintSigned } from "./matrix.js";
import { css, formatWeight, signedColour } from "./scale.js";

/**
 * @typedef {import("./align.js").Step} Step
 * @typedef {import("./difference.js").Weights} Weights
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {import("./context.js").Context} Context
 * @typedef {{rows: Step[], columns: Step[], left: number, values: Float32Array, a: Weights, b: Weights,
 *   contextA: Context, contextB: Context, largest: number, name: string}} Difference
 *   `left`: rows left out, `largest`: |value| of the full colour; `name`: of B
 * @typedef {{hover: (focus: Focus | null) => void, pick: (focus: Focus) => void}} Acts tokens of A
 */

const FONT = 11;
const SMALLEST_CELL = 8;
const MARGIN = 8;

/** A weight's change, with its sign. @param {number} value */
export function formatChange(value) {
  if (!Number.isFinite(value)) return "–";
  const sign = value < 0 ? "−" : "+";
  return `${sign}${formatWeight(Math.abs(value))}`;
}

export class DifferencePanel {
  /** @param {Acts} acts */
  constructor(acts) {
    this.acts = acts;
    this.canvas = el("canvas", { role: "img", tabindex: "0" });
    this.title = el("h2", {});
    this.readout = el("p", { class: "difference-readout", role: "status" });
    this.summary = el("p", { class: "difference-summary" });
    this.scale = el("canvas", { "aria-hidden": "true" });
    this.legend = el("div", { class: "difference-legend" });
    this.body = el("div", { class: "difference-body" }, this.canvas);
    this.element = el("section", { class: "difference" }, el("header", {}, this.title, this.legend), this.body, this.summary, this.readout);
    this.canvas.addEventListener("pointermove", (event) => this.pointed(event));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", (event) => this.pick(this.cellAt(event)));
    this.canvas.addEventListener("keydown", (event) => this.pressed(event));
    this.canvas.addEventListener("blur", () => this.point(null));
    /** @type {Difference | null} */
    this.difference = null;
    /** @type {Focus | null} */
    this.focused = null;
    /** @type {[number, number] | null} */
    this.pointedAt = null;
    this.left = 60;
    this.top = 60;
    this.cell = 10;
  }

  /** Say why there is no map. @param {string} name @param {string} why */
  refuse(name, why) {
    this.difference = null;
    this.title.textContent = `${name} − A`;
    this.legend.replaceChildren();
    this.readout.textContent = "";
    this.summary.textContent = "";
    this.body.replaceChildren(el("div", { class: "difference-none" },
      el("p", { text: "No difference of these two" }), el("p", { class: "hint", text: `${why}, so no cell of one is a cell of the other. They are shown side by side.` })));
  }

  /** @param {Difference} difference */
  show(difference) {
    this.difference = difference;
    this.title.textContent = `${difference.name} − A`;
    this.body.replaceChildren(this.canvas);
    this.summary.textContent = this.summarize();
    this.fit();
    // How unmatched rows look depends on the size of the cells.
    this.summary.textContent = this.summarize();
    this.picture = this.paint();
    this.fillLegend();
    this.canvas.setAttribute("aria-label", `Difference map. ${this.summary.textContent}`);
    this.readout.textContent = "";
    this.draw();
  }

  /** A step as it is called. @param {Step} step @param {"queries" | "keys"} axis */
  label({ a, b, replaced }, axis) {
    const { contextA, contextB } = /** @type {Difference} */ (this.difference);
    const [first, second] = [a === null ? "" : contextA[axis].labels[a].text, b === null ? "" : contextB[axis].labels[b].text];
    return replaced ? `${first} → ${second}` : first || second;
  }

  fit() {
    const { rows, columns } = /** @type {Difference} */ (this.difference);
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    context.font = this.font;
    const widest = (/** @type {Step[]} */ steps, /** @type {"queries" | "keys"} */ axis) => Math.min(104, Math.max(16, ...steps.map((step) => context.measureText(this.label(step, axis)).width))) + 8;
    const { clientWidth, clientHeight } = this.body;
    this.left = widest(rows, "queries");
    this.top = widest(columns, "keys");
    const room = (/** @type {number} */ left, /** @type {number} */ top) => Math.min(
      (clientWidth - left - MARGIN) / Math.max(1, columns.length), (clientHeight - top - MARGIN) / Math.max(1, rows.length));
    // Labels that could not be read give their room to the cells.
    if (room(this.left, this.top) < SMALLEST_CELL) [this.left, this.top] = [MARGIN, MARGIN];
    this.cell = Math.max(0.25, Math.min(24, room(this.left, this.top)));
    this.labelled = this.left > MARGIN;
  }

  get font() {
    return `${Math.max(8.5, Math.min(FONT, this.cell))}px ${getComputedStyle(document.body).fontFamily}`;
  }

  paint() {
    const { rows, columns, values, largest } = /** @type {Difference} */ (this.difference);
    const picture = el("canvas");
    [picture.width, picture.height] = [Math.max(1, columns.length), Math.max(1, rows.length)];
    const dark = isDark();
    const pixels = paintSigned(values, columns.length, [...columns.keys()], dark, (value) => changeColour(value, largest, dark).alpha);
    if (!pixels.length) return picture;
    /** @type {CanvasRenderingContext2D} */ (picture.getContext("2d")).putImageData(new ImageData(pixels, columns.length), 0, 0);
    return picture;
  }

  draw() {
    const { difference, cell, left, top, picture } = this;
    if (!difference || !picture) return;
    const { rows, columns } = difference;
    const [width, height] = [columns.length * cell, rows.length * cell];
    this.canvas.dataset.cell = String(cell);
    const target = sizeCanvas(this.canvas, left + width + MARGIN, top + height + MARGIN);
    target.fillStyle = css(themeColour("--cell"));
    target.fillRect(left, top, width, height);
    target.imageSmoothingEnabled = cell < 1;
    target.drawImage(picture, left, top, width, height);
    const line = css(themeColour("--line-strong"));
    const cross = (/** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ wide, /** @type {number} */ high) => {
      // Lines that thin would only make a grid.
      if (cell >= 4) hatch(target, x, y, wide, high, line);
      else {
        target.fillStyle = css(themeColour("--line-strong"), 0.5);
        target.fillRect(x, y, wide, high);
      }
    };
    rows.forEach((step, y) => {
      if (step.a === null || step.b === null) cross(left, top + y * cell, width, cell);
    });
    columns.forEach((step, x) => {
      if (step.a === null || step.b === null) cross(left + x * cell, top, cell, height);
    });
    if (this.labelled) this.drawLabels(target);
    this.drawFocus(target, width, height);
  }

  /** @param {CanvasRenderingContext2D} target */
  drawLabels(target) {
    const { rows, columns } = /** @type {Difference} */ (this.difference);
    const ink = { same: css(themeColour("--soft")), replaced: css(themeColour("--accent")), alone: css(themeColour("--muted")) };
    const colour = (/** @type {Step} */ step) => (step.replaced ? ink.replaced : step.a === null || step.b === null ? ink.alone : ink.same);
    target.font = this.font;
    target.textBaseline = "middle";
    target.textAlign = "right";
    rows.forEach((step, y) => {
      target.fillStyle = colour(step);
      target.fillText(this.label(step, "queries"), this.left - 5, this.top + (y + 0.5) * this.cell, this.left - 8);
    });
    target.textAlign = "left";
    columns.forEach((step, x) => {
      target.save();
      target.translate(this.left + (x + 0.5) * this.cell, this.top - 5);
      target.rotate(-Math.PI / 2);
      target.fillStyle = colour(step);
      target.fillText(this.label(step, "keys"), 0, 0, this.top - 8);
      target.restore();
    });
  }

  /** Frame the row or column of the token in focus, and the cell under the pointer. @param {CanvasRenderingContext2D} target @param {number} width @param {number} height */
  drawFocus(target, width, height) {
    const { focused, difference, cell } = this;
    target.strokeStyle = css(themeColour("--ink"));
    target.lineWidth = 1;
    if (focused && difference) {
      const list = focused.side === "left" ? difference.rows : difference.columns;
      const at = list.findIndex(({ a }) => a === focused.token);
      if (at >= 0 && focused.side === "left") target.strokeRect(this.left, this.top + at * cell, width, cell);
      else if (at >= 0) target.strokeRect(this.left + at * cell, this.top, cell, height);
    }
    if (this.pointedAt) target.strokeRect(this.left + this.pointedAt[1] * cell, this.top + this.pointedAt[0] * cell, cell, cell);
  }

  fillLegend() {
    const { largest } = /** @type {Difference} */ (this.difference);
    const target = sizeCanvas(this.scale, 90, 8);
    target.fillStyle = css(themeColour("--cell"));
    target.fillRect(0, 0, 90, 8);
    for (let x = 0; x < 90; x += 1) {
      const { rgb, alpha } = changeColour(largest * ((x - 44.5) / 44.5), largest, isDark());
      target.fillStyle = css(rgb, alpha);
      target.fillRect(x, 0, 1, 8);
    }
    this.legend.replaceChildren(el("span", { text: formatChange(-largest) }), this.scale, el("span", { text: formatChange(largest) }));
  }

  summarize() {
    const { values, rows, columns, left } = /** @type {Difference} */ (this.difference);
    const { rise, fall } = findExtremes(values);
    const name = (/** @type {number} */ cell) =>
      `${this.label(rows[Math.floor(cell / columns.length)], "queries")} ⇢ ${this.label(columns[cell % columns.length], "keys")} ${formatChange(values[cell])}`;
    const parts = [];
    if (rise >= 0) parts.push(`Most up: ${name(rise)}.`);
    if (fall >= 0) parts.push(`Most down: ${name(fall)}.`);
    const alone = rows.filter((step) => step.a === null || step.b === null).length;
    if (alone) parts.push(`${alone} ${this.cell >= 4 ? "hatched" : "grey"} row${alone > 1 ? "s have" : " has"} no partner.`);
    if (left) parts.push(`${left} token${left > 1 ? "s have" : " has"} no partner and ${left > 1 ? "are" : "is"} left out.`);
    return parts.join(" ") || "No cell differs.";
  }

  /** @param {MouseEvent} event @returns {[number, number] | null} row, column */
  cellAt(event) {
    if (!this.difference) return null;
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - this.left) / this.cell);
    const row = Math.floor((event.clientY - box.top - this.top) / this.cell);
    const { rows, columns } = this.difference;
    return row >= 0 && row < rows.length && column >= 0 && column < columns.length ? [row, column] : null;
  }

  /** Keep the query of a cell. @param {[number, number] | null} cell */
  pick(cell) {
    const token = cell && this.difference?.rows[cell[0]].a;
    if (token !== null && token !== undefined) this.acts.pick({ side: "left", token });
  }

  /** Arrows move from cell to cell. @param {KeyboardEvent} event */
  pressed(event) {
    const move = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (!this.difference || (!move && event.key !== "Enter")) return;
    event.preventDefault();
    event.stopPropagation();
    if (!move) {
      this.pick(this.pointedAt);
      return;
    }
    const { rows, columns } = this.difference;
    const [row, column] = this.pointedAt ?? [-move[0], -move[1]];
    const within = (/** @type {number} */ at, /** @type {number} */ count) => Math.max(0, Math.min(count - 1, at));
    this.point([within(row + move[0], rows.length), within(column + move[1], columns.length)]);
  }

  /** @param {MouseEvent} event */
  pointed(event) {
    this.point(this.cellAt(event));
  }

  /** @param {[number, number] | null} cell */
  point(cell) {
    if (cell?.join() === this.pointedAt?.join() || !this.difference) return;
    this.pointedAt = cell;
    const { rows, columns, values, a, b } = this.difference;
    if (!cell) {
      this.readout.textContent = "";
      this.acts.hover(null);
    } else {
      const [query, key] = [rows[cell[0]], columns[cell[1]]];
      const value = values[cell[0] * columns.length + cell[1]];
      const weight = (/** @type {Weights} */ weights, /** @type {number | null} */ row, /** @type {number | null} */ column) =>
        (row === null || column === null ? "–" : formatWeight(weights.values[row * weights.keys + column]));
      this.readout.textContent = `${this.label(query, "queries")} ⇢ ${this.label(key, "keys")}: A ${weight(a, query.a, key.a)}, ${this.difference.name} ${weight(b, query.b, key.b)}, ${formatChange(value)}`;
      this.readout.dataset.change = Number.isFinite(value) ? value.toFixed(6) : "";
      this.acts.hover(query.a === null ? null : { side: "left", token: query.a });
    }
    this.draw();
  }

  /** @param {Focus | null} focus of A */
  focus(focus) {
    this.focused = focus;
    this.draw();
  }
}

/** Hue is the sign; strength the square root of the share of the greatest change. @param {number} value @param {number} largest @param {boolean} dark */
function changeColour(value, largest, dark) {
  const { rgb } = signedColour(value, 1, dark);
  const share = largest > 0 && Number.isFinite(value) ? Math.min(1, Math.abs(value) / largest) : 0;
  return { rgb, alpha: Math.sqrt(share) };
}
