import assert from "node:assert/strict";
import { test } from "node:test";
import {
  describeCondition, formatWhere, isNarrowed, metricColumn, parseMetricColumn, parseWhere, setBound,
  sliceParameters, toggleValue,
} from "../../../viewer/qkvault_viewer/static/js/slice.js";

test("filters survive their address, and equal ones are equal", () => {
  const where = { topic: ["law", "home"], length: { min: 3, max: 9 }, label: [null, 0, false, "x"] };
  assert.deepEqual(parseWhere(formatWhere(where)), where);
  assert.equal(formatWhere({ b: [1], a: [2] }), formatWhere({ a: [2], b: [1] }));
  assert.equal(formatWhere({}), "");
  assert.deepEqual(parseWhere('{"label": 1, "length": {"min": 2}}'), { label: [1], length: { min: 2 } });
});

test("malformed filters are left out", () => {
  for (const text of [null, "", "{", "[]", "7", "null"]) assert.deepEqual(parseWhere(text), {});
  assert.deepEqual(parseWhere('{"a": [], "b": [[1]], "c": {}, "d": {"least": 1}, "e": {"min": null}, "f": [1]}'), { f: [1] });
  const many = Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`c${n}`, [n]]));
  assert.equal(Object.keys(parseWhere(JSON.stringify(many))).length, 32);
});

test("values and bounds come and go", () => {
  let where = toggleValue({}, "label", 1);
  where = toggleValue(where, "label", 0);
  assert.deepEqual(where, { label: [1, 0] });
  assert.deepEqual(toggleValue(toggleValue(where, "label", 1), "label", 0), {});
  where = setBound({ topic: ["law"] }, "length", "min", 5);
  assert.deepEqual(setBound(where, "length", "max", 9).length, { min: 5, max: 9 });
  assert.deepEqual(setBound(where, "length", "min", null), { topic: ["law"] });
  assert.deepEqual(setBound({ topic: ["law"] }, "topic", "min", 2), { topic: { min: 2 } });
});

test("head metrics are columns", () => {
  const measured = { stack: "decoder", metric: "a_to_b", layer: 8, head: 3 };
  for (const first of ["encoder", "decoder"]) {
    assert.deepEqual(parseMetricColumn(metricColumn(measured, first), first), measured);
  }
  assert.equal(metricColumn(measured, "decoder"), "a_to_b[8,3]");
  assert.equal(metricColumn(measured, "encoder"), "decoder.a_to_b[8,3]");
  for (const name of ["length", "a[1]", "a[1,2,3]", "x y[1,2]", ""]) assert.equal(parseMetricColumn(name, "encoder"), null);
});

test("only what is asked is sent", () => {
  assert.equal(String(sliceParameters({ query: "", where: {}, sort: "", descending: false })), "");
  const all = sliceParameters({ query: "a&b", where: { label: [1] }, sort: "max[0,1]", descending: true });
  assert.deepEqual(Object.fromEntries(all), { q: "a&b", where: '{"label":[1]}', sort: "max[0,1]", order: "desc" });
  assert.equal(isNarrowed({ query: "", where: {}, sort: "length", descending: true }), false);
  assert.equal(isNarrowed({ query: "", where: { label: [1] }, sort: "", descending: false }), true);
});

test("conditions read as words", () => {
  const name = (value) => (value === null ? "none" : String(value));
  assert.equal(describeCondition("Topic", ["law", null], name), "Topic: law or none");
  assert.equal(describeCondition("Tokens", { min: 3, max: 9 }, name), "Tokens 3–9");
  assert.equal(describeCondition("Tokens", { max: 9 }, name), "Tokens ≤ 9");
  assert.equal(describeCondition("Tokens", { min: 0 }, name), "Tokens ≥ 0");
  assert.equal(describeCondition("Tokens", { min: 4, max: 4 }, name), "Tokens = 4");
});
