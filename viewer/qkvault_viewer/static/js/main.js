/** The page: one state, the parts that draw it, and the acts that change it. */

import { Api, ApiError, isAbort } from "./api.js";
import {
  clearExample, fillStores, hideNotice, showError, showExample, showMissing, showTop, switchTheme,
} from "./chrome.js";
import { makeCommands, makePlaces, makeSupply } from "./catalogue.js";
import { fillHelp, listen } from "./commands.js";
import { makeContext } from "./context.js";
import { Corpus } from "./corpus.js";
import { byId } from "./dom.js";
import { Comparison } from "./comparison.js";
import { HeadMap } from "./headmap.js";
import { Inspector } from "./inspector.js";
import { Hints } from "./hints.js";
import { Navigation } from "./navigation.js";
import { Palette } from "./palette.js";
import { Prefetch } from "./prefetch.js";
import { formatState, Store } from "./state.js";
import { TakeAway } from "./takeaway.js";
import { Toolbar } from "./toolbar.js";
import { CompareView } from "./views/compare.js";
import { HeadView } from "./views/head.js";
import { drawnAs, ModelView } from "./views/model.js";
import { NeuronView } from "./views/neuron.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {import("./api.js").Vault} Vault
 */

const PATIENCE_MS = 160;
const HOVER_MS = 45;
const RESIZE_MS = 120;

class Page {
  constructor() {
    this.api = new Api();
    this.store = new Store((state) => void this.update(state));
    this.acts = new Navigation(this);
    const { acts, api } = this;
    this.comparison = new Comparison(api, (name) => this.vaultNamed(name));
    this.corpus = new Corpus(byId("corpus"), api, acts);
    this.headmap = new HeadMap(byId("headmap"), api, acts, (context, signal) => this.comparison.changes(context, signal));
    this.inspector = new Inspector(byId("inspector"), api, acts);
    this.prefetch = new Prefetch(api);
    this.hints = new Hints(api, { compare: (first, others) => acts.compare(first, others), showKeys: () => /** @type {HTMLDialogElement} */ (byId("help")).showModal() });
    this.toolbar = new Toolbar(byId("toolbar"), acts);
    this.views = {
      heads: new HeadView(byId("view-heads"), api, acts),
      model: new ModelView(byId("view-model"), api, acts),
      neuron: new NeuronView(byId("view-neuron"), api, acts),
      compare: new CompareView(byId("view-compare"), api, acts, this.comparison),
    };
    this.needs = { heads: HeadView.needs, model: ModelView.needs, neuron: NeuronView.needs, compare: CompareView.needs };
    this.takeAway = new TakeAway({
      at: () => this.context,
      sourceOf: (view) => /** @type {any} */ (this.views)[view]?.figure ? /** @type {any} */ (this.views)[view] : null,
      say: acts.say,
    });
    /** @type {Context | null} what is drawn; null while nothing is */
    this.context = null;
    /** @type {Vault | null} */
    this.vault = null;
    /** @type {{name: string, title: string, url: string}[]} */
    this.stores = [];
    /** @type {Focus | null} */
    this.hovered = null;
    /** @type {string | null} */
    this.drawnKey = null;
    this.draws = 0;
    this.abort = new AbortController();
  }

  async start() {
    const commands = makeCommands(this);
    const help = /** @type {HTMLDialogElement} */ (byId("help"));
    fillHelp(help, commands);
    listen(commands);
    this.palette = new Palette(/** @type {HTMLDialogElement} */ (byId("palette")), () => [...commands, ...makePlaces(this)], makeSupply(this));
    this.acts.wire();
    try {
      this.stores = (await this.api.stores()).stores;
      fillStores(this.stores, (store) => this.acts.openStore(store));
    } catch (error) {
      showError(error, { title: "Try again", run: () => location.reload() });
      return;
    }
    await this.update(this.store.state);
    const stage = byId("stage");
    const size = () => `${stage.clientWidth} ${stage.clientHeight}`;
    let drawn = size();
    new ResizeObserver(() => {
      if (size() === drawn) return;
      drawn = size();
      clearTimeout(this.resizing);
      // An error's own notice changes the size, and is not to be drawn over.
      this.resizing = setTimeout(() => { if (this.context) void this.redraw(); }, RESIZE_MS);
    }).observe(stage);
  }

  /** Draw all again: the window or the theme is another. */
  async redraw() {
    this.drawnKey = null;
    await this.update(this.store.state);
  }

  /** @param {string} name @returns {Promise<Vault>} */
  async vaultNamed(name) {
    if (this.vault?.name === name) return this.vault;
    const found = this.stores.find((store) => store.name === name);
    if (!found) throw new ApiError(404, "not_found", `no vault is served under the name ${name}`);
    return this.api.vault(found.url);
  }

  /** @param {State} state @returns {Promise<Vault>} */
  async vaultOf(state) {
    const found = this.stores.find(({ name }) => name === state.store) ?? (state.store ? null : this.stores[0]);
    if (!found) throw new ApiError(404, "not_found", `no vault is served under the name ${state.store}`);
    if (this.vault?.name !== found.name) this.vault = await this.api.vault(found.url);
    return this.vault;
  }

