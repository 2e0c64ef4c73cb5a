/** All that can be done: the commands with their keys, and the places that the palette offers besides. */

import { placeState } from "./context.js";
import { byId } from "./dom.js";
import { metricTitle } from "./metrics.js";
import { metricColumn } from "./slice.js";
import { plainText } from "./tokens.js";

/**
 * @typedef {import("./state.js").ViewName} ViewName
 * @typedef {import("./navigation.js").Page & {acts: import("./navigation.js").Navigation,
 *   takeAway: import("./takeaway.js").TakeAway}} Page
 */

/**
 * @param {Page} page
 * @returns {import("./commands.js").Command[]}
 */
export function makeCommands(page) {
  const { acts } = page;
  const show = (/** @type {ViewName} */ view) => () => acts.set({ view });
  const help = /** @type {HTMLDialogElement} */ (byId("help"));
  return [
    { keys: ["1"], title: "Heads: all heads of a layer", group: "Views", run: show("heads") },
    { keys: ["2"], title: "Model: all layers and heads", group: "Views", run: show("model") },
    { keys: ["3"], title: "Neuron: query and key of a head", group: "Views", run: show("neuron") },
    { keys: ["4"], title: "Compare: this example beside others", group: "Views", run: show("compare") },
    { keys: ["j"], title: "Next layer", group: "Layers and heads", run: () => acts.stepLayer(1) },
    { keys: ["k"], title: "Previous layer", group: "Layers and heads", run: () => acts.stepLayer(-1) },
    { keys: ["l"], title: "Next head", group: "Layers and heads", run: () => acts.stepHead(1) },
    { keys: ["h"], title: "Previous head", group: "Layers and heads", run: () => acts.stepHead(-1) },
    { keys: ["a"], title: "All heads", group: "Layers and heads", run: acts.allHeads },
    { keys: ["f"], title: "Next sentence filter", group: "Layers and heads", run: () => acts.nextFilter() },
    { keys: ["m"], title: "Lines or matrix; lines or columns", group: "What is drawn", run: () => acts.otherDrawing() },
    { keys: ["]"], title: "More of the mass", group: "What is drawn", run: () => acts.moreMass(5) },
    { keys: ["["], title: "Less of the mass: only the strongest weights", group: "What is drawn", run: () => acts.moreMass(-5) },
    { keys: ["s"], title: "Special tokens: shown, hidden, renormalised", group: "What is drawn", run: () => acts.nextSpecial() },
    { keys: ["w"], title: "Tokens or words", group: "What is drawn", run: () => acts.setWords(!page.store.state.words) },
    { keys: ["v"], title: "Neuron: what softmax makes of the values", group: "What is drawn", run: () => acts.otherColumns() },
    { keys: ["d"], title: "Neuron: dimensions in order, sorted, the strongest", group: "What is drawn", run: () => acts.nextDims() },
    { keys: ["x"], title: "Encoder, decoder or cross-attention", group: "Layers and heads", run: () => acts.nextStack() },
    { keys: [".", "n"], title: "Next example of the list", group: "Examples", run: () => void acts.step(1) },
    { keys: [",", "p"], title: "Previous example of the list", group: "Examples", run: () => void acts.step(-1) },
    { keys: ["c"], title: "Pin this example, to compare others with it", group: "Examples", run: acts.pinHere },
    { keys: ["/"], title: "Search the texts", group: "Examples", run: () => acts.focusSearch() },
    { keys: ["e"], title: "Take this view away", group: "Page", run: () => page.takeAway.toggle() },
    { keys: ["Escape"], title: "Let go, close", group: "Page", run: () => acts.back() },
    { keys: [">"], title: "All commands ( Ctrl K or ⌘ K )", group: "Page", run: () => page.palette.open() },
    { keys: ["t"], title: "Dark or light", group: "Page", run: () => page.toggleTheme() },
    { keys: ["?"], title: "This list", group: "Page", run: () => help.showModal() },
  ];
}

/**
 * What the palette offers besides the commands: places to go.
 * @param {Page} page
 * @returns {import("./palette.js").Entry[]}
 */
export function makePlaces({ acts, vault, stores, store, takeAway }) {
  if (!vault) return [];
  const place = placeState(store.state, vault);
  const firstStack = vault.stacks[0].name;
  const sorts = vault.metrics.map((metric) => {
    const name = metricColumn({ stack: place.stack.name, metric, layer: place.layer, head: place.head }, firstStack);
    return { title: `Sort by ${metricTitle(metric)} of layer ${place.layer} head ${place.head}`, group: "Examples", run: () => acts.order(name, true) };
  });
  const colours = ["", ...vault.metrics].map((metric) => ({
    title: `Colour the head map by ${metric ? metricTitle(metric) : "pictures"}`, group: "Head map", run: () => acts.setMetric(metric),
  }));
  const layers = place.stack.layers.map((layer) => ({ title: `Layer ${layer}`, group: "Layers and heads", run: () => acts.setLayer(layer) }));
  const vaults = stores.filter(({ name }) => name !== vault.name)
    .map(({ name, title }) => ({ title: `Open the vault ${plainText(title)}`, group: "Vaults", run: () => acts.openStore(name) }));
  const twins = acts.otherStores().map(({ name, title }) => ({
    title: `Compare with the same example in ${plainText(title)}`, group: "Compare", run: () => { acts.set({ view: "compare" }); void acts.pinTwin(name); },
  }));
  const stacks = vault.stacks.length < 2 ? [] : vault.stacks.map(({ name }) => ({
    title: `Show the ${name === "cross" ? "cross-attention" : `${name}'s attention`}`, group: "Layers and heads", run: () => acts.setStack(name),
  }));
  const takes = ["PNG", "SVG", "CSV", "HTML"].map((kind) => ({
    title: `Save this view as ${kind}`, group: "Take away", run: () => void takeAway.take(kind.toLowerCase()),
  }));
  const slices = [{ title: "Clear search, filters and order", group: "Examples", run: acts.clear }];
  return [...vaults, ...twins, ...stacks, ...slices, ...layers, ...colours, ...takes, ...sorts];
}

/**
 * @param {Page} page
 * @returns {import("./palette.js").Supply}
 */
export function makeSupply(page) {
  return (typed) => {
    if (!typed || !page.vault) return [];
    const { acts } = page;
    const index = /^#?\d{1,9}$/.test(typed) ? Number(typed.replace("#", "")) : -1;
    const jump = index >= 0 && index < page.vault.examples
      ? [{ title: `Example ${index}`, group: "Go to", run: () => acts.open(index) }] : [];
    return [...jump, { title: `Search the texts for “${plainText(typed)}”`, group: "Examples", run: () => acts.search(typed) }];
  };
}
