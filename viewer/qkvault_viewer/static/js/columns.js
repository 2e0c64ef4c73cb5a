/**
 * Two columns of tokens in one scrolling pane: attending on the left, attended on the right.
 *
 * Only the tokens in sight are in the document, as a listbox each, so their number never matters and
 * a screen reader meets them in order. What lies between the columns is the caller's canvas.
 */

import { el } from "./dom.js";
import { fillLabel, isolate } from "./tokens.js";

/**
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {"left" | "right"} Side
 * @typedef {import("./axes.js").Axis} Axis
 * @typedef {{queries: Axis, keys: Axis, rows: number[], columns: number[], rowHeight: number,
 *   tokenWidth: number}} Tokens
 * @typedef {{onHover: (focus: Focus | null) => void, onPick: (focus: Focus) => void,
 *   onScroll?: () => void, decorate?: (row: HTMLElement, side: Side, token: number) => void}} Handlers
 */

export const PAD = 8;
const SPARE = 6;
const TITLES = { left: "Attending tokens", right: "Attended tokens" };

/** @type {CanvasRenderingContext2D | null} */
let ruler = null;
let panes = 0;

/**
 * Width that the longest label wants.
 * @param {readonly import("./tokens.js").Label[]} labels
 * @param {number} fontSize CSS pixels
 */
export function measureLabels(labels, fontSize) {
  ruler ??= document.createElement("canvas").getContext("2d");
  if (!ruler) return 100;
  // As wide as when it is in focus, and bold.
  ruler.font = `600 ${fontSize}px ${getComputedStyle(document.body).fontFamily}`;
  let widest = 0;
  for (const { text } of labels) {
    widest = Math.max(widest, text.length > 40 ? 400 : ruler.measureText(text).width);
  }
  return Math.ceil(widest);
}

/**
 * @param {number} rowHeight
 * @returns {number} font size that leaves air between rows
 */
export function fontFor(rowHeight) {
  return Math.max(10.5, Math.min(13.5, Math.round((rowHeight - 3.5) * 2) / 2));
}

/**
 * Row height and token width that make the best of a pane: all rows in sight if they stay readable.
 * @param {import("./context.js").Context} context
 * @param {number} width of the pane
 * @param {number} height
 * @param {number} [share] most of the width that one column of tokens may take
 */
export function fitTokens({ queries, keys, rows, columns }, width, height, share = 0.27) {
  const count = Math.max(1, rows.length, columns.length);
  const rowHeight = Math.max(14, Math.min(28, Math.floor((height - 2 * PAD) / count)));
  const font = fontFor(rowHeight);
  const widest = measureLabels(queries.labels, font);
  const wanted = 22 + (keys === queries ? widest : Math.max(widest, measureLabels(keys.labels, font)));
  return { rowHeight, tokenWidth: Math.round(Math.max(60, Math.min(wanted, 190, width * share))) };
}

