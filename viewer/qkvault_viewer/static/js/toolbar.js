/** The row of controls over the stage: layer, head, filter, drawing, head patches. */

import { hasWords } from "./axes.js";
import { FILTERS } from "./context.js";
import { STRONGEST } from "./dimensions.js";
import { el, isDark } from "./dom.js";
import { css, headColour } from "./scale.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {{setLayer: (layer: number) => void, setHead: (head: number) => void,
 *   setStack: (name: string) => void, setFilter: (filter: string) => void,
 *   setDraw: (draw: "lines" | "matrix") => void, setColumns: (columns: "score" | "value" | null) => void,
 *   setDims: (dims: string) => void,
 *   setMass: (mass: number) => void, setSpecial: (special: string) => void, setWords: (words: boolean) => void,
 *   toggleHead: (head: number) => void, isolateHead: (head: number) => void,
 *   allHeads: () => void}} Acts
 */

const STACKS = [
  { value: "encoder", title: "Encoder" },
  { value: "decoder", title: "Decoder" },
  { value: "cross", title: "Cross" },
];

/**
 * A menu with a step to either side.
 * @param {string} title
 * @param {(value: string) => void} choose
 */
function makeMenu(title, choose) {
  const select = el("select", { "aria-label": title });
  select.addEventListener("change", () => choose(select.value));
  const step = (/** @type {number} */ by) => () => {
    const at = select.selectedIndex + by;
    if (at >= 0 && at < select.options.length) choose(select.options[at].value);
  };
  const back = el("button", { class: "step", type: "button", "aria-label": `Previous ${title.toLowerCase()}`, text: "‹", onclick: step(-1) });
  const on = el("button", { class: "step", type: "button", "aria-label": `Next ${title.toLowerCase()}`, text: "›", onclick: step(1) });
  const element = el("div", { class: "menu" }, el("span", { class: "menu-title", text: title }), back, select, on);
  return {
    element,
    /** @param {readonly {value: string, title: string}[]} options @param {string} value */
    fill(options, value) {
      const key = options.map((option) => option.value).join();
      if (select.dataset.key !== key) {
        select.dataset.key = key;
        select.replaceChildren(...options.map((option) => el("option", { value: option.value, text: option.title })));
      }
      select.value = value;
      back.disabled = select.selectedIndex <= 0;
      on.disabled = select.selectedIndex >= select.options.length - 1;
    },
  };
}

/**
 * A row of buttons of which one is pressed.
 * @param {string} title
 * @param {readonly {value: string, title: string}[]} options
 * @param {(value: string) => void} choose
 */
function makeChoice(title, options, choose) {
  const buttons = options.map(({ value, title: text }) =>
    el("button", { type: "button", "data-value": value, text, onclick: () => choose(value) }));
  const element = el("div", { class: "choice", role: "group", "aria-label": title }, ...buttons);
  return {
    element,
    /** @param {string} value @param {readonly string[]} [offered] all, if not given */
    press(value, offered) {
      for (const button of buttons) button.hidden = offered !== undefined && !offered.includes(button.dataset.value ?? "");
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.value === value));
    },
  };
}

const SPECIALS = [
  { value: "show", title: "Shown" },
  { value: "hide", title: "Hidden" },
  { value: "renormalise", title: "Renormalised" },
];

const DIMENSIONS = [
  { value: "order", title: "In the model's order" },
  { value: "sorted", title: "Largest products first" },
  { value: "top", title: `The ${STRONGEST} largest` },
];

/**
 * How much of the attention is drawn.
 * @param {(mass: number) => void} choose
 */
function makeMass(choose) {
  const input = el("input", {
    type: "range", min: "1", max: "100", step: "1", id: "mass", "aria-label": "Share of the attention drawn, strongest first",
    title: "Draw only the strongest weights, those that together hold this share of the attention",
  });
  const said = el("output", { class: "mass-said", for: "mass" });
  input.addEventListener("input", () => {
    said.textContent = saying(Number(input.value));
    choose(Number(input.value));
  });
  const saying = (/** @type {number} */ mass) => (mass >= 100 ? "all" : `top ${mass} %`);
  const element = el("div", { class: "menu mass" }, el("span", { class: "menu-title", text: "Mass" }), input, said);
  return {
    element,
    /** @param {number} mass */
    fill(mass) {
      input.value = String(mass);
      said.textContent = saying(mass);
    },
  };
}

/**
 * A menu without steps.
 * @param {string} title @param {readonly {value: string, title: string}[]} options
 * @param {(value: string) => void} choose @param {string} [about] said in full
 */
function makeSelect(title, options, choose, about = title) {
  const select = el("select", { "aria-label": about.split(":")[0], title: about }, ...options.map((option) => el("option", { value: option.value, text: option.title })));
  select.addEventListener("change", () => choose(select.value));
  return { element: el("div", { class: "menu" }, el("span", { class: "menu-title", text: title }), select), select };
}

