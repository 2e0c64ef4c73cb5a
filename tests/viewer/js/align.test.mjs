import assert from "node:assert/strict";
import { test } from "node:test";
import { alignTokens } from "../../../viewer/qkvault_viewer/static/js/align.js";
import { findExtremes, meanChanges, meanWeights, subtract, whyNotComparable } from "../../../viewer/qkvault_viewer/static/js/difference.js";

const text = (first, second = "") => {
  const [one, two] = [first.split(" "), second.split(" ").filter(Boolean)];
  return { tokens: [...one, ...two], segments: [...one.map(() => 0), ...two.map(() => 1)] };
};

test("one word in another's place", () => {
  const { steps, matched } = alignTokens(text("c is awesome s", "c is sick s"), text("c is awesome s", "c is terrific s"));
  assert.equal(matched, 8);
  assert.deepEqual(steps.filter((step) => step.replaced), [{ a: 6, b: 6, replaced: true }]);
});

test("words put in and taken out have no partner", () => {
  const found = alignTokens(text("c he was very sick s"), text("c he was s"));
  assert.deepEqual([...found.ofA], [0, 1, 2, -1, -1, 3]);
  assert.deepEqual([...found.ofB], [0, 1, 2, 5]);
  assert.deepEqual(found.steps[3], { a: 3, b: null, replaced: false });
});

test("a token of the first text never stands for one of the second", () => {
  const found = alignTokens(text("x y", "y z"), text("x", "y z"));
  assert.deepEqual([...found.ofA], [0, -1, 1, 2]);
  const alone = alignTokens(text("a b"), text("q", "a b"));
  assert.equal(alone.matched, 0);
});

test("long texts are still aligned, in both directions alike", () => {
  const words = Array.from({ length: 3000 }, (_, n) => `w${n % 7}`).join(" ");
  assert.equal(alignTokens(text(words), text(words)).matched, 3000);
  const [a, b] = [text("a b c d e f"), text("b c x e g f h")];
  const [there, back] = [alignTokens(a, b), alignTokens(b, a)];
  assert.deepEqual(there.ofA, back.ofB);
  for (const [i, j] of there.ofA.entries()) if (j >= 0) assert.equal(there.ofB[j], i);
});

test("cells are subtracted where both have them, and are not numbers elsewhere", () => {
  const { steps } = alignTokens(text("c very s"), text("c s"));
  const a = { values: Float32Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9]), keys: 3 };
  const b = { values: Float32Array.from([10, 20, 30, 40]), keys: 2 };
  const found = subtract(a, b, steps, steps);
  assert.deepEqual([...found], [9, NaN, 17, NaN, NaN, NaN, 23, NaN, 31]);
  assert.deepEqual(findExtremes(Float32Array.from([1, NaN, -3, 2])), { rise: 3, fall: 2, largest: 3 });
  assert.deepEqual(findExtremes(Float32Array.from([NaN, 0])), { rise: -1, fall: -1, largest: 0 });
});

test("a mean change is over the cells that both have", () => {
  const { steps } = alignTokens(text("c x s"), text("c s"));
  const codes = (...weights) => Uint8Array.from(weights, (weight) => Math.round(255 * Math.sqrt(weight)));
  const a = codes(1, 0, 0, 0, 0, 0, 0, 0, 1, ...Array(9).fill(0));
  const b = codes(0, 0, 0, 1, 1, 1, 1, 1);
  const found = meanChanges(a, [3, 3], b, [2, 2], steps, steps);
  assert.deepEqual([...found], [0.25, 1]);
  assert.ok(Number.isNaN(meanChanges(a, [3, 3], b, [2, 2], [], [])[0]));
  const mean = meanWeights([{ data: Float32Array.from([0, 1, 2, 3]), offset: 0 }, { data: Float32Array.from([9, 2, 3, 4, 5]), offset: 1 }], [2, 2]);
  assert.deepEqual([...mean.values], [1, 2, 3, 4]);
});

test("stacks of other shapes are refused with the reason", () => {
  const stack = { name: "encoder", heads: 12, layers: [0, 1] };
  assert.equal(whyNotComparable(stack, { ...stack }), null);
  assert.match(whyNotComparable(stack, { ...stack, heads: 6 }), /2 × 12.*2 × 6/);
  assert.match(whyNotComparable(stack, { ...stack, layers: [3, 7] }), /different layers/);
  assert.match(whyNotComparable(stack, { ...stack, name: "decoder" }), /decoder/);
});