export class TokenColumns {
  /** @param {Handlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.prefix = `pane${(panes += 1)}`;
    this.lists = { left: this.makeList("left"), right: this.makeList("right") };
    this.overlay = el("canvas", { class: "pane-overlay", "aria-hidden": "true" });
    this.back = el("div", { class: "pane-back", "aria-hidden": "true" });
    this.body = el("div", { class: "pane-body" }, this.back, this.overlay, this.lists.left, this.lists.right);
    this.element = el("div", { class: "pane" }, this.body);
    this.element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    /** @type {Tokens | null} */
    this.tokens = null;
    /** @type {Focus | null} */
    this.focus = null;
    /** @type {Focus | null} */
    this.locked = null;
    /** @type {{left: [number, number], right: [number, number]}} */
    this.range = { left: [0, 0], right: [0, 0] };
  }

  /** @param {Side} side */
  makeList(side) {
    const list = el("div", {
      class: `tokens tokens-${side}`, role: "listbox", tabindex: "0", "aria-label": TITLES[side],
    });
    /** @param {Event} event */
    const tokenAt = (event) => {
      const row = /** @type {Element} */ (event.target).closest("[data-token]");
      return row instanceof HTMLElement ? Number(row.dataset.token) : null;
    };
    list.addEventListener("pointerover", (event) => {
      const token = tokenAt(event);
      if (token !== null) this.handlers.onHover({ side, token });
    });
    list.addEventListener("pointerleave", () => this.handlers.onHover(null));
    list.addEventListener("click", (event) => {
      const token = tokenAt(event);
      if (token !== null) this.handlers.onPick({ side, token });
    });
    list.addEventListener("keydown", (event) => this.pressed(event, side));
    return list;
  }

  /** @param {Side} side @returns {number[]} */
  shown(side) {
    return (side === "left" ? this.tokens?.rows : this.tokens?.columns) ?? [];
  }

  /** Move the focus with the arrow keys. @param {KeyboardEvent} event @param {Side} side */
  pressed(event, side) {
    const list = this.shown(side);
    const current = this.focus?.side === side ? list.indexOf(this.focus.token) : -1;
    const page = Math.max(1, Math.floor(this.element.clientHeight / (this.tokens?.rowHeight ?? 20)) - 1);
    /** @type {Record<string, number>} */
    const targets = {
      ArrowDown: current + 1, ArrowUp: current - 1, Home: 0, End: list.length - 1,
      PageDown: current + page, PageUp: current - page,
    };
    const other = side === "left" ? "right" : "left";
    if (event.key in targets) {
      const at = Math.min(list.length - 1, Math.max(0, targets[event.key]));
      this.reveal(at);
      this.handlers.onHover({ side, token: list[at] });
    } else if ((event.key === "Enter" || event.key === " ") && current >= 0) {
      this.handlers.onPick({ side, token: list[current] });
    } else if (event.key === (side === "left" ? "ArrowRight" : "ArrowLeft")) {
      this.lists[other].focus({ preventScroll: true });
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {number} at row to bring into sight */
  reveal(at) {
    const top = this.centre(at) - (this.tokens?.rowHeight ?? 0);
    const bottom = top + 2 * (this.tokens?.rowHeight ?? 0);
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (bottom > scrollTop + clientHeight) this.element.scrollTop = bottom - clientHeight;
  }

  /** y of the middle of the n-th row, from the top of the content. @param {number} at */
  centre(at) {
    return PAD + (at + 0.5) * (this.tokens?.rowHeight ?? 20);
  }

  get contentHeight() {
    const count = Math.max(this.shown("left").length, this.shown("right").length);
    return 2 * PAD + count * (this.tokens?.rowHeight ?? 20);
  }

  /** @param {Tokens} tokens */
  lay(tokens) {
    this.tokens = tokens;
    const font = fontFor(tokens.rowHeight);
    this.body.style.setProperty("--row", `${tokens.rowHeight}px`);
    this.body.style.setProperty("--token-font", `${font}px`);
    this.body.style.setProperty("--token-width", `${tokens.tokenWidth}px`);
    this.body.style.height = `${this.contentHeight}px`;
    this.range = { left: [0, 0], right: [0, 0] };
    this.populate(true);
  }

  scrolled() {
    this.populate(false);
    this.handlers.onScroll?.();
  }

  /** Put the tokens in sight into the document. @param {boolean} always */
  populate(always) {
    const row = this.tokens?.rowHeight ?? 20;
    const first = Math.max(0, Math.floor((this.element.scrollTop - PAD) / row) - SPARE);
    const last = Math.ceil((this.element.scrollTop + this.element.clientHeight) / row) + SPARE;
    for (const side of /** @type {Side[]} */ (["left", "right"])) {
      const list = this.shown(side);
      const end = Math.min(list.length, last);
      const [from, to] = this.range[side];
      if (!always && from === first && to === end) continue;
      this.range[side] = [first, end];
      this.lists[side].replaceChildren(
        ...list.slice(first, end).map((token, n) => this.makeRow(side, token, first + n)),
      );
    }
    this.mark();
  }

  /** @param {Side} side @param {number} token @param {number} at */
  makeRow(side, token, at) {
    const { queries, keys, rowHeight } = /** @type {Tokens} */ (this.tokens);
    const { labels, special, segments } = side === "left" ? queries : keys;
    const text = el("span", { class: "token-text" });
    fillLabel(text, labels[token]);
    const list = this.shown(side);
    const opens = at > 0 && segments[token] !== segments[list[at - 1]];
    const row = el("div", {
      class: `token${special[token] ? " is-special" : ""}${opens ? " opens-text" : ""}`,
      role: "option",
      id: `${this.prefix}-${side}-${token}`,
      "data-token": token,
      "aria-posinset": at + 1,
      "aria-setsize": list.length,
      title: `${isolate(labels[token].text)} · token ${token}`,
    }, text);
    row.style.top = `${PAD + at * rowHeight}px`;
    this.handlers.decorate?.(row, side, token);
    return row;
  }

  /** @param {Focus | null} focus @param {Focus | null} locked */
  setFocus(focus, locked) {
    this.focus = focus;
    this.locked = locked;
    this.mark();
  }

  mark() {
    for (const side of /** @type {Side[]} */ (["left", "right"])) {
      const list = this.lists[side];
      const focused = this.focus?.side === side ? this.focus.token : null;
      const locked = this.locked?.side === side ? this.locked.token : null;
      for (const row of list.children) {
        const token = Number(/** @type {HTMLElement} */ (row).dataset.token);
        row.classList.toggle("is-focus", token === focused);
        row.classList.toggle("is-locked", token === locked);
        row.setAttribute("aria-selected", String(token === locked || token === focused));
      }
      if (focused !== null && this.shown(side).includes(focused)) {
        list.setAttribute("aria-activedescendant", `${this.prefix}-${side}-${focused}`);
      } else {
        list.removeAttribute("aria-activedescendant");
      }
    }
  }
}
