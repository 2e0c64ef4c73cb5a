/** The examples that a state compares: loaded, aligned, and what changed from the first to the others. */

import { alignTokens } from "./align.js";
import { isAbort } from "./api.js";
import { makeContext } from "./context.js";
import { meanChanges, meanWeights, whyNotComparable } from "./difference.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./api.js").Vault} Vault
 * @typedef {import("./align.js").Step} Step
 * @typedef {import("./align.js").Alignment} Alignment
 * @typedef {{queries: Alignment, keys: Alignment}} Alignments of the attending and of the attended tokens
 * @typedef {{pin: string, context: Context | null, trouble: string, alignment: Alignments | null,
 *   unlike: string | null}} Side one of those that A is compared with; `unlike`: why not by cells
 */

const WHOLE_LAYER_BYTES = 4 << 20;
const THUMBNAIL = 64;
const MOST_BYTES = 16 << 20;

/** @param {Context} a @param {Context} b @returns {Alignments} */
function alignAxes(a, b) {
  const queries = alignTokens(a.queries, b.queries);
  const same = a.queries === a.keys && b.queries === b.keys;
  return { queries, keys: same ? queries : alignTokens(a.keys, b.keys) };
}

export class Comparison {
  /**
   * @param {import("./api.js").Api} api
   * @param {(name: string) => Promise<Vault>} vaultNamed
   */
  constructor(api, vaultNamed) {
    this.api = api;
    this.vaultNamed = vaultNamed;
  }

  /**
   * @param {Context} context of A
   * @param {AbortSignal} signal
   * @returns {Promise<Side[]>}
   */
  async sides(context, signal) {
    const own = String(context.example.index);
    const pins = context.state.pins.filter((pin) => pin !== own && pin !== `${context.vault.name}~${own}`);
    return Promise.all(pins.map((pin) => this.side(context, pin, signal)));
  }

  /** @param {Context} context @param {string} pin @param {AbortSignal} signal @returns {Promise<Side>} */
  async side(context, pin, signal) {
    const [index, name] = pin.split("~").reverse();
    try {
      const vault = name && name !== context.vault.name ? await this.vaultNamed(name) : context.vault;
      const example = await this.api.example(vault, Number(index), signal);
      const other = makeContext({ ...context.state, locked: null }, vault, example);
      const kept = "attention" in vault.arrays;
      return {
        pin, context: kept ? other : null, trouble: kept ? "" : "This vault does not keep attention.",
        alignment: alignAxes(context, other), unlike: whyNotComparable(context.stack, other.stack),
      };
    } catch (error) {
      if (isAbort(error)) throw error;
      return { pin, context: null, trouble: error instanceof Error ? error.message : String(error), alignment: null, unlike: null };
    }
  }

  /**
   * Rows and columns of a difference map: the steps that the sentence filter leaves.
   * @param {Context} a @param {Context} b @param {Alignments} alignment
   * @returns {{rows: Step[], columns: Step[]}}
   */
  shown(a, b, { queries, keys }) {
    const left = (/** @type {"rows" | "columns"} */ side, /** @type {readonly Step[]} */ steps) => {
      const [inA, inB] = [new Set(a[side]), new Set(b[side])];
      return steps.filter((step) => (step.a !== null ? inA.has(step.a) : step.b !== null && inB.has(step.b)));
    };
    return { rows: left("rows", queries.steps), columns: left("columns", keys.steps) };
  }

  /**
   * The layer's weights as stored, the mean of the heads that are on.
   * @param {Context} context @param {AbortSignal} signal
   */
  async weights({ vault, example, stack, layer, heads, queries, keys }, signal) {
    const size = queries.length * keys.length;
    const path = `attention/${stack.name}/${layer}`;
    const whole = heads.length > 1 && 4 * stack.heads * size <= WHOLE_LAYER_BYTES;
    const frames = await Promise.all((whole ? [path] : heads.map((head) => `${path}/${head}`))
      .map((each) => this.api.frames(vault, example.index, `${each}?as=f32`, signal)));
    return meanWeights(heads.map((head, n) => ({
      data: /** @type {Float32Array} */ (frames[whole ? 0 : n][0].data), offset: whole ? head * size : 0,
    })), [queries.length, keys.length]);
  }

  /**
   * Mean |B − A| of every head, of the first that A can be compared with.
   * @param {Context} context @param {AbortSignal} signal
   * @returns {Promise<Float32Array | null>} (layer, head), flat; null where there is none, or the texts are too long
   */
  async changes(context, signal) {
    if (!("attention" in context.vault.arrays)) return null;
    const side = (await this.sides(context, signal)).find((one) => one.context && !one.unlike);
    if (!side?.context || !side.alignment) return null;
    const [a, b] = [context, side.context];
    const { rows, columns } = this.shown(a, b, side.alignment);
    const [shapeA, shapeB] = [a, b].map(({ queries, keys }) => /** @type {[number, number]} */ ([queries.length, keys.length]));
    const maps = a.stack.heads * a.stack.layers.length;
    const change = (/** @type {string} */ pathA, /** @type {string} */ pathB) => Promise.all([
      this.api.frames(a.vault, a.example.index, pathA, signal), this.api.frames(b.vault, b.example.index, pathB, signal),
    ]).then(([[one], [other]]) => meanChanges(
      /** @type {Uint8Array} */ (one.data), shapeA, /** @type {Uint8Array} */ (other.data), shapeB, rows, columns));
    if (Math.max(...shapeA, ...shapeB) <= THUMBNAIL) {
      return change(`thumbnails/${a.stack.name}`, `thumbnails/${b.stack.name}`);
    }
    if (maps * (shapeA[0] * shapeA[1] + shapeB[0] * shapeB[1]) > MOST_BYTES) return null;
    const values = new Float32Array(maps);
    for (const [depth, layer] of a.stack.layers.entries()) {
      const path = `attention/${a.stack.name}/${layer}`;
      values.set(await change(path, path), depth * a.stack.heads);
    }
    return values;
  }
}
