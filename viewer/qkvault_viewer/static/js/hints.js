/** What a first visitor should know, until it is dismissed; and the way to examples worth comparing. */

import { isAbort } from "./api.js";
import { byId, el } from "./dom.js";
import { findFamily, findTrio } from "./families.js";
import { recall, remember } from "./remembered.js";
import { plainText } from "./tokens.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./families.js").Member} Member
 * @typedef {{compare: (first: number, others: number[]) => void, showKeys: () => void}} Acts
 */

const KEY = "qkvault-hints";
const QUIET_MS = 250;

/** @type {[string, string][]} */
const HINTS = [
  ["Point at a token", "to see its own lines and their numbers here; click to keep it."],
  ["Click a cell of the head map", "to see that head alone; shift-click adds another."],
  ["Neuron", "opens a head: how a query meets every key, dimension by dimension."],
  ["⇄ on an example of the list", "puts it beside this one and shows what differs."],
];

export class Hints {
  /** @param {import("./api.js").Api} api @param {Acts} acts */
  constructor(api, acts) {
    this.api = api;
    this.acts = acts;
    this.root = byId("hints");
    this.start = el("div", { class: "hints-start" });
    this.root.replaceChildren(
      el("header", {}, el("h2", { text: "New here?" }),
        el("button", { type: "button", class: "plain", text: "✕", "aria-label": "Do not show these hints again", onclick: () => this.dismiss() })),
      this.start,
      el("ul", {}, ...HINTS.map(([what, does]) => el("li", {}, el("b", { text: what }), ` ${does}`))),
      el("p", {}, "Everything has a key: ", el("button", { type: "button", class: "plain hints-keys", onclick: () => acts.showKeys() }, el("kbd", { text: "?" }), " lists them.")),
    );
    this.root.hidden = recall(KEY) === "seen";
  }

  dismiss() {
    remember(KEY, "seen");
    this.root.hidden = true;
  }

  /** Look for what could be compared, once the page is at rest. @param {Context} context @param {AbortSignal} signal */
  async show(context, signal) {
    await new Promise((resolve) => { setTimeout(resolve, QUIET_MS); });
    if (signal.aborted) return;
    const { vault, example } = context;
    try {
      const family = await findFamily(this.api, vault, example, signal);
      const trio = this.root.hidden ? [] : await findTrio(this.api, vault, signal);
      if (signal.aborted) return;
      this.offerFamily(context, family);
      this.start.replaceChildren(...(trio.length ? [this.makeStart(trio)] : []));
    } catch (error) {
      // Nothing depends on a hint; what is wrong with the vault is said elsewhere.
      if (!isAbort(error)) this.start.replaceChildren();
    }
  }

  /** @param {Context} context @param {Member[]} family */
  offerFamily({ example, state }, family) {
    byId("example").querySelector(".family")?.remove();
    const own = family.map(({ index }) => String(index));
    if (!family.length || (state.view === "compare" && own.every((pin) => state.pins.includes(pin)))) return;
    const names = family.map(({ id }) => plainText(id)).join(", ");
    byId("example").append(el("button", {
      type: "button", class: "family", title: `Compare with ${names}`, onclick: () => this.acts.compare(example.index, family.map(({ index }) => index)),
    }, "⇄ ", el("bdi", { text: names })));
  }

  /** @param {Member[]} trio */
  makeStart(trio) {
    const [first, ...others] = trio.map(({ index }) => index);
    return el("button", { type: "button", class: "start-card", onclick: () => this.acts.compare(first, others) },
      el("b", { text: "awesome: sick, terrific, available?" }),
      el("span", { text: "Does the model know that “sick” can praise? Three sentence pairs, one word apart, side by side." }));
  }
}
