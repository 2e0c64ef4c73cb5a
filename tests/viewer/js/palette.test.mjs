import assert from "node:assert/strict";
import { test } from "node:test";
import { stemOf } from "../../../viewer/qkvault_viewer/static/js/families.js";
import { rankMatch } from "../../../viewer/qkvault_viewer/static/js/palette.js";
import { likelyNext, Prefetch } from "../../../viewer/qkvault_viewer/static/js/prefetch.js";

test("words that begin with what is typed come first", () => {
  const ranks = ["Layer 3", "Next layer", "Prelayers", "Lines, an eyeglass, yes, or"].map((title) => rankMatch(title, " layer "));
  assert.deepEqual(ranks, [0, 1, 2, 3]);
  assert.equal(rankMatch("Layer 3", "layer 4"), null);
  assert.equal(rankMatch("anything", ""), 0);
});

test("ids of a family begin alike", () => {
  assert.equal(stemOf("eminem-sick"), "eminem-");
  assert.equal(stemOf("rain_pour"), "rain_");
  for (const id of ["mrpc-17", "plain", "-x", "a-", ""]) assert.equal(stemOf(id), null, id);
});

const context = {
  state: { view: "heads" }, stack: { name: "encoder", heads: 12, layers: [0, 3, 7] }, depth: 1,
  example: { index: 5 }, queries: { length: 100 }, keys: { length: 100 }, vault: { arrays: { attention: {} } },
};

test("layers beside this one first, then examples; nothing large", () => {
  assert.deepEqual(likelyNext(context, [{ index: 6, length: 50 }, { index: 4, length: 9000 }]), [
    "5/attention/encoder/7", "5/attention/encoder/0", "6", "6/thumbnails/encoder", "6/attention/encoder/3", "4",
  ]);
  const model = { ...context, state: { view: "model" } };
  assert.deepEqual(likelyNext(model, [{ index: 6, length: 50 }]), ["6", "6/thumbnails/encoder"]);
});

test("at most two at a time, and none once it is overtaken", async () => {
  globalThis.navigator ??= {};
  globalThis.document = { hidden: false };
  globalThis.window = {};
  let flying = 0;
  let most = 0;
  const asked = [];
  const abort = new AbortController();
  const answer = async (path) => {
    asked.push(path);
    flying += 1;
    most = Math.max(most, flying);
    await new Promise((resolve) => { setTimeout(resolve, 5); });
    flying -= 1;
    if (asked.length === 4) abort.abort();
    if (asked.length === 3) throw new Error("gone");
  };
  const api = { frames: (_, index, path) => answer(`${index}/${path}`), example: (_, index) => answer(index) };
  await new Prefetch(api).run(context, [{ index: 6, length: 50 }, { index: 4, length: 50 }], abort.signal);
  assert.equal(most, 2);
  assert.equal(asked.length, 4);
  const before = asked.length;
  await new Prefetch(api).run(context, [], abort.signal);
  assert.equal(asked.length, before);
});
