/** The inspector: exact numbers of the token in focus, ranked. */

import { isAbort } from "./api.js";
import { axisOf } from "./context.js";
import { el, isDark, themeColour } from "./dom.js";
import { loadNumbers } from "./numbers.js";
import { css, formatSigned, formatWeight, headColour, layerColour } from "./scale.js";
import { sees, termsOf } from "./scoreterms.js";
import { fillLabel, isolate } from "./tokens.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {{say: (text: string) => void, reveal: (focus: Focus) => void}} Acts
 * @typedef {object} Numbers of one token with its partners
 * @property {Focus} focus
 * @property {number[]} heads
 * @property {Float32Array} weights (head, token), flat, all heads of the layer
 * @property {number} length tokens per head
 * @property {number[]} partners tokens shown on the other side
 * @property {Float32Array | null} scores scaled query·key, in the neuron view
 */

const MOST_ROWS = 24;
const MOST_HEADS = 16;

/** @param {Numbers} numbers @param {number} token @returns {number} mean over the heads */
export function meanWeight({ heads, weights, length }, token) {
  let sum = 0;
  for (const head of heads) sum += weights[head * length + token];
  return sum / heads.length;
}

/** @param {Numbers} numbers @param {number} token @returns {number} the head that gives it most */
export function strongestHead({ heads, weights, length }, token) {
  return heads.reduce((best, head) => (weights[head * length + token] > weights[best * length + token] ? head : best), heads[0]);
}

/** @param {Context} context @returns {number[]} heads whose numbers are shown */
export function headsShown({ state, heads, head }) {
  return state.view === "heads" || state.view === "compare" ? heads : [head];
}

/** Tokens of the other side. @param {Context} context @param {Focus} focus */
const partnerAxis = (context, { side }) => axisOf(context, side === "left" ? "right" : "left");

/** Tokens shown on the other side, without those that the layer masks. @param {Context} context @param {Focus} focus */
function partnersOf({ stack, depth, rows, columns, queries, keys }, { side, token }) {
  const { mask } = termsOf(stack.score, depth, 0);
  const seen = (/** @type {number} */ query, /** @type {number} */ key) =>
    queries.members[query].some((one) => keys.members[key].some((other) => sees(mask, one, other)));
  return side === "left" ? columns.filter((key) => seen(token, key)) : rows.filter((query) => seen(query, token));
}

/** The colour that a head has in the view at hand. @param {Context} context @param {number} head */
function colourOf({ state, stack, depth }, head) {
  if (state.view === "neuron") return css(themeColour("--weight"));
  const rgb = state.view === "model" ? layerColour(depth, stack.layers.length, isDark()) : headColour(head, isDark());
  return css(rgb);
}

export class Inspector {
  /** @param {HTMLElement} root @param {import("./api.js").Api} api @param {Acts} acts */
  constructor(root, api, acts) {
    this.root = root;
    this.api = api;
    this.acts = acts;
    this.title = el("p", { class: "inspected" });
    this.about = el("p", { class: "inspected-about" });
    this.table = el("div", { class: "ranking", role: "table", "aria-label": "Weights, strongest first" });
    this.rest = el("p", { class: "inspected-about" });
    this.split = el("div", { class: "split" });
    root.replaceChildren(el("header", {}, el("h2", { text: "Inspector" })), this.title, this.about,
      this.table, this.rest, this.split);
    this.table.addEventListener("pointerover", (event) => this.pointed(event));
    this.table.addEventListener("click", (event) => this.clicked(event));
    this.round = 0;
    /** @type {Numbers | null} */
    this.numbers = null;
  }

