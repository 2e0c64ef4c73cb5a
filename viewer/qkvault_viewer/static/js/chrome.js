/** What frames the parts: top bar, the example's own lines, notices, theme. */

import { ApiError } from "./api.js";
import { makeVerdict, nameLabel } from "./corpus.js";
import { byId, el } from "./dom.js";
import { remember } from "./remembered.js";
import { formatCount } from "./scale.js";
import { isNarrowed } from "./slice.js";
import { plainText } from "./tokens.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./api.js").Vault} Vault
 * @typedef {import("./api.js").Example} Example
 */

const THEME_KEY = "qkvault-theme";

/** The choice is kept for the next visit; theme.js reads it. */
export function switchTheme() {
  const { dataset } = document.documentElement;
  dataset.theme = dataset.theme === "dark" ? "light" : "dark";
  remember(THEME_KEY, dataset.theme);
}

/** @param {readonly {name: string, title: string}[]} stores @param {(name: string) => void} choose */
export function fillStores(stores, choose) {
  const select = /** @type {HTMLSelectElement} */ (byId("store"));
  select.replaceChildren(...stores.map(({ name, title }) => el("option", { value: name, text: title })));
  select.addEventListener("change", () => choose(select.value));
}

/** @param {Vault} vault @param {import("./state.js").State} state */
export function showTop(vault, state) {
  /** @type {HTMLSelectElement} */ (byId("store")).value = vault.name;
  const jump = /** @type {HTMLInputElement} */ (byId("jump"));
  if (document.activeElement !== jump) jump.value = String(state.example);
  byId("of").textContent = `of ${formatCount(vault.examples)}`;
  const listed = isNarrowed(state) || state.sort !== "" || state.descending;
  /** @type {HTMLButtonElement} */ (byId("previous")).disabled = state.example <= 0 && !listed;
  /** @type {HTMLButtonElement} */ (byId("next")).disabled = state.example >= vault.examples - 1 && !listed;
  for (const tab of byId("tabs").children) {
    const on = /** @type {HTMLElement} */ (tab).dataset.view === state.view;
    tab.setAttribute("aria-selected", String(on));
    tab.setAttribute("tabindex", on ? "0" : "-1");
  }
  document.title = `#${state.example} · ${vault.title} · QKVault`;
}

/**
 * Softmax of the logits: the model's own confidence in the class it chose.
 * @param {Example} example
 */
function confidence({ logits, prediction }) {
  if (!logits || logits.length < 2 || prediction === null) return "";
  const values = logits.map((logit) => logit ?? NaN);
  const highest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - highest));
  const share = powers[prediction] / powers.reduce((sum, power) => sum + power, 0);
  return Number.isFinite(share) ? ` ${share.toFixed(2)}` : "";
}

/** @param {string} name @param {string} value */
function makeFact(name, value) {
  return el("span", {}, `${name} `, el("b", { text: value }));
}

/** @param {Context} context */
export function showExample({ example, vault }) {
  const facts = el("div", { class: "example-facts" },
    el("b", { text: `#${example.index}` }), el("bdi", { text: plainText(example.id) }),
    el("span", { text: example.target ? `${example.length} → ${example.target.tokens.length} tokens` : `${example.length} tokens` }));
  if (example.label !== null) facts.append(makeFact("label", nameLabel(example.label, vault.gold_names)));
  if (example.prediction !== null) {
    const name = nameLabel(example.prediction, vault.label_names);
    facts.append(makeFact("prediction", name + confidence(example)));
  }
  if (example.correct !== null) facts.append(makeVerdict(example.correct));
  if (!vault.logits) facts.append(el("span", { text: "no prediction", title: "The model has no classification head" }));
  const tags = example.target ? ["Source", "Target"] : ["A", "B"];
  const all = example.target ? [example.text.join(" "), example.target.text.join(" ")] : example.text;
  const told = all.map((text, i) => ({ text: plainText(text), tag: tags[i] ?? "" })).filter(({ text }) => text);
  const texts = told.map(({ text, tag }) => el("div", { class: "example-text" },
    ...(told.length > 1 ? [el("span", { class: "tag", text: tag })] : []), el("bdi", { text, title: text })));
  byId("example").replaceChildren(facts, ...texts);
}

/** @type {Record<string, string>} */
const VIEW_NAMES = { heads: "head view", model: "model view", neuron: "neuron view", compare: "comparison" };

/**
 * What to say where a view's arrays were not kept.
 * @param {string} view
 * @param {readonly string[]} missing
 */
export function showMissing(view, missing) {
  showNotice("No such array in this vault", [
    `The ${VIEW_NAMES[view]} needs ${missing.join(" and ")}, which this vault does not keep.`,
    "Extract again with --arrays attention,query,key,value to have it.",
  ]);
}

/** @param {unknown} error @param {{title: string, run: () => void}} way out of it */
export function showError(error, way) {
  const known = error instanceof ApiError;
  const title = !known ? "Something went wrong in the page"
    : error.status === 404 ? "Nothing to show here"
      : error.status === 0 ? "No connection to the viewer"
        : error.kind === "vault" ? "The vault is damaged" : "The viewer could not answer";
  showNotice(title, [error instanceof Error ? error.message : String(error)], way);
}

/**
 * @param {string} title
 * @param {readonly string[]} lines
 * @param {{title: string, run: () => void}} [way]
 */
export function showNotice(title, lines, way) {
  const notice = byId("notice");
  notice.replaceChildren(el("h2", { text: title }), ...lines.map((text) => el("p", { text })));
  if (way) notice.append(el("button", { type: "button", text: way.title, onclick: way.run }));
  notice.hidden = false;
}

/** Take away what belonged to an example that is no longer shown. */
export function clearExample() {
  byId("example").replaceChildren();
  for (const id of ["toolbar", "headmap"]) byId(id).hidden = true;
}

export function hideNotice() {
  byId("notice").hidden = true;
}
