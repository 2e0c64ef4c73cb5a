/** What is likely looked at next, fetched while nothing else is: the layers and examples beside this one. */

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {{index: number, length: number}} Near an example beside the one shown
 */

const QUIET_MS = 500;
const IN_FLIGHT = 2;
const MOST_BYTES = 2 << 20;

/**
 * Addresses after `{base}/ex/`, the likeliest first. Pure.
 * @param {Context} context @param {readonly Near[]} near
 * @returns {string[]}
 */
export function likelyNext({ state, stack, depth, example, queries, keys }, near) {
  const isLight = (/** @type {number} */ cells) => stack.heads * cells <= MOST_BYTES;
  const layerPath = (/** @type {number} */ layer) => `attention/${stack.name}/${layer}`;
  const byLayer = state.view === "heads" || state.view === "compare";
  const paths = [];
  if (byLayer && isLight(queries.length * keys.length)) {
    for (const by of [1, -1]) {
      const layer = stack.layers[depth + by];
      if (layer !== undefined) paths.push(`${example.index}/${layerPath(layer)}`);
    }
  }
  for (const { index, length } of near) {
    paths.push(String(index));
    if (!isLight(length * length)) continue;
    paths.push(`${index}/thumbnails/${stack.name}`);
    if (byLayer) paths.push(`${index}/${layerPath(stack.layers[depth])}`);
  }
  return paths;
}

export class Prefetch {
  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.api = api;
  }

  /**
   * Begin once the page has been at rest; the signal ends it.
   * @param {Context} context @param {readonly Near[]} near @param {AbortSignal} signal
   */
  async run(context, near, signal) {
    const { connection } = /** @type {{connection?: {saveData?: boolean}}} */ (navigator);
    if (connection?.saveData || !("attention" in context.vault.arrays)) return;
    await new Promise((resolve) => { setTimeout(resolve, QUIET_MS); });
    await new Promise((resolve) => {
      if ("requestIdleCallback" in window) requestIdleCallback(resolve, { timeout: 4000 });
      else resolve(undefined);
    });
    if (signal.aborted || document.hidden) return;
    const paths = likelyNext(context, near);
    const worker = async () => {
      for (let path = paths.shift(); path !== undefined && !signal.aborted; path = paths.shift()) {
        const [index, ...rest] = path.split("/");
        const asked = rest.length ? this.api.frames(context.vault, Number(index), rest.join("/"), signal)
          : this.api.example(context.vault, Number(index), signal);
        // Whoever needs it will ask again and be told what is wrong.
        await asked.catch(() => {});
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  }
}