  /**
   * Show a token's numbers, or how to get them.
   * @param {Context} context
   * @param {Focus | null} focus
   * @param {Focus | null} partner a token on the other side, under the pointer
   * @param {((token: number) => Float32Array | null) | null} scoresOf
   */
  async show(context, focus, partner, scoresOf) {
    const round = (this.round += 1);
    const inModel = context.state.view === "model" && !context.state.enlarged;
    if (!focus || inModel || !("attention" in context.vault.arrays)) {
      this.clear(context, inModel);
      return;
    }
    try {
      const weights = await loadNumbers(this.api, context, focus, headsShown(context));
      if (round !== this.round) return;
      this.numbers = {
        focus,
        heads: headsShown(context),
        weights,
        length: partnerAxis(context, focus).length,
        partners: partnersOf(context, focus),
        scores: focus.side === "left" ? scoresOf?.(focus.token) ?? null : null,
      };
      this.context = context;
      this.fill(context, this.numbers, partner);
    } catch (error) {
      if (isAbort(error) || round !== this.round) return;
      this.clear(context, false);
      this.title.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  /** @param {Context} context @param {boolean} inModel */
  clear({ vault }, inModel) {
    this.numbers = null;
    this.root.dataset.focus = "";
    this.table.replaceChildren();
    this.split.replaceChildren();
    this.about.textContent = "";
    this.rest.textContent = "";
    this.title.className = "inspected hint";
    this.title.textContent = !("attention" in vault.arrays) ? "This vault keeps no attention, so there are no weights to list."
      : inModel ? "Enlarge a head to point at its tokens."
        : "Point at a token to read its weights; click it to keep them.";
  }

  /** @param {Context} context @param {Numbers} numbers @param {Focus | null} partner */
  fill(context, numbers, partner) {
    const { focus, heads, partners } = numbers;
    const { layer } = context;
    const ranked = partners
      .map((token) => ({ token, weight: meanWeight(numbers, token) }))
      .sort((a, b) => b.weight - a.weight || a.token - b.token);
    const name = el("b", { class: "inspected-token" });
    fillLabel(name, axisOf(context, focus.side).labels[focus.token]);
    this.title.className = "inspected";
    this.title.replaceChildren(name, el("span", { class: "position", text: focus.token }),
      focus.side === "left" ? " attends to" : " is attended to by");
    const { words, renormalises } = context.reading;
    this.about.textContent = (heads.length === 1 ? `Layer ${layer}, head ${heads[0]}` : `Layer ${layer}, mean of ${heads.length} heads`)
      + (words ? " · by words" : "") + (renormalises ? " · without special tokens, renormalised" : "");
    const shown = ranked.slice(0, MOST_ROWS);
    const strongest = Math.max(1e-9, shown[0]?.weight ?? 0);
    this.table.replaceChildren(...shown.map((entry) => this.makeRow(context, numbers, entry, strongest)));
    const all = (focus.side === "left" ? context.columns : context.rows).length;
    this.showRest(context, numbers, ranked, all - partners.length);
    const chosen = partner && partners.includes(partner.token) ? partner.token : ranked[0]?.token;
    if (chosen !== undefined) this.choose(chosen);
    this.root.dataset.focus = `${focus.side}-${focus.token}`;
    this.root.dataset.layer = String(layer);
    this.root.dataset.heads = heads.join(".");
  }

  /** @param {Context} context @param {Numbers} numbers @param {{token: number, weight: number}[]} ranked @param {number} masked */
  showRest(context, numbers, ranked, masked) {
    const total = ranked.reduce((sum, { weight }) => sum + weight, 0);
    const hidden = ranked.slice(MOST_ROWS).reduce((sum, { weight }) => sum + weight, 0);
    const parts = [];
    if (ranked.length > MOST_ROWS) parts.push(`${ranked.length - MOST_ROWS} more share ${formatWeight(hidden)}.`);
    if (numbers.focus.side === "left" && total < 0.995) {
      const sinks = termsOf(context.stack.score, context.depth, 0).sink?.mode === "softmax" ? ["the sink"] : [];
      const hidden = context.columns.length < context.keys.length && !context.reading.words ? ["tokens not shown"] : [];
      const beside = context.stack.beside ? [context.stack.beside] : [];
      parts.push(`${formatWeight(1 - total)} goes to ${[...sinks, ...beside, ...hidden].join(" and ") || "tokens not shown"}.`);
    }
    if (numbers.focus.side === "right") parts.push(`Sum over all shown ${total.toFixed(3)}.`);
    if (masked > 0) {
      const { causal, window, chunk } = termsOf(context.stack.score, context.depth, 0).mask;
      const onlyCausal = causal && window === null && chunk === null;
      const isLeft = numbers.focus.side === "left";
      if (onlyCausal) parts.push(isLeft ? `Causal: ${masked} later tokens are masked.` : `Causal: ${masked} earlier tokens cannot see it.`);
      else parts.push(isLeft ? `${masked} tokens are masked in this layer.` : `${masked} tokens cannot see it in this layer.`);
    }
    this.rest.textContent = parts.join(" ");
  }

  /**
   * @param {Context} context
   * @param {Numbers} numbers
   * @param {{token: number, weight: number}} entry
   * @param {number} strongest
   */
  makeRow(context, numbers, { token, weight }, strongest) {
    const { labels } = partnerAxis(context, numbers.focus);
    const name = el("span", { class: "rank-token", role: "cell" });
    fillLabel(name, labels[token]);
    name.append(el("small", { class: "position", text: token }));
    const bar = el("i", { class: "rank-bar" });
    bar.style.width = `${(100 * weight) / strongest}%`;
    bar.style.background = colourOf(context, strongestHead(numbers, token));
    const row = el("div", {
      class: "rank", role: "row", "data-token": token, "data-weight": String(weight),
      title: `${isolate(labels[token].text)} · token ${token} · ${weight}`,
    }, name, el("span", { class: "rank-track" }, bar));
    if (numbers.scores) {
      const score = numbers.scores[token];
      row.dataset.score = String(score);
      row.append(el("span", { class: "rank-score", role: "cell", text: formatSigned(score) }));
    }
    row.append(el("span", { class: "rank-weight", role: "cell", text: formatWeight(weight) }));
    return row;
  }

  /** @param {Event} event */
  pointed(event) {
    const row = /** @type {Element} */ (event.target).closest(".rank");
    if (row instanceof HTMLElement) this.choose(Number(row.dataset.token));
  }

  /** Bring the token of a row into sight. @param {Event} event */
  clicked(event) {
    const row = /** @type {Element} */ (event.target).closest(".rank");
    if (!(row instanceof HTMLElement) || !this.numbers) return;
    this.acts.reveal({ side: this.numbers.focus.side === "left" ? "right" : "left", token: Number(row.dataset.token) });
  }

  /** One pair of tokens: its weight in each head, and in words. @param {number} token */
  choose(token) {
    const { numbers, context } = this;
    if (!numbers || !context) return;
    for (const row of this.table.children) {
      row.classList.toggle("is-chosen", Number(/** @type {HTMLElement} */ (row).dataset.token) === token);
    }
    const { focus, heads, weights, length } = numbers;
    const [query, key] = focus.side === "left" ? [focus.token, token] : [token, focus.token];
    const pair = `${isolate(context.queries.labels[query].text)} → ${isolate(context.keys.labels[key].text)}`;
    const mean = meanWeight(numbers, token);
    const of = heads.length === 1 ? `head ${heads[0]}` : `mean of ${heads.length} heads`;
    this.acts.say(`Layer ${context.layer}, ${of}: ${pair} ${mean.toFixed(4)}`);
    this.root.dataset.pair = `${query}-${key}`;
    if (heads.length === 1) {
      this.split.replaceChildren();
      return;
    }
    const ranked = heads.map((head) => ({ head, weight: weights[head * length + token] }))
      .sort((a, b) => b.weight - a.weight).slice(0, MOST_HEADS);
    this.split.replaceChildren(el("h3", { text: `${pair} by head` }), ...ranked.map((entry) => this.makeHead(entry)));
  }

  /** @param {{head: number, weight: number}} entry */
  makeHead({ head, weight }) {
    const chip = el("span", { class: "chip", text: head });
    chip.style.setProperty("--patch", css(headColour(head, isDark())));
    const bar = el("i", { class: "rank-bar" });
    bar.style.width = `${100 * weight}%`;
    bar.style.background = css(headColour(head, isDark()));
    return el("div", { class: "split-head", "data-head": head, "data-weight": String(weight) },
      chip, el("span", { class: "rank-track" }, bar), el("span", { class: "rank-weight", text: formatWeight(weight) }));
  }
}