  /**
   * Bring everything to this state. A later call overtakes it.
   * @param {State} state
   */
  async update(state) {
    this.abort.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    delete document.documentElement.dataset.ready;
    const waiting = setTimeout(() => { byId("progress").hidden = false; }, PATIENCE_MS);
    try {
      const vault = await this.vaultOf(state);
      showTop(vault, state);
      const list = this.corpus.show(vault, state, signal);
      list.catch(() => {});
      await this.draw(vault, state, signal);
      await list;
      if (signal.aborted) return;
      this.settle(state);
      this.lookAhead(signal);
    } catch (error) {
      if (!signal.aborted && !isAbort(error)) await this.fail(error, state);
    } finally {
      clearTimeout(waiting);
      if (!signal.aborted) byId("progress").hidden = true;
    }
  }

  /** @param {Vault} vault @param {State} state @param {AbortSignal} signal */
  async draw(vault, state, signal) {
    const pins = state.view === "compare" ? state.pins : [];
    const key = formatState({ ...state, pins, locked: null, query: "", where: {}, sort: "", descending: false, cursor: null });
    const example = await this.api.example(vault, state.example, signal);
    const context = makeContext(state, vault, example);
    signal.throwIfAborted();
    const redrawn = key !== this.drawnKey;
    if (redrawn) {
      this.drawnKey = null;
      this.hovered = null;
      showExample(context);
      this.toolbar.show(context, drawnAs(context));
      for (const [name, view] of Object.entries(this.views)) view.root.hidden = name !== state.view;
      const missing = this.needs[state.view].filter((array) => !(array in vault.arrays));
      const map = this.headmap.show(context, signal);
      map.catch(() => {});
      if (missing.length) showMissing(state.view, missing);
      else await this.views[state.view].show(context, signal);
      await map;
      signal.throwIfAborted();
      if (!missing.length) hideNotice();
      this.drawnKey = key;
    }
    this.context = context;
    // A link to a token of a long text shows it.
    if (redrawn && context.locked) this.reveal(context.locked);
    await this.showFocus(context);
  }

  /** What can wait until the picture stands. @param {AbortSignal} signal */
  lookAhead(signal) {
    if (!this.context) return;
    void this.hints.show(this.context, signal);
    void this.prefetch.run(this.context, this.corpus.near(this.context.example.index), signal);
  }

  /** Say that the picture is whole: browser tests and screenshots wait for it. @param {State} state */
  settle(state) {
    const { dataset } = document.documentElement;
    this.draws += 1;
    dataset.shown = formatState(state);
    dataset.ready = String(this.draws);
  }

  /** @param {unknown} error @param {State} state */
  async fail(error, state) {
    this.drawnKey = null;
    this.context = null;
    if (error instanceof ApiError && error.kind === "stale" && this.vault) {
      this.vault = null;
      await this.update(state);
      return;
    }
    clearExample();
    const lost = error instanceof ApiError && error.status === 404;
    showError(error, lost
      ? { title: "Open the first example", run: () => this.store.set({ store: "", example: 0, stack: "", layer: null }) }
      : { title: "Try again", run: () => void this.update(this.store.state) });
    if (!(error instanceof ApiError)) console.error(error);
    this.settle(state);
  }

  /** @param {Focus | null} focus */
  hover(focus) {
    if (focus?.side === this.hovered?.side && focus?.token === this.hovered?.token) return;
    this.hovered = focus;
    const { context } = this;
    if (!context) return;
    this.views[context.state.view].focus(focus, context.locked);
    clearTimeout(this.hovering);
    this.hovering = setTimeout(() => void this.inspect(context), HOVER_MS);
  }

  /**
   * The example of an id in another vault, as a pin; null if it has none.
   * @param {string} name @param {string} id
   */
  async findTwin(name, id) {
    const vault = await this.vaultNamed(name);
    const slice = { query: "", where: { id: [id] }, sort: "", descending: false };
    const { rows } = await this.api.examples(vault, slice, { cursor: null, limit: 1 });
    return rows.length ? `${name}~${rows[0].index}` : null;
  }

  /** Bring a token into sight. @param {Focus} focus */
  reveal(focus) {
    const { context } = this;
    if (!context) return;
    const at = (focus.side === "left" ? context.rows : context.columns).indexOf(focus.token);
    if (at >= 0) this.views[context.state.view].columns.reveal(at);
  }

  /** @param {Context} context */
  async showFocus(context) {
    const missing = this.needs[context.state.view].some((array) => !(array in context.vault.arrays));
    if (!missing) this.views[context.state.view].focus(this.hovered, context.locked);
    await this.inspect(context);
  }

  /** @param {Context} context */
  inspect(context) {
    const { locked } = context;
    const partner = locked && this.hovered && locked.side !== this.hovered.side ? this.hovered : null;
    const scores = context.state.view === "neuron" && "key" in context.vault.arrays
      ? (/** @type {number} */ token) => this.views.neuron.scoresOf(token) : null;
    return this.inspector.show(context, locked ?? this.hovered, partner, scores);
  }

  toggleTheme() {
    switchTheme();
    void this.redraw();
  }
}

void new Page().start();
