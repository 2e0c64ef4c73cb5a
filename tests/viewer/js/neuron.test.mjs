import assert from "node:assert/strict";
import { test } from "node:test";
import { contribute, importance, orderDimensions, STRONGEST } from "../../../viewer/qkvault_viewer/static/js/dimensions.js";
import { columnsOf, divide, select } from "../../../viewer/qkvault_viewer/static/js/neuroncells.js";
import { describeTerms, scoreOf, sees, softmaxOf, termsOf } from "../../../viewer/qkvault_viewer/static/js/scoreterms.js";

const FORM = {
  mask: { causal: true, window: 2, chunk: null }, softcap: 2, slopes: [0.5, 0.25],
  bias: { starts: [-4, -1, 0, 2], values: [[1, 2, 3, 4], [5, 6, 7, 8]] },
  sinks: { values: [0.1, 0.2], mode: "softmax" }, unknown: null,
};
const TERMS = termsOf({ causal: true, forms: [FORM], layers: [0] }, 0, 1);

test("terms are those of the head", () => {
  assert.equal(TERMS.slope, 0.25);
  assert.deepEqual(TERMS.bias.values, [5, 6, 7, 8]);
  assert.equal(TERMS.sink.value, 0.2);
  assert.equal(describeTerms(TERMS).length, 5);
  assert.deepEqual(describeTerms(termsOf({ causal: false }, 0, 0)), []);
});

test("masks: causal, window, chunk", () => {
  const seen = (mask) => [0, 1, 2, 3, 4, 5].filter((key) => sees(mask, 3, key));
  assert.deepEqual(seen({ causal: true, window: null, chunk: null }), [0, 1, 2, 3]);
  assert.deepEqual(seen({ causal: true, window: 1, chunk: null }), [2, 3]);
  assert.deepEqual(seen({ causal: false, window: 1, chunk: null }), [2, 3, 4]);
  assert.deepEqual(seen({ causal: false, window: null, chunk: 3 }), [3, 4, 5]);
});

test("a score is the capped product and the biases of its distance", () => {
  for (const [query, key, bias] of [[5, 0, 5], [5, 1, 5], [5, 3, 5], [5, 4, 6], [5, 5, 7], [5, 6, 7], [5, 9, 8]]) {
    const { capped, added, score } = scoreOf(TERMS, 3, query, key);
    assert.equal(capped, 2 * Math.tanh(1.5));
    assert.equal(added, 0.25 * (key - query) + bias);
    assert.equal(score, capped + added);
  }
});

test("a sink takes its share, a gate none, a masked key nothing", () => {
  const scores = Float32Array.of(1, NaN, 0);
  const { weights, sink } = softmaxOf(scores, { value: 0.5, mode: "softmax" });
  const total = Math.exp(1) + 1 + Math.exp(0.5);
  assert.ok(Math.abs(weights[0] - Math.exp(1) / total) < 1e-6 && weights[1] === 0);
  assert.ok(Math.abs(sink - Math.exp(0.5) / total) < 1e-6);
  const gated = softmaxOf(scores, { value: 9, mode: "gate" });
  assert.equal(gated.sink, 0);
  assert.ok(Math.abs(gated.weights.reduce((a, b) => a + b, 0) - 1) < 1e-6);
});

test("a selected query has its products, scores and their softmax", () => {
  const vectors = {
    query: Float32Array.of(1, 2, 0, 1), key: Float32Array.of(3, 1, -1, 2), dimensions: 2,
    scaling: 0.5, terms: termsOf({ causal: false }, 0, 0),
  };
  const { scaled, scores, computed } = select(vectors, 0);
  assert.deepEqual([...scaled], [2.5, 1.5]);
  assert.deepEqual([...scores], [2.5, 1.5]);
  assert.ok(Math.abs(Math.log(computed[0] / computed[1]) - 1) < 1e-6);
});

test("dimensions go by what they have to do with the row", () => {
  const products = Float32Array.of(1, -5, 2, 0, 1, -9);
  assert.deepEqual([...importance(products, 3, [0, 1])], [1, 6, 11]);
  assert.deepEqual(orderDimensions("sorted", 3, importance(products, 3, [0])), [1, 2, 0]);
  assert.deepEqual(orderDimensions("order", 3, [1, 2, 3]), [0, 1, 2]);
  assert.deepEqual(orderDimensions("sorted", 3, null), [0, 1, 2]);
  assert.equal(orderDimensions("top", 64, new Float64Array(64)).length, STRONGEST);
});

test("what values bring adds up to the head's output", () => {
  const { parts, norms, output } = contribute(Float32Array.of(0.25, 0.75), Float32Array.of(3, 4, -1, 0), 2);
  assert.deepEqual([...parts], [0.75, 1, -0.75, 0]);
  assert.deepEqual([...norms], [1.25, 0.75]);
  assert.deepEqual([...output], [0, 1]);
});

test("columns stand beside each other within the room", () => {
  const vectors = { value: Float32Array.of(1), terms: TERMS };
  for (const page of ["score", "value"]) {
    const names = columnsOf(page, vectors);
    const spans = divide(names, 100, 700);
    let x = 100;
    for (const name of names) {
      assert.ok(spans[name].x >= x);
      x = spans[name].x + spans[name].width;
    }
    assert.ok(x <= 800);
  }
  assert.deepEqual(columnsOf("score", vectors).slice(3), ["score", "capped", "bias", "total", "softmax"]);
  assert.deepEqual(columnsOf("score", { ...vectors, terms: { ...TERMS, slope: null, bias: null } }).slice(3), ["score", "capped", "softmax"]);
  assert.ok(!columnsOf("value", { ...vectors, value: null }).includes("value"));
});
