import assert from "node:assert/strict";
import { test } from "node:test";
import { formatState, parseState, START } from "../../../viewer/qkvault_viewer/static/js/state.js";

const rich = {
  store: "some pairs&more", example: 412, view: "neuron", stack: "decoder", layer: 0, head: 5,
  heads: [0, 3, 11], filter: "ab", draw: "matrix", enlarged: true, expanded: true,
  locked: { side: "right", token: 7 }, mass: 60, special: "hide", words: true,
  pins: ["7", "other-one~12"], metric: "a_to_b", query: 'the "cat" & rüg', where: { label: [1, null], length: { min: 3 } },
  sort: "entropy[3,5]", descending: true, cursor: "abc==",
  columns: "value", dims: "top", mass: 60, special: "renormalise", words: true,
};

test("nothing said is the start", () => {
  assert.deepEqual(parseState(""), START);
  assert.equal(formatState({ ...START }), "");
});

test("a state survives its address", () => {
  assert.deepEqual(parseState(formatState(rich)), rich);
  for (const key of Object.keys(START)) {
    const one = { ...START, [key]: rich[key] };
    assert.deepEqual(parseState(formatState(one)), one, key);
  }
});

test("nonsense in an address is as if it were not said", () => {
  const search = "?ex=-1&view=evil&layer=1e3&heads=1.x&filter=zz&draw=&token=q&head=99999999999&expanded=yes"
    + "&vs=x.A~1.-1.7~&metric=a%20b&where=%7B&order=up";
  assert.deepEqual(parseState(search), START);
});

test("heads are ascending and single", () => {
  assert.deepEqual(parseState("?heads=5.1.5").heads, [1, 5]);
});
