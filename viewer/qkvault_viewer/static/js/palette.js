/** The command palette: every command, layer, metric and vault by a few letters of its name. */

import { el } from "./dom.js";

/**
 * @typedef {{title: string, group: string, keys?: string[], run: () => void}} Entry
 * @typedef {(typed: string) => Entry[]} Supply entries that depend on what is typed, shown last
 */

const MOST = 60;

/**
 * How well letters fit a title: lower is better, null for not at all. Words that begin with what is
 * typed come first, then the letters in one piece, then the letters in order. Pure.
 * @param {string} title @param {string} typed
 * @returns {number | null}
 */
export function rankMatch(title, typed) {
  const [text, wanted] = [title.toLowerCase(), typed.trim().toLowerCase()];
  if (!wanted) return 0;
  const at = text.indexOf(wanted);
  if (at === 0) return 0;
  if (at > 0) return /[\p{L}\p{N}]/u.test(text[at - 1]) ? 2 : 1;
  let from = 0;
  for (const letter of wanted.replaceAll(" ", "")) {
    from = text.indexOf(letter, from) + 1;
    if (from === 0) return null;
  }
  return 3;
}

export class Palette {
  /** @param {HTMLDialogElement} dialog @param {() => Entry[]} entries @param {Supply} supply */
  constructor(dialog, entries, supply) {
    this.dialog = dialog;
    this.entries = entries;
    this.supply = supply;
    /** @type {Entry[]} */
    this.found = [];
    this.at = 0;
    this.field = el("input", {
      type: "text", role: "combobox", "aria-label": "Command", "aria-controls": "palette-list", "aria-expanded": "true",
      "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false", maxlength: "200", placeholder: "Type a command, a layer, an example number or words",
    });
    this.list = el("div", { id: "palette-list", class: "palette-list", role: "listbox", "aria-label": "Commands" });
    dialog.replaceChildren(this.field, this.list);
    this.field.addEventListener("input", () => this.fill());
    this.field.addEventListener("keydown", (event) => this.pressed(event));
    this.list.addEventListener("click", (event) => {
      const row = /** @type {Element} */ (event.target).closest("[data-at]");
      if (row instanceof HTMLElement) this.choose(Number(row.dataset.at));
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
    addEventListener("keydown", (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || event.key.toLowerCase() !== "k") return;
      event.preventDefault();
      if (dialog.open) dialog.close();
      else this.open();
    });
  }

  open() {
    if (document.querySelector("dialog[open]")) return;
    this.field.value = "";
    this.all = this.entries();
    this.fill();
    this.dialog.showModal();
    this.field.focus();
  }

  fill() {
    const typed = this.field.value;
    const ranked = (this.all ?? []).map((entry) => ({ entry, rank: rankMatch(entry.title, typed) }))
      .filter(({ rank }) => rank !== null);
    ranked.sort((one, other) => /** @type {number} */ (one.rank) - /** @type {number} */ (other.rank));
    this.found = [...ranked.map(({ entry }) => entry).slice(0, MOST), ...this.supply(typed.trim())];
    this.list.replaceChildren(...this.found.map(({ title, group, keys }, at) => el("div", {
      class: "palette-row", role: "option", id: `palette-${at}`, "data-at": at,
    }, el("bdi", { class: "palette-title", text: title }), el("span", { class: "palette-group", text: group }),
    ...(keys ?? []).slice(0, 1).map((key) => el("kbd", { text: key === "Escape" ? "Esc" : key })))));
    if (!this.found.length) this.list.replaceChildren(el("p", { class: "hint", text: "Nothing is called so." }));
    this.mark(0);
  }

  /** @param {number} at */
  mark(at) {
    this.at = at;
    for (const row of this.list.querySelectorAll("[data-at]")) {
      const on = Number(/** @type {HTMLElement} */ (row).dataset.at) === at;
      row.setAttribute("aria-selected", String(on));
      if (on) row.scrollIntoView({ block: "nearest" });
    }
    this.field.setAttribute("aria-activedescendant", `palette-${at}`);
  }

  /** @param {number} at */
  choose(at) {
    const entry = this.found[at];
    if (!entry) return;
    this.dialog.close();
    entry.run();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const last = this.found.length - 1;
    /** @type {Record<string, number>} */
    const targets = { ArrowDown: this.at === last ? 0 : this.at + 1, ArrowUp: this.at ? this.at - 1 : last, PageDown: Math.min(last, this.at + 8), PageUp: Math.max(0, this.at - 8) };
    if (event.key in targets && last >= 0) this.mark(targets[event.key]);
    else if (event.key === "Enter") this.choose(this.at);
    else return;
    event.preventDefault();
  }
}