export class Toolbar {
  /** @param {HTMLElement} root @param {Acts} acts */
  constructor(root, acts) {
    this.acts = acts;
    this.stack = makeChoice("Stack", STACKS, acts.setStack);
    this.layer = makeMenu("Layer", (value) => acts.setLayer(Number(value)));
    this.head = makeMenu("Head", (value) => acts.setHead(Number(value)));
    this.filter = makeChoice("Sentence filter", FILTERS.map(({ name, title }) => ({ value: name, title })), acts.setFilter);
    this.draw = makeChoice("Drawing", [{ value: "lines", title: "Lines" }, { value: "matrix", title: "Matrix" }],
      (value) => acts.setDraw(value === "matrix" ? "matrix" : "lines"));
    this.expand = makeChoice("Columns", [{ value: "", title: "Lines" }, { value: "score", title: "Query · key" }, { value: "value", title: "Softmax · value" }],
      (value) => acts.setColumns(value === "score" || value === "value" ? value : null));
    this.dims = makeSelect("Dimensions", DIMENSIONS, acts.setDims);
    this.patches = el("div", { class: "patches", role: "group", "aria-label": "Heads; double-click shows one alone" });
    this.every = el("button", { class: "every", type: "button", text: "All", title: "Show all heads (a)", onclick: () => acts.allHeads() });
    this.headsRow = el("div", { class: "menu heads-menu" }, el("span", { class: "menu-title", text: "Heads" }), this.patches, this.every);
    this.mass = makeMass(acts.setMass);
    this.special = makeSelect("Special", SPECIALS, acts.setSpecial, "Special tokens: shown, hidden, or hidden and the other weights made to sum to one");
    this.words = makeChoice("Units", [{ value: "0", title: "Tokens" }, { value: "1", title: "Words" }],
      (value) => acts.setWords(value === "1"));
    this.root = root;
    root.replaceChildren(this.stack.element, this.layer.element, this.head.element, this.headsRow,
      this.expand.element, this.dims.element, this.draw.element, this.filter.element,
      this.words.element, this.special.element, this.mass.element);
  }

  /** @param {Context} context @param {"lines" | "matrix"} drawn what the model view draws */
  show(context, drawn) {
    const { state, stack, vault } = context;
    const { view } = state;
    this.root.hidden = false;
    this.stack.element.hidden = vault.stacks.length < 2;
    this.stack.press(stack.name, vault.stacks.map(({ name }) => name));
    this.layer.element.hidden = view === "model";
    this.layer.fill(stack.layers.map((layer) => ({ value: String(layer), title: String(layer) })), String(context.layer));
    this.head.element.hidden = view !== "neuron";
    this.head.fill(Array.from({ length: stack.heads }, (_, head) => ({ value: String(head), title: String(head) })), String(context.head));
    this.headsRow.hidden = view !== "heads" && view !== "compare";
    this.draw.element.hidden = view === "neuron" || view === "compare";
    this.draw.press(drawn);
    this.expand.element.hidden = view !== "neuron";
    this.expand.press(state.expanded ? state.columns : "");
    this.dims.element.hidden = view !== "neuron" || !state.expanded;
    this.dims.select.value = state.dims;
    this.filter.element.hidden = !context.pair;
    this.filter.press(state.filter);
    const inHeads = view === "heads";
    this.words.element.hidden = !inHeads || !hasWords(context.sides.queries) || !hasWords(context.sides.keys);
    this.words.press(context.reading.words ? "1" : "0");
    this.special.element.hidden = !inHeads || ![...context.queries.special, ...context.keys.special].includes(1);
    this.special.select.value = state.special;
    this.mass.element.hidden = !inHeads;
    this.mass.fill(state.mass);
    this.showPatches(context);
  }

  /** @param {Context} context */
  showPatches({ stack, heads }) {
    const dark = isDark();
    const key = `${stack.heads} ${dark}`;
    if (this.patches.dataset.key !== key) {
      this.patches.dataset.key = key;
      this.patches.replaceChildren(...Array.from({ length: stack.heads }, (_, head) => this.makePatch(head, dark)));
    }
    for (const patch of this.patches.children) {
      const on = heads.includes(Number(/** @type {HTMLElement} */ (patch).dataset.head));
      patch.setAttribute("aria-pressed", String(on));
    }
    this.every.disabled = heads.length === stack.heads;
  }

  /** @param {number} head @param {boolean} dark */
  makePatch(head, dark) {
    const patch = el("button", {
      class: "patch",
      type: "button",
      text: head,
      "data-head": head,
      "aria-label": `Head ${head}`,
      title: `Head ${head}: click to switch, double-click to show it alone`,
      onclick: () => this.acts.toggleHead(head),
      ondblclick: () => this.acts.isolateHead(head),
    });
    patch.style.setProperty("--patch", css(headColour(head, dark)));
    return patch;
  }
}
