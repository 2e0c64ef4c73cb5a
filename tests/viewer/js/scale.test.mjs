import assert from "node:assert/strict";
import { test } from "node:test";
import { filterTokens } from "../../../viewer/qkvault_viewer/static/js/context.js";
import { binTokens, paintMatrix } from "../../../viewer/qkvault_viewer/static/js/matrix.js";
import { select } from "../../../viewer/qkvault_viewer/static/js/neuroncells.js";
import { termsOf } from "../../../viewer/qkvault_viewer/static/js/scoreterms.js";
import {
  formatSigned, formatWeight, headColour, layerColour, ramp, signedColour, signedUnit, formatCount,
} from "../../../viewer/qkvault_viewer/static/js/scale.js";

for (const dark of [false, true]) {
  test(`sixteen heads have sixteen colours (${dark ? "dark" : "light"})`, () => {
    const colours = new Set(Array.from({ length: 16 }, (_, head) => headColour(head, dark).join()));
    assert.equal(colours.size, 16);
    const layers = new Set(Array.from({ length: 24 }, (_, layer) => layerColour(layer, 24, dark).join()));
    assert.equal(layers.size, 24);
  });
}

test("a ramp runs from the background to the colour", () => {
  const table = ramp([255, 255, 255], [0, 90, 181]);
  assert.deepEqual([...new Uint8Array(table.buffer, 0, 4)], [255, 255, 255, 255]);
  assert.deepEqual([...new Uint8Array(table.buffer, 255 * 4, 4)], [0, 90, 181, 255]);
});

test("blue adds, orange takes away", () => {
  const [plus, minus] = [signedColour(2, 1, false), signedColour(-2, 1, false)];
  assert.ok(plus.rgb[2] > plus.rgb[0] && minus.rgb[0] > minus.rgb[2]);
  assert.equal(plus.alpha, minus.alpha);
  assert.equal(signedColour(0, 1, true).alpha, 0);
  assert.equal(signedUnit([3, -3, NaN]), 6);
  assert.equal(signedUnit([]), 1);
});

test("numbers never round to what they are not", () => {
  assert.deepEqual([0, 0.0001, 0.0005, 0.25, 0.99999, 1].map(formatWeight), ["0", "<.001", ".001", ".250", ">.999", "1.000"]);
  assert.deepEqual([-1.234, 12.34, 123.4, NaN].map(formatSigned), ["−1.23", "12.3", "123", "–"]);
});

test("sentence filters", () => {
  const segments = [0, 0, 0, 1, 1];
  const both = (filter) => [filterTokens(filter, 0, segments), filterTokens(filter, 1, segments)];
  assert.deepEqual(both("ab"), [[0, 1, 2], [3, 4]]);
  assert.deepEqual(both("ba"), [[3, 4], [0, 1, 2]]);
  assert.deepEqual(both("bb"), [[3, 4], [3, 4]]);
  assert.equal(both("all")[1].length, 5);
});

test("bins of a pooled thumbnail hold every token once", () => {
  for (const length of [65, 100, 127, 512, 513]) {
    for (const token of [0, 1, 17, length - 1]) {
      const [bin] = binTokens([token], length, 64);
      assert.ok(Math.floor((bin * length) / 64) <= token && token < Math.floor(((bin + 1) * length) / 64));
    }
  }
  assert.deepEqual(binTokens([0, 5], 6, 6), [0, 5]);
});

test("a matrix is cropped to its rows and columns", () => {
  const table = Uint32Array.from({ length: 256 }, (_, code) => code);
  const pixels = paintMatrix(Uint8Array.of(9, 1, 2, 3, 4, 5, 6, 7, 8, 9), 1, 3, [0, 2], [1], table);
  assert.deepEqual([...new Uint32Array(pixels.buffer)], [2, 8]);
});

test("scores, masks and their softmax", () => {
  const vectors = {
    query: Float32Array.of(1, 2, 0, 1), key: Float32Array.of(3, 1, -1, 2), dimensions: 2,
    keyHead: 0, scaling: 0.5, terms: termsOf({ causal: true }, 0, 0),
  };
  const first = select(vectors, 0);
  assert.deepEqual([...first.scores], [2.5, NaN]);
  assert.deepEqual([...first.products], [3, 2, -1, 4]);
  assert.deepEqual([...first.computed], [1, 0]);
  const [a, b] = select({ ...vectors, terms: termsOf({ causal: false }, 0, 0) }, 0).computed;
  assert.ok(Math.abs(Math.log(a / b) - 1) < 1e-6);
});

test("thousands are parted by commas", () => {
  const written = [0, 999, 1000, 12345, 1000000].map(formatCount);
  assert.deepEqual(written, ["0", "999", "1,000", "12,345", "1,000,000"]);
});
