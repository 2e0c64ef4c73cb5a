/** The menu that takes the current view away: pictures, numbers, a page of its own, its address. */

import { byId, el, themeColour } from "./dom.js";
import { formatCsv, formatHtml } from "./offline.js";
import { formatSvg, strongestEdges } from "./svgfigure.js";
import { plainText } from "./tokens.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./svgfigure.js").Figure} Figure
 * @typedef {{names: string[], rows: (string | number)[][]}} Numbers
 * @typedef {{figure: (context: Context) => Figure | Promise<Figure>, numbers: (context: Context) => Promise<Numbers>}} Source
 * @typedef {{at: () => Context | null, sourceOf: (view: string) => Source | null, say: (text: string) => void}} Page
 */

const PNG_SCALE = 2;
/** Numbers that an exported page lists when a token is pointed at. */
const MOST_NUMBERS = 20000;
/** Rows of the table under a picture that cannot be pointed at. */
const MOST_ROWS = 2000;

/** @returns {import("./svgfigure.js").Look} */
function makeLook() {
  const hex = (/** @type {string} */ name) => `#${themeColour(name).map((part) => part.toString(16).padStart(2, "0")).join("")}`;
  return { background: hex("--surface"), ink: hex("--ink"), muted: hex("--muted"), cell: hex("--cell") };
}

/** @param {Context} context @returns {import("./svgfigure.js").Caption} */
export function captionOf({ state, vault, example, stack, layer, head, heads, reading }) {
  const which = state.view === "model" && !state.enlarged ? `all ${stack.layers.length} layers and ${stack.heads} heads`
    : state.view === "compare" ? `layer ${layer}, ${heads.length > 1 ? "mean of heads" : "head"} ${heads.join(", ")}, compared`
    : state.view === "heads" ? `layer ${layer}, head${heads.length > 1 ? "s" : ""} ${heads.join(", ")}` : `layer ${layer}, head ${head}`;
  const how = [
    state.filter !== "all" ? `only ${state.filter[0].toUpperCase()} to ${state.filter[1].toUpperCase()}` : "",
    reading.words ? "by words (sum over keys, mean over queries)" : "",
    reading.renormalises ? "without special tokens, renormalised" : reading.hides ? "without special tokens" : "",
    state.view === "heads" && state.mass < 100 ? `strongest ${state.mass} % of the mass` : "",
  ].filter(Boolean);
  return {
    title: plainText(`${vault.title} · example ${example.index} (${example.id.slice(0, 60)}) · ${stack.name}, ${which}`),
    provenance: [
      ...(how.length ? [`Shown: ${how.join("; ")}.`] : []),
      plainText(`QKVault · model ${vault.model.name ?? "unnamed"} · vault ${vault.digest.slice(0, 16)} · example ${example.index}`),
    ],
  };
}

