/** What the opened neuron view says in words and numbers. */

import { formatSigned, formatWeight } from "./scale.js";
import { isolate, plainText } from "./tokens.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./neuroncells.js").Vectors} Vectors
 * @typedef {import("./neuroncells.js").Selected} Selected
 * @typedef {import("./neuroncells.js").ColumnName} ColumnName
 * @typedef {{context: Context, vectors: Vectors, selected: Selected | null,
 *   contribution: ReturnType<typeof import("./dimensions.js").contribute> | null}} Known
 */

/** Larger differences than float16 vectors explain are called out. */
const CLOSE = 5e-3;

/** @param {Vectors} vectors @returns {Record<ColumnName, string>} headings */
export function titlesOf({ scaling, dimensions, terms }) {
  const root = Math.abs(scaling * Math.sqrt(dimensions) - 1) < 1e-3;
  return {
    query: "query", key: "key", product: "q × k",
    score: root ? "q·k / √d" : `q·k × ${String(Number(scaling.toPrecision(2))).replace(/^0\./, ".")}`,
    capped: `cap ${terms.softcap}`, bias: terms.slope !== null ? "+ ALiBi" : "+ bias", total: "score",
    softmax: "softmax", value: "value", part: "softmax × v", norm: "‖softmax × v‖", output: "output Σ",
  };
}

/**
 * Whether the columns give the softmax that is shown.
 * @param {Context} context
 * @param {Vectors} vectors
 * @param {Selected} selected
 * @returns {{text: string, difference: number}}
 */
export function describeSum({ vault, queries, stack }, { terms }, { token, computed, sink, weights }) {
  const difference = (weights ?? computed).reduce((most, weight, key) => Math.max(most, Math.abs(weight - computed[key])), 0);
  const total = (weights ?? computed).reduce((sum, weight) => sum + weight, 0);
  const attention = vault.arrays.attention;
  const parts = [`${isolate(queries.labels[token].text)}: softmax sums to ${total.toFixed(3)}`];
  if (terms.sink?.mode === "softmax") parts[0] += `, the sink (score ${formatSigned(terms.sink.value)}) takes ${formatWeight(sink)}`;
  if (stack.beside && total < 0.9995) parts[0] += `, the rest goes to ${stack.beside}`;
  parts[0] += ".";
  if (terms.unknown !== null) {
    parts.push(`The attention kept differs from the softmax of these scores by up to ${formatWeight(difference)}: ${plainText(terms.unknown)}.`);
  } else if (!attention) {
    parts.push("It is computed here from the scores; the vault keeps no attention.");
  } else if (attention.derived) {
    parts.push(`The vault derives it from query and key; computed here it differs by at most ${formatWeight(difference)}.`);
  } else if (difference > CLOSE) {
    parts.push(`The attention kept differs from the softmax of these scores by up to ${formatWeight(difference)}: the model's score has a term that this vault does not keep.`);
  } else {
    parts.push(`The columns add up: softmax of the scores is the attention kept, within ${formatWeight(difference)}.`);
  }
  return { text: parts.join(" "), difference };
}

/**
 * Numbers of the cell under the pointer.
 * @param {Known} known
 * @param {ColumnName} column
 * @param {number} token of its row
 * @param {number | null} d dimension, in a vector
 * @returns {string} empty where there is nothing to say
 */
export function describeCell(known, column, token, d) {
  const { context: { queries, keys }, vectors } = known;
  if (d === null) return describeBar(known, column, token);
  const asking = (/** @type {number} */ at) => isolate(queries.labels[at].text);
  const asked = (/** @type {number} */ at) => isolate(keys.labels[at].text);
  const q = (/** @type {number} */ at) => vectors.query[at * vectors.dimensions + d];
  const own = known.selected?.token;
  if (column === "query") return `dimension ${d} · query of ${asking(token)} ${formatSigned(q(token))}`;
  if (column === "key" || column === "product") {
    const k = vectors.key[token * vectors.dimensions + d];
    if (own === undefined) return column === "key" ? `dimension ${d} · key of ${asked(token)} ${formatSigned(k)}` : "";
    return `dimension ${d} · ${asking(own)} ${formatSigned(q(own))} × ${asked(token)} ${formatSigned(k)} = ${formatSigned(q(own) * k)}`;
  }
  if (column === "output") {
    return known.contribution && token === own ? `dimension ${d} · output for ${asking(token)} ${formatSigned(known.contribution.output[d])}` : "";
  }
  const value = vectors.value?.[token * vectors.valueDimensions + d] ?? NaN;
  const weight = known.selected?.weights?.[token];
  if (column === "value" || weight === undefined) return `dimension ${d} · value of ${asked(token)} ${formatSigned(value)}`;
  return `dimension ${d} · softmax ${formatWeight(weight)} × value of ${asked(token)} ${formatSigned(value)} = ${formatFine(weight * value)}`;
}

/** @param {number} value */
function formatFine(value) {
  return Math.abs(value) < 0.1 ? `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(4)}` : formatSigned(value);
}

/** @param {number} distance key − query */
function formatDistance(distance) {
  return distance === 0 ? "0" : `${Math.abs(distance)} ${distance < 0 ? "back" : "ahead"}`;
}

/** @param {Known} known @param {ColumnName} column @param {number} key */
function describeBar({ context: { queries, keys }, vectors, selected, contribution }, column, key) {
  if (!selected || Number.isNaN(selected.scores[key])) return "";
  const { token } = selected;
  const pair = `${isolate(queries.labels[token].text)} → ${isolate(keys.labels[key].text)}`;
  if (column === "norm" && contribution) {
    const whole = contribution.norms.reduce((sum, norm) => sum + norm, 0);
    return `${pair} · ‖softmax × value‖ ${contribution.norms[key].toFixed(4)}, ${((100 * contribution.norms[key]) / whole).toFixed(1)} % of the row's`;
  }
  const { softcap } = vectors.terms;
  if (column === "capped") return `${pair} · ${softcap} · tanh(${formatSigned(selected.scaled[key])} / ${softcap}) = ${selected.capped[key].toFixed(4)}`;
  if (column === "bias") return `${pair} · bias for a distance of ${formatDistance(key - token)}: ${selected.added[key].toFixed(4)}`;
  if (column === "total") return `${pair} · ${formatSigned(selected.capped[key])} + bias ${formatSigned(selected.added[key])} = ${formatSigned(selected.scores[key])}`;
  if (column === "score") return `${pair} · scaled query·key ${selected.scaled[key].toFixed(4)}`;
  const weight = selected.weights?.[key];
  return column === "softmax" && weight !== undefined ? `${pair} · softmax ${weight.toFixed(5)}` : "";
}
