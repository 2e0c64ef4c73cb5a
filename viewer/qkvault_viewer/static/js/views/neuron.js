/** The neuron view: how one head's queries and keys make its attention. */

import { fitTokens, TokenColumns } from "../columns.js";
import { el, themeColour } from "../dom.js";
import { LineLayer } from "../linelayer.js";
import { select } from "../neuroncells.js";
import { NeuronColumns } from "../neuroncolumns.js";
import { linesFigure, rasterFigure, TAKEN_DENSITY, weightNumbers } from "../taken.js";
import { describeTerms, termsOf } from "../scoreterms.js";

/**
 * @typedef {import("../context.js").Context} Context
 * @typedef {import("../state.js").Focus} Focus
 * @typedef {import("../neuroncells.js").Vectors} Vectors
 * @typedef {import("../neuroncells.js").Selected} Selected
 * @typedef {{hover: (focus: Focus | null) => void, pick: (focus: Focus) => void,
 *   expand: (expanded: boolean, focus: Focus) => void}} Acts
 */

export class NeuronView {
  /** @type {readonly string[]} */
  static needs = ["query", "key"];

  /** @param {HTMLElement} root @param {import("../api.js").Api} api @param {Acts} acts */
  constructor(root, api, acts) {
    this.root = root;
    this.api = api;
    this.acts = acts;
    this.columns = new TokenColumns({
      onHover: acts.hover,
      onPick: acts.pick,
      onScroll: () => this.scrolled(),
      decorate: (row, side, token) => this.decorate(row, side, token),
    });
    this.layer = new LineLayer(this.columns);
    this.opened = new NeuronColumns(this.columns, root);
    this.note = el("p", { class: "neuron-note" });
    root.append(this.note, this.opened.heading, this.columns.element, this.opened.foot.element, this.opened.tip);
    /** @type {Focus | null} */
    this.focused = null;
  }

  /** The sign that opens or closes the columns, on every attending token. @param {HTMLElement} row @param {string} side @param {number} token */
  decorate(row, side, token) {
    if (side !== "left") return;
    const open = this.context?.state.expanded ?? false;
    const sign = el("span", {
      class: "expander", text: open ? "−" : "+", role: "button",
      "aria-label": open ? "Back to lines" : "Show query and key",
      title: open ? "Back to lines" : "Show how this token's query meets every key",
    });
    sign.addEventListener("click", (event) => {
      event.stopPropagation();
      this.acts.expand(!open, { side: "left", token });
    });
    row.prepend(sign);
  }

  /** @param {Context} context @param {AbortSignal} signal */
  async show(context, signal) {
    const { vault, example, stack, layer, head, state } = context;
    const at = `${stack.name}/${layer}/${head}`;
    const kept = "attention" in vault.arrays;
    const parts = state.expanded && "value" in vault.arrays ? "query,key,value" : "query,key";
    const [[query, key, value], attention] = await Promise.all([
      this.api.frames(vault, example.index, `vectors/${at}?parts=${parts}`, signal),
      kept && !state.expanded ? this.api.frames(vault, example.index, `attention/${at}`, signal) : null,
    ]);
    this.context = context;
    this.vectors = {
      query: /** @type {Float32Array} */ (query.data),
      key: /** @type {Float32Array} */ (key.data),
      value: value ? /** @type {Float32Array} */ (value.data) : null,
      dimensions: query.shape[1],
      valueDimensions: value ? value.shape[1] : 0,
      keyHead: key.head ?? head,
      scaling: stack.score.scaling[context.depth],
      terms: termsOf(stack.score, context.depth, head),
    };
    this.root.classList.toggle("is-expanded", state.expanded);
    this.opened.foot.element.hidden = !state.expanded;
    this.showNote(context, kept);
    this.lay(context);
    if (state.expanded) this.opened.show(context, this.vectors);
    else await this.showLines(context, attention?.[0] ?? null);
  }

  /** @param {Context} context @param {boolean} kept */
  showNote({ vault, stack, head, state }, kept) {
    const { keyHead, terms } = /** @type {Vectors} */ (this.vectors);
    const notes = [];
    if (stack.key_heads < stack.heads) {
      const what = state.columns === "value" ? "key and value head" : "key head";
      notes.push(`Query head ${head} uses ${what} ${keyHead} of ${stack.key_heads} (grouped-query attention).`);
    }
    notes.push(...describeTerms(terms));
    if (vault.arrays.attention?.derived) notes.push("This vault derives attention from query and key.");
    if (state.expanded && state.columns === "value" && !("value" in vault.arrays)) {
      notes.push("No values are kept in this vault; extract again with --arrays attention,query,key,value to have them.");
    }
    if (!kept) notes.push("No attention is kept; the softmax is computed here from query and key.");
    if (!state.expanded) notes.push(kept ? "Point at a token on the left and press + to see its query meet every key." : "");
    this.note.textContent = notes.filter(Boolean).join(" ");
    this.note.hidden = this.note.textContent === "";
  }

