/** The acts of the page: each turns a gesture or a key into a change of the state. */

import { FILTERS, placeState } from "./context.js";
import { byId, el } from "./dom.js";
import { DIMS, MOST_PINS, SPECIALS } from "./state.js";
import { drawnAs } from "./views/model.js";

/**
 * @typedef {import("./state.js").State} State
 * @typedef {import("./state.js").Focus} Focus
 * @typedef {import("./state.js").ViewName} ViewName
 * @typedef {import("./context.js").Context} Context
 * @typedef {{store: import("./state.js").Store, context: Context | null,
 *   vault: import("./api.js").Vault | null, corpus: import("./corpus.js").Corpus,
 *   palette: import("./palette.js").Palette,
 *   stores: {name: string, title: string, url: string}[],
 *   findTwin: (name: string, id: string) => Promise<string | null>,
 *   hover: (focus: Focus | null) => void, reveal: (focus: Focus) => void, toggleTheme: () => void}} Page
 */

/** What comes after one of a list, round and round. @template T @param {readonly T[]} list @param {T} one @returns {T} */
const after = (list, one) => list[(list.indexOf(one) + 1) % list.length];

export class Navigation {
  /** @param {Page} page */
  constructor(page) {
    const set = page.store.set.bind(page.store);
    this.page = page;
    this.set = set;
    this.hover = (/** @type {Focus | null} */ focus) => page.hover(focus);
    this.search = (/** @type {string} */ query) => set({ query, cursor: null }, { replace: true });
    this.narrow = (/** @type {import("./slice.js").Where} */ where) => set({ where, cursor: null });
    this.order = (/** @type {string} */ sort, /** @type {boolean} */ descending) => set({ sort, descending, cursor: null });
    this.clear = () => set({ query: "", where: {}, sort: "", descending: false, cursor: null });
    this.turn = (/** @type {string | null} */ cursor) => set({ cursor });
    this.openStore = (/** @type {string} */ store) =>
      set({ store, example: 0, stack: "", layer: null, head: 0, heads: null, locked: null, pins: [],
        query: "", where: {}, sort: "", descending: false, cursor: null });
    this.setLayer = (/** @type {number} */ layer) => set({ layer });
    this.setMetric = (/** @type {string} */ metric) => set({ metric }, { replace: true });
    this.magnify = (/** @type {number} */ layer, /** @type {number} */ head) => set({ view: "model", layer, head, enlarged: true });
    this.setHead = (/** @type {number} */ head) => set({ head });
    this.setStack = (/** @type {string} */ stack) => set({ stack, layer: null, heads: null, locked: null });
    this.setFilter = (/** @type {string} */ filter) => set({ filter: /** @type {State["filter"]} */ (filter) });
    this.setDraw = (/** @type {"lines" | "matrix"} */ draw) => set({ draw });
    this.setMass = (/** @type {number} */ mass) => set({ mass }, { replace: true });
    this.setSpecial = (/** @type {string} */ special) => set({ special: /** @type {State["special"]} */ (special) });
    this.setWords = (/** @type {boolean} */ words) => set({ words });
    this.setExpanded = (/** @type {boolean} */ expanded) => set({ expanded });
    this.setColumns = (/** @type {"score" | "value" | null} */ columns) => set(columns ? { expanded: true, columns } : { expanded: false });
    this.setDims = (/** @type {string} */ dims) => set({ dims: /** @type {State["dims"]} */ (dims) });
    this.frame = (/** @type {number} */ layer, /** @type {number} */ head) => set({ layer, head }, { replace: true });
    this.enlarge = (/** @type {number} */ layer, /** @type {number} */ head) => set({ layer, head, enlarged: true });
    this.close = () => set({ enlarged: false, locked: null });
    this.allHeads = () => set({ heads: null });
    this.reveal = (/** @type {Focus} */ focus) => page.reveal(focus);
    this.say = (/** @type {string} */ text) => { byId("live").textContent = text; };
    this.pin = this.pin.bind(this);
    this.pinHere = this.pinHere.bind(this);
    this.open = this.open.bind(this);
    this.step = this.step.bind(this);
    this.pick = this.pick.bind(this);
    this.expand = this.expand.bind(this);
    this.openIn = this.openIn.bind(this);
    this.go = this.go.bind(this);
    this.toggleHead = this.toggleHead.bind(this);
    this.isolateHead = this.isolateHead.bind(this);
  }

  /** @param {number} example */
  open(example) {
    document.body.classList.remove("shows-corpus");
    this.set({ example, locked: null });
  }

