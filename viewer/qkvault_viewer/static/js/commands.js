/** Every key and what it does: one list, for the handler and for the help page. */

import { el } from "./dom.js";

/**
 * @typedef {{keys: string[], title: string, group: string, run: () => void}} Command
 */

/** @param {KeyboardEvent} event */
function isTyping(event) {
  const target = event.target;
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement
    || target instanceof HTMLSelectElement;
}

/**
 * @param {readonly Command[]} commands
 */
export function listen(commands) {
  const byKey = new Map(commands.flatMap((command) => command.keys.map((key) => [key, command])));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (isTyping(event)) {
      if (event.key === "Escape") /** @type {HTMLElement} */ (event.target).blur();
      return;
    }
    const command = byKey.get(event.key);
    if (!command) return;
    event.preventDefault();
    command.run();
  });
}

/** Keys that parts of the page answer to themselves when they have the focus. @type {readonly [string, string[], string][]} */
const LOCAL = [
  ["In a token column", ["↑", "↓"], "Move along the tokens"],
  ["In a token column", ["←", "→"], "Go to the other column"],
  ["In a token column", ["Enter"], "Keep the token, or let it go"],
  ["In the head map", ["↑", "↓", "←", "→"], "Move over layers and heads; so do h j k l"],
  ["In the head map", ["Enter"], "Enlarge the head"],
  ["In the list of examples", ["↑", "↓"], "Open the one before or after"],
  ["In the list of examples", ["Space"], "Pin the example, to compare others with it"],
  ["In a difference map", ["↑", "↓", "←", "→"], "Move from cell to cell"],
  ["In the model view", ["↑", "↓", "←", "→"], "Move the frame over layers and heads"],
  ["In the model view", ["Enter"], "Enlarge the framed head, or close it"],
  ["With the mouse", ["Click"], "On a token: keep it. On a thumbnail: enlarge it"],
  ["With the mouse", ["Double-click"], "On a head number: show it alone, or all again"],
  ["With the mouse", ["Shift", "Click"], "On the head map: add a head, or take it away"],
];

/**
 * @param {HTMLDialogElement} help
 * @param {readonly Command[]} commands
 */
export function fillHelp(help, commands) {
  /** @type {Map<string, HTMLElement>} */
  const groups = new Map();
  const add = (/** @type {string} */ group, /** @type {string[]} */ keys, /** @type {string} */ title) => {
    const list = groups.get(group) ?? el("dl", { class: "keys" }, el("h3", { text: group }));
    groups.set(group, list);
    const names = keys.map((key) => el("kbd", { text: key === "Escape" ? "Esc" : key }));
    list.append(el("div", {}, el("dt", {}, ...names), el("dd", { text: title })));
  };
  for (const { keys, title, group } of commands) add(group, keys, title);
  for (const [group, keys, title] of LOCAL) add(group, [...keys], title);
  const close = el("button", { type: "button", class: "plain", text: "✕", "aria-label": "Close", onclick: () => help.close() });
  help.replaceChildren(
    el("header", {}, el("h2", { text: "Keys and gestures" }), close),
    el("div", { class: "help-body" }, ...groups.values()),
    el("p", { class: "help-note", text: "Lines are drawn so that every edge keeps its mass: many faint ones make a veil, one strong one a stroke. Opacity under the pointer is relative to the strongest weight shown; the inspector has the exact numbers." }),
  );
  help.addEventListener("click", (event) => {
    if (event.target === help) help.close();
  });
}