/** @param {Blob} blob @param {string} name */
function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** @param {string} svg @param {number} width @param {number} height @returns {Promise<Blob>} */
async function paintPng(svg, width, height) {
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    const image = new Image(width, height);
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new Error("this browser cannot draw the figure"));
      image.src = url;
    });
    const canvas = el("canvas");
    canvas.width = width * PNG_SCALE;
    canvas.height = height * PNG_SCALE;
    const target = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    target.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) => canvas.toBlob((blob) =>
      (blob ? resolve(blob) : reject(new Error("the picture is too large for this browser"))), "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}

/**
 * What an exported page lists: the drawn weights themselves.
 * @param {Figure} figure
 * @returns {import("./offline.js").Listed[]} one per part
 */
export function listNumbers(figure) {
  if (figure.type === "sheet") return figure.parts.flatMap((part) => listNumbers(part.figure));
  if (figure.type === "raster") return [{ queries: [], keys: [], weights: [] }];
  const [queries, keys] = [figure.queries, figure.keys].map((labels) => labels.map(({ text }) => text));
  if (figure.type === "signed") {
    const all = [...figure.values].map((value, at) => /** @type {[string, number, number, number]} */ (
      [figure.name, Math.floor(at / keys.length), at % keys.length, Number(value.toFixed(5))]));
    const weights = all.filter(([, , , value]) => value).sort((a, b) => Math.abs(b[3]) - Math.abs(a[3])).slice(0, MOST_NUMBERS);
    return [{ queries, keys, weights }];
  }
  const { maps, rows, columns } = figure;
  const { edges } = strongestEdges(figure, MOST_NUMBERS);
  return [{
    queries, keys,
    weights: edges.map(({ map, row, column, weight }) =>
      [`head ${maps[map].name}`, rows[row], columns[column], Number(weight.toFixed(5))]),
  }];
}

/** Numbers under a picture; null where there are too many, or none. @param {Figure} figure @param {Source} source @param {Context} context */
async function tableOf(figure, source, context) {
  if (figure.type !== "raster") return null;
  const numbers = await source.numbers(context).catch(() => null);
  return numbers && numbers.rows.length <= MOST_ROWS ? numbers : null;
}

export class TakeAway {
  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    const item = (/** @type {string} */ kind, /** @type {string} */ title, /** @type {string} */ note) =>
      el("button", { type: "button", role: "menuitem", "data-kind": kind, onclick: () => void this.take(kind) },
        el("b", { text: title }), el("span", { text: note }));
    this.link = el("input", { readonly: true, "aria-label": "Link to this view" });
    this.status = el("p", { class: "takeaway-status", role: "status" });
    this.menu = el("div", { class: "takeaway", role: "menu", "aria-label": "Take this view away", hidden: true },
      item("png", "PNG", "picture, twice the screen's pixels"),
      item("svg", "SVG", "vector figure"),
      item("csv", "CSV", "the numbers shown"),
      item("html", "HTML", "one file that works offline"),
      item("link", "Copy link", "to exactly this view"), this.link, this.status);
    this.button = el("button", {
      type: "button", class: "icon-button", id: "takeaway", text: "⤓", title: "Take this view away ( e )",
      "aria-label": "Take this view away", "aria-haspopup": "menu", "aria-expanded": "false", onclick: () => this.toggle(),
    });
    byId("theme").before(this.button);
    document.body.append(this.menu);
    document.addEventListener("pointerdown", (event) => {
      const target = /** @type {Node} */ (event.target);
      if (!this.menu.hidden && !this.menu.contains(target) && !this.button.contains(target)) this.toggle(false);
    });
    this.menu.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** @param {boolean} [open] */
  toggle(open = this.menu.hidden) {
    this.menu.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    this.status.textContent = "";
    if (!open) return;
    this.link.value = location.href;
    const box = this.button.getBoundingClientRect();
    this.menu.style.top = `${box.bottom + 6}px`;
    this.menu.style.right = `${Math.max(8, innerWidth - box.right - 40)}px`;
    this.menu.querySelector("button")?.focus();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      this.toggle(false);
      this.button.focus();
    } else if (by) {
      const items = [...this.menu.querySelectorAll("button")];
      const at = items.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
      items[(at + by + items.length) % items.length].focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {string} kind */
  async take(kind) {
    const context = this.page.at();
    const source = context && this.page.sourceOf(context.state.view);
    try {
      if (kind === "link") await this.copyLink();
      else if (!context || !source) this.status.textContent = "There is nothing here to take away yet.";
      else await this.takeFrom(kind, context, source);
    } catch (error) {
      this.status.textContent = error instanceof Error ? error.message : String(error);
      this.page.say(this.status.textContent);
    }
  }

  async copyLink() {
    this.link.value = location.href;
    try {
      await navigator.clipboard.writeText(location.href);
      this.status.textContent = "Copied.";
    } catch {
      this.link.select();
      this.status.textContent = "Copy it from here.";
    }
  }

  /** @param {string} kind @param {Context} context @param {Source} source */
  async takeFrom(kind, context, source) {
    const { vault, example, state } = context;
    const name = `${vault.name}-${example.index}-${state.view}`;
    if (kind === "csv") {
      const { names, rows } = await source.numbers(context);
      save(new Blob(["\ufeff", formatCsv(names, rows)], { type: "text/csv" }), `${name}.csv`);
    } else {
      const figure = await source.figure(context);
      const caption = captionOf(context);
      const look = makeLook();
      const { svg, width, height } = formatSvg(figure, caption, look);
      if (kind === "svg") save(new Blob([svg], { type: "image/svg+xml" }), `${name}.svg`);
      else if (kind === "png") save(await paintPng(svg, width, height), `${name}.png`);
      else save(new Blob([formatHtml(svg, caption.title, listNumbers(figure), await tableOf(figure, source, context), look)], { type: "text/html" }), `${name}.html`);
    }
    this.status.textContent = "Saved.";
    this.page.say(`${kind.toUpperCase()} saved`);
  }
}