  /** Compare with an example of this vault, or stop it. @param {number} index */
  pin(index) {
    const { pins } = this.page.store.state;
    const pin = String(index);
    document.body.classList.remove("shows-corpus");
    if (pins.includes(pin)) this.set({ pins: pins.filter((one) => one !== pin) });
    else this.set({ pins: [...pins, pin].slice(-MOST_PINS), view: "compare" });
  }

  /** Keep the example that is open to compare others with. */
  pinHere() {
    const { pins, example } = this.page.store.state;
    const pin = String(example);
    const has = pins.includes(pin);
    this.set({ pins: has ? pins.filter((one) => one !== pin) : [...pins, pin].slice(-MOST_PINS) }, { replace: true });
    this.say(has ? `Example ${pin} is no longer pinned` : `Example ${pin} is pinned: open another and press 4 to compare`);
  }

  /** @param {number} first @param {number[]} others examples of this vault */
  compare(first, others) {
    this.set({ example: first, pins: others.map(String).slice(0, MOST_PINS), view: "compare", locked: null });
  }

  /** @param {string} pin */
  unpin(pin) {
    this.set({ pins: this.page.store.state.pins.filter((one) => one !== pin) });
  }

  /** Make a pinned example of this vault the one that others are compared with. @param {string} pin */
  swap(pin) {
    const { pins, example } = this.page.store.state;
    const index = Number(pin.split("~").at(-1));
    this.set({ example: index, pins: pins.map((one) => (one === pin ? String(example) : one)), locked: null });
  }

  /** Compare with the next or previous example of the list. @param {1 | -1} by */
  async pinNeighbour(by) {
    const { vault, corpus, store, context } = this.page;
    const { state } = store;
    const change = vault && (await corpus.neighbour(vault, { ...state, example: Number(state.pins.at(-1) ?? state.example) || state.example }, by));
    const pin = change?.example === undefined ? null : String(change.example);
    if (!pin || state.pins.includes(pin)) this.say("There is no further example in the list");
    else if (context) this.set({ pins: [...state.pins, pin].slice(-MOST_PINS) });
  }

  /** Compare with the example of the same id in another vault. @param {string} name */
  async pinTwin(name) {
    const { context, store } = this.page;
    if (!context) return;
    const pin = await this.page.findTwin(name, context.example.id);
    const { pins } = store.state;
    if (pin === null) this.say("That vault has no example of this id");
    else if (!pins.includes(pin)) this.set({ pins: [...pins, pin].slice(-MOST_PINS) });
  }

  /** Vaults served besides the one that is open. */
  otherStores() {
    return this.page.stores.filter(({ name }) => name !== this.page.vault?.name);
  }

  /** @param {1 | -1} by */
  async step(by) {
    const { vault, corpus, store } = this.page;
    if (!vault) return;
    const change = await corpus.neighbour(vault, store.state, by);
    if (change) this.set({ ...change, locked: null });
  }

  /** Keep a token in focus, or let it go. @param {Focus} focus */
  pick(focus) {
    const { locked } = this.page.store.state;
    const same = locked?.side === focus.side && locked.token === focus.token;
    this.set({ locked: same ? null : focus }, { replace: true });
  }

  /** @param {boolean} expanded @param {Focus} focus */
  expand(expanded, focus) {
    this.set({ expanded, locked: expanded ? focus : null });
  }

  /** @param {"heads" | "neuron"} view @param {number} layer @param {number} head */
  openIn(view, layer, head) {
    this.set({ view, layer, head, heads: view === "heads" ? [head] : this.page.store.state.heads });
  }

  /** The layer and heads of the state, which may be ahead of what is drawn. */
  place() {
    const { store, vault } = this.page;
    return vault ? placeState(store.state, vault) : null;
  }

  /** @param {number} layer @param {number} head @param {boolean} add */
  go(layer, head, add) {
    const { view } = this.page.store.state;
    if (view === "model" || view === "neuron") this.set(view === "model" ? { layer, head, enlarged: true } : { layer, head });
    else if (add && layer === this.place()?.layer) this.toggleHead(head);
    else this.set({ layer, head, heads: [head] });
  }

  /** The last head that is on stays on. @param {number} head */
  toggleHead(head) {
    const place = this.place();
    if (!place) return;
    const on = place.heads.includes(head);
    if (on && place.heads.length === 1) return;
    const heads = on ? place.heads.filter((one) => one !== head) : [...place.heads, head].sort((a, b) => a - b);
    this.set({ heads: heads.length === place.stack.heads ? null : heads }, { replace: true });
  }

  /** Show one head alone; all again if it is alone already. @param {number} head */
  isolateHead(head) {
    const heads = this.place()?.heads ?? [];
    const alone = heads.length === 1 && heads[0] === head;
    this.set(alone ? { heads: null } : { heads: [head], head });
  }

