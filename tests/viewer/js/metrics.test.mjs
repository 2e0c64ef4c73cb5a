import assert from "node:assert/strict";
import { test } from "node:test";
import { extentOf, formatMetric, metricColour, metricTitle } from "../../../viewer/qkvault_viewer/static/js/metrics.js";

test("colours get lighter all the way, so that grey and every eye keep their order", () => {
  const light = (share) => {
    const [r, g, b] = metricColour(share).map((value) => (value / 255) ** 2.2);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  for (let n = 0; n < 100; n += 1) assert.ok(light((n + 1) / 100) > light(n / 100), String(n));
  assert.deepEqual(metricColour(-1), metricColour(0));
  assert.deepEqual(metricColour(2), metricColour(1));
});

test("what is not there is neither lowest nor zero", () => {
  assert.deepEqual(extentOf([NaN, 3, -1, NaN]), [-1, 3]);
  assert.equal(extentOf([NaN]), null);
  assert.equal(formatMetric(NaN), "–");
  assert.equal(formatMetric(null), "–");
  assert.equal(formatMetric(0), "0.000");
  assert.equal(formatMetric(0.0001), "<.001");
  assert.equal(formatMetric(-0.25), "−0.250");
  assert.equal(formatMetric(12.34), "12.3");
});

test("a metric of a later release has its own name", () => {
  assert.equal(metricTitle("a_to_b"), "A→B");
  assert.equal(metricTitle("brand_new"), "brand new");
});
