/**
 * Requests of docs/viewer-api.md: one promise per address, kept while it is useful.
 *
 * Callers that ask for the same address share one request; it is aborted only when all of them have
 * gone away. A request that failed is forgotten.
 */

import { sliceParameters } from "./slice.js";
import { decodeFrames } from "./wire.js";

/** @typedef {import("./wire.js").Frame} Frame */

/**
 * @typedef {{name: "encoder" | "decoder" | "cross", layers: number[], heads: number,
 *   key_heads: number, head_dim: number, value_dim: number,
 *   score: {causal: boolean, scaling: number[],
 *   forms?: import("./scoreterms.js").Form[], layers?: number[]}, beside?: string | null}} Stack
 * @typedef {{name: string, title: string, digest: string, base: string, examples: number,
 *   lengths: {min: number, max: number}, model: {name?: string, score_terms?: string[]},
 *   stacks: Stack[], arrays: Record<string, {precision: string, max_error?: number | null, derived?: boolean}>,
 *   metrics: string[], label_names: string[], gold_names: string[], logits: number}} Vault
 * @typedef {null | number | string} Label
 * @typedef {{index: number, id: string, length: number, text: string[], label: Label,
 *   prediction: number | null, correct: boolean | null, truncated?: string[],
 *   columns: Record<string, unknown>, metrics?: Record<string, number | null>}} Row
 * @typedef {{total: number, next: string | null, rows: Row[]}} Page
 * @typedef {{text: string[], tokens: string[], token_ids: number[], segments: number[], special: number[],
 *   offsets: [number, number][], words: number[]}} TokenList
 * @typedef {TokenList & {index: number, id: string, length: number, previous: number | null,
 *   next: number | null, target?: TokenList | null, label: Label, label_name?: string | null,
 *   prediction: number | null, prediction_name?: string | null, correct: boolean | null,
 *   logits: (number | null)[] | null, columns: Record<string, unknown>}} Example
 * @typedef {{promise: Promise<any>, abort: AbortController, waiting: number, settled: boolean}} Entry
 */

const KEPT = 96;

/** What the server said went wrong, in its words. */
export class ApiError extends Error {
  /** @param {number} status @param {string} kind @param {string} message */
  constructor(status, kind, message) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

/** @param {unknown} error */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/** @param {Response} response */
async function readError(response) {
  const body = await response.json().catch(() => null);
  const { kind, message } = body?.error ?? {};
  return new ApiError(response.status, kind ?? "unknown", message ?? `the server answered ${response.status}`);
}

/** @param {string} url @param {AbortSignal} signal @param {"json" | "frames"} form */
async function load(url, signal, form) {
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(0, "unreachable", "the server does not answer; is `qkvault view` still running?");
  }
  if (!response.ok) throw await readError(response);
  return form === "json" ? response.json() : decodeFrames(await response.arrayBuffer());
}

export class Api {
  constructor() {
    /** @type {Map<string, Entry>} least recently used first */
    this.entries = new Map();
  }

  /**
   * @param {string} url
   * @param {AbortSignal | undefined} signal
   * @param {"json" | "frames"} form
   * @returns {Promise<any>}
   */
  get(url, signal, form) {
    let entry = this.entries.get(url);
    if (entry) this.entries.delete(url);
    else entry = this.start(url, form);
    this.entries.set(url, entry);
    this.trim();
    return signal ? this.wait(url, entry, signal) : entry.promise;
  }

  /** @param {string} url @param {"json" | "frames"} form @returns {Entry} */
  start(url, form) {
    const abort = new AbortController();
    /** @type {Entry} */
    const entry = { promise: load(url, abort.signal, form), abort, waiting: 0, settled: false };
    entry.promise.then(
      () => { entry.settled = true; },
      () => {
        entry.settled = true;
        if (this.entries.get(url) === entry) this.entries.delete(url);
      },
    );
    return entry;
  }

  /** @param {string} url @param {Entry} entry @param {AbortSignal} signal */
  wait(url, entry, signal) {
    if (entry.settled) return signal.aborted ? Promise.reject(signal.reason) : entry.promise;
    entry.waiting += 1;
    return new Promise((resolve, reject) => {
      const leave = () => {
        entry.waiting -= 1;
        if (entry.waiting === 0 && !entry.settled) {
          this.entries.delete(url);
          entry.abort.abort();
        }
        reject(signal.reason);
      };
      if (signal.aborted) {
        leave();
        return;
      }
      signal.addEventListener("abort", leave, { once: true });
      entry.promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
    });
  }

  trim() {
    for (const [url, entry] of this.entries) {
      if (this.entries.size <= KEPT) return;
      if (entry.settled) this.entries.delete(url);
    }
  }

  /** @returns {Promise<{version: string, stores: {name: string, title: string, examples: number, url: string}[]}>} */
  stores() {
    return load("api/v1/stores", new AbortController().signal, "json");
  }

  /** Never kept: its answer is what tells that a vault has changed. @param {string} url @returns {Promise<Vault>} */
  vault(url) {
    return load(url, new AbortController().signal, "json");
  }

  /**
   * @param {Vault} vault
   * @param {import("./slice.js").Slice} slice
   * @param {{cursor: string | null, limit: number}} page
   * @param {AbortSignal} [signal]
   * @returns {Promise<Page>}
   */
  examples(vault, slice, { cursor, limit }, signal) {
    const parameters = sliceParameters(slice);
    parameters.set("limit", String(limit));
    if (cursor) parameters.set("cursor", cursor);
    return this.get(`${vault.base}/examples?${parameters}`, signal, "json");
  }

  /** @param {Vault} vault @param {AbortSignal} [signal] @returns {Promise<{columns: import("./slice.js").Column[]}>} */
  columns(vault, signal) {
    return this.get(`${vault.base}/columns`, signal, "json");
  }

  /**
   * Where an example stands in a list.
   * @param {Vault} vault
   * @param {number} index
   * @param {import("./slice.js").Slice} slice
   * @returns {Promise<{place: number | null, previous: number | null, next: number | null}>}
   */
  position(vault, index, slice) {
    return this.get(`${vault.base}/position/${index}?${sliceParameters(slice)}`, undefined, "json");
  }

  /** @param {Vault} vault @param {number} index @param {AbortSignal} [signal] @returns {Promise<Example>} */
  example(vault, index, signal) {
    return this.get(`${vault.base}/ex/${index}`, signal, "json");
  }

  /**
   * @param {Vault} vault
   * @param {number} index
   * @param {string} path after the example's address
   * @param {AbortSignal} [signal]
   * @returns {Promise<Frame[]>}
   */
  frames(vault, index, path, signal) {
    return this.get(`${vault.base}/ex/${index}/${path}`, signal, "frames");
  }
}