  /** @param {1 | -1} by */
  stepLayer(by) {
    const place = this.place();
    const layer = place?.stack.layers[place.depth + by];
    if (layer !== undefined) this.set({ layer });
  }

  /** @param {1 | -1} by */
  stepHead(by) {
    const place = this.place();
    const head = (place?.head ?? 0) + by;
    if (!place || head < 0 || head >= place.stack.heads) return;
    this.set(["heads", "compare"].includes(this.page.store.state.view) ? { head, heads: [head] } : { head });
  }

  nextFilter() {
    const { context } = this.page;
    if (!context?.pair) return;
    const at = FILTERS.findIndex(({ name }) => name === this.page.store.state.filter);
    this.setFilter(FILTERS[(at + 1) % FILTERS.length].name);
  }

  /** Show, hide, or leave out special tokens. */
  nextSpecial() {
    this.setSpecial(after(SPECIALS, this.page.store.state.special));
  }

  /** How softmax comes about, or what it makes of the values. */
  otherColumns() {
    const { view, expanded, columns } = this.page.store.state;
    const opens = view !== "neuron" || !expanded || columns === "score";
    this.set({ view: "neuron", expanded: true, columns: opens ? "value" : "score" });
  }

  /** The dimensions of the neuron view in their order, sorted, or the strongest. */
  nextDims() {
    this.set({ view: "neuron", expanded: true, dims: after(DIMS, this.page.store.state.dims) });
  }

  /** The encoder's attention, the decoder's, or the one between them. */
  nextStack() {
    const [place, vault] = [this.place(), this.page.vault];
    if (place && vault && vault.stacks.length > 1) this.setStack(after(vault.stacks.map(({ name }) => name), place.stack.name));
  }

  /** Draw more or less of the mass. @param {number} by per cent */
  moreMass(by) {
    const { mass } = this.page.store.state;
    this.setMass(Math.min(100, Math.max(1, mass + by - (mass === 1 && by > 0 ? 1 : 0))));
  }

  otherDrawing() {
    const { context } = this.page;
    if (context && context.state.view !== "neuron") this.setDraw(drawnAs(context) === "lines" ? "matrix" : "lines");
    else if (context) this.setExpanded(!context.state.expanded);
  }

  /** Let go of whatever holds: the token first, then what is open. */
  back() {
    const { state } = this.page.store;
    const { body } = document;
    if (body.classList.contains("shows-corpus")) this.toggleCorpus();
    else if (state.locked) this.set({ locked: null }, { replace: true });
    else if (state.view === "model" && state.enlarged) this.close();
    else this.page.hover(null);
  }

  toggleCorpus() {
    const shown = document.body.classList.toggle("shows-corpus");
    byId("corpus-toggle").setAttribute("aria-expanded", String(shown));
  }

  focusSearch() {
    document.body.classList.add("shows-corpus");
    byId("search").focus();
  }

  /** @param {KeyboardEvent} event */
  turnTab(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const tabs = [...byId("tabs").children].filter((tab) => tab instanceof HTMLElement);
    const at = tabs.findIndex((tab) => tab.dataset.view === this.page.store.state.view);
    const next = tabs[(at + by + tabs.length) % tabs.length];
    next.focus();
    next.click();
  }

  /** Listen to the controls of the top bar. */
  wire() {
    const help = /** @type {HTMLDialogElement} */ (byId("help"));
    byId("previous").addEventListener("click", () => this.step(-1));
    byId("next").addEventListener("click", () => this.step(1));
    byId("palette-open").replaceChildren(el("kbd", { text: /Mac|iP/.test(navigator.platform) ? "⌘ K" : "Ctrl K" }));
    byId("palette-open").addEventListener("click", () => this.page.palette.open());
    byId("theme").addEventListener("click", () => this.page.toggleTheme());
    byId("help-open").addEventListener("click", () => help.showModal());
    byId("corpus-toggle").addEventListener("click", () => this.toggleCorpus());
    byId("main").addEventListener("pointerdown", () => document.body.classList.remove("shows-corpus"));
    byId("tabs").addEventListener("click", (event) => {
      const tab = /** @type {Element} */ (event.target).closest("[data-view]");
      if (tab instanceof HTMLElement) this.set({ view: /** @type {ViewName} */ (tab.dataset.view) });
    });
    byId("tabs").addEventListener("keydown", (event) => this.turnTab(event));
    const jump = /** @type {HTMLInputElement} */ (byId("jump"));
    jump.addEventListener("change", () => {
      const last = (this.page.vault?.examples ?? 1) - 1;
      if (/^\d{1,9}$/.test(jump.value)) this.open(Math.min(last, Number(jump.value)));
      jump.value = String(this.page.store.state.example);
    });
  }
}