  /** @param {Context} context */
  lay(context) {
    const { element } = this.columns;
    const { expanded } = context.state;
    const fit = fitTokens(context, element.clientWidth, element.clientHeight, expanded ? 0.16 : 0.27);
    this.columns.lay({
      queries: context.queries,
      keys: context.keys,
      rows: context.rows,
      columns: context.columns,
      rowHeight: fit.rowHeight,
      tokenWidth: fit.tokenWidth + (expanded ? 14 : 0),
    });
  }

  /** @param {Context} context @param {import("../wire.js").Frame | null} frame */
  async showLines({ rows, columns }, frame) {
    this.opened.hide();
    const maps = frame ? [{
      codes: /** @type {Uint8Array} */ (frame.data), offset: 0, stride: frame.shape[1],
      colour: themeColour("--weight"),
    }] : [];
    await this.layer.show({ maps, rows, columns });
  }

  /** @param {Focus | null} focus @param {Focus | null} locked */
  focus(focus, locked) {
    this.columns.setFocus(focus, locked);
    this.focused = locked ?? focus;
    const { context } = this;
    if (!context?.state.expanded) {
      this.layer.drawFocus(this.focused);
      return;
    }
    const of = (/** @type {"left" | "right"} */ side) => [locked, focus].find((one) => one?.side === side)?.token ?? null;
    const query = of("left");
    if (query === (this.opened.selected?.token ?? null)) this.opened.pair(of("right"));
    else void this.opened.select(query, of("right"), (selected) => this.weightsOf(context, selected));
  }

  /** Exact weights from the vault; computed where it keeps none. @param {Context} context @param {Selected} selected */
  async weightsOf({ vault, example, stack, layer, head }, { token, computed }) {
    if (!("attention" in vault.arrays)) return computed;
    const path = `row/${stack.name}/${layer}/${token}`;
    const [frame] = await this.api.frames(vault, example.index, path);
    const keys = frame.shape[1];
    return /** @type {Float32Array} */ (frame.data).subarray(head * keys, (head + 1) * keys);
  }

  /** Scores of a query token with every key, for the inspector. @param {number} token @returns {Float32Array | null} */
  scoresOf(token) {
    return this.vectors ? select(this.vectors, token).scores : null;
  }

  scrolled() {
    if (this.context?.state.expanded) {
      this.opened.draw();
    } else {
      this.layer.drawFocus(this.focused);
      void this.layer.drawInSight();
    }
  }

  /** @param {Context} context @returns {import("../svgfigure.js").Figure} */
  figure(context) {
    const { drawing } = this.layer;
    return !context.state.expanded && drawing ? linesFigure(context, drawing, [context.head])
      : rasterFigure(this.opened.take(TAKEN_DENSITY), this.columns, context, this.opened.heading);
  }

  /** Of the query in the columns, all its numbers; else the weights. @param {Context} context @returns {Promise<import("../takeaway.js").Numbers>} */
  async numbers(context) {
    const { selected, contribution } = this.opened;
    if (!context.state.expanded || !selected) {
      if (!("attention" in context.vault.arrays)) throw new Error("Choose a token first: the vault keeps no attention.");
      return weightNumbers(this.api, context, [context.head]);
    }
    const { token, scaled, capped, added, scores, weights } = selected;
    const of = (/** @type {ArrayLike<number> | null | undefined} */ values, /** @type {number} */ key) =>
      (values && !Number.isNaN(values[key]) ? values[key] : "");
    return {
      names: ["layer", "head", "query", "query_token", "key", "key_token", "scaled_product", "capped", "bias", "score", "softmax", "contribution_norm"],
      rows: context.columns.map((key) => [
        context.layer, context.head, token, context.queries.labels[token].text, key, context.keys.labels[key].text,
        of(scaled, key), of(capped, key), of(added, key), of(scores, key), of(weights, key), of(contribution?.norms, key),
      ]),
    };
  }
}
