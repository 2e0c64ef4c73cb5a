/**
 * What makes attention of queries and keys besides their product: the terms that docs/viewer-api.md
 * lists under `score.forms`, for one head. Pure.
 */

/**
 * @typedef {object} Form of a layer, as the manifest has it
 * @property {{causal: boolean, window: number | null, chunk: number | null}} mask
 * @property {number | null} softcap
 * @property {number[] | null} slopes
 * @property {{starts: number[], values: number[][]} | null} bias
 * @property {{values: number[], mode: "softmax" | "gate"} | null} sinks
 * @property {string | null} unknown
 * @typedef {object} Terms of one head
 * @property {Form["mask"]} mask
 * @property {number | null} softcap
 * @property {number | null} slope per token of distance
 * @property {{starts: number[], values: number[]} | null} bias
 * @property {{value: number, mode: "softmax" | "gate"} | null} sink
 * @property {string | null} unknown
 */

/**
 * @param {{causal: boolean, forms?: Form[], layers?: number[]}} score of a stack
 * @param {number} depth place of the layer among those kept
 * @param {number} head
 * @returns {Terms}
 */
export function termsOf({ causal, forms, layers }, depth, head) {
  const form = forms?.[layers?.[depth] ?? 0];
  if (!form) {
    return { mask: { causal, window: null, chunk: null }, softcap: null, slope: null, bias: null, sink: null, unknown: null };
  }
  return {
    mask: form.mask,
    softcap: form.softcap,
    slope: form.slopes ? form.slopes[head] : null,
    bias: form.bias ? { starts: form.bias.starts, values: form.bias.values[head] } : null,
    sink: form.sinks ? { value: form.sinks.values[head], mode: form.sinks.mode } : null,
    unknown: form.unknown,
  };
}

/** Whether a query sees a key. @param {Terms["mask"]} mask @param {number} query @param {number} key */
export function sees({ causal, window, chunk }, query, key) {
  if (causal && key > query) return false;
  if (window !== null && Math.abs(query - key) > window) return false;
  return chunk === null || Math.floor(query / chunk) === Math.floor(key / chunk);
}

/** @param {{starts: number[], values: number[]}} bias @param {number} distance key − query */
function biasAt({ starts, values }, distance) {
  let step = 0;
  while (step + 1 < starts.length && starts[step + 1] <= distance) step += 1;
  return values[step];
}

/**
 * @param {Terms} terms
 * @param {number} scaled scaling · query·key
 * @param {number} query
 * @param {number} key
 * @returns {{capped: number, added: number, score: number}} score = capped + added
 */
export function scoreOf({ softcap, slope, bias }, scaled, query, key) {
  const capped = softcap === null ? scaled : softcap * Math.tanh(scaled / softcap);
  const added = (slope === null ? 0 : slope * (key - query)) + (bias === null ? 0 : biasAt(bias, key - query));
  return { capped, added, score: capped + added };
}

/**
 * Softmax over the scores that are not masked, with the sink's term beside them.
 * @param {Float32Array} scores NaN where masked
 * @param {Terms["sink"]} [sink]
 * @returns {{weights: Float32Array, sink: number}} `sink`: share that goes to it
 */
export function softmaxOf(scores, sink = null) {
  const beside = sink?.mode === "softmax" ? sink.value : -Infinity;
  let highest = beside;
  for (const score of scores) if (score > highest) highest = score;
  const weights = scores.map((score) => (Number.isNaN(score) ? 0 : Math.exp(score - highest)));
  const own = Math.exp(beside - highest);
  const total = weights.reduce((sum, power) => sum + power, own);
  return { weights: weights.map((power) => power / total), sink: own / total };
}

/**
 * The terms in words, a sentence each.
 * @param {Terms} terms
 * @returns {string[]}
 */
export function describeTerms({ mask, softcap, slope, bias, sink, unknown }) {
  const said = [];
  if (mask.window !== null) {
    const span = `${mask.window} token${mask.window === 1 ? "" : "s"}`;
    said.push(mask.causal ? `Sliding window: a token sees itself and the ${span} before it.`
      : `Sliding window: a token sees ${span} to either side.`);
  } else if (mask.causal) {
    said.push("Causal: a token sees itself and what is before it.");
  }
  if (mask.chunk !== null) said.push(`Chunks: a token sees only those of its own ${mask.chunk}.`);
  if (softcap !== null) said.push(`Softcap: the product x becomes ${softcap} · tanh(x / ${softcap}).`);
  if (slope !== null) said.push(`Linear bias (ALiBi): ${slope.toPrecision(3)} × distance is added.`);
  if (bias !== null) said.push("A learnt bias by distance is added.");
  if (sink?.mode === "softmax") said.push("A sink stands in the softmax beside the keys, so the weights sum to less than 1.");
  if (sink?.mode === "gate") said.push("A learnt gate scales the head's output; the weights are as they are.");
  if (unknown !== null) said.push(`The columns do not give the softmax: ${unknown}.`);
  return said;
}
