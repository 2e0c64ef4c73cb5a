import assert from "node:assert/strict";
import { test } from "node:test";
import { makeAxes, sidesOf } from "../../../viewer/qkvault_viewer/static/js/axes.js";
import { makeContext } from "../../../viewer/qkvault_viewer/static/js/context.js";
import { meanChanges } from "../../../viewer/qkvault_viewer/static/js/difference.js";
import { readColumns, readRows } from "../../../viewer/qkvault_viewer/static/js/numbers.js";
import { readMap, singles } from "../../../viewer/qkvault_viewer/static/js/reading.js";
import { START } from "../../../viewer/qkvault_viewer/static/js/state.js";
import { WEIGHT_OF_CODE } from "../../../viewer/qkvault_viewer/static/js/wire.js";

const list = (tokens, words) => ({
  text: [tokens.join(" ")], tokens, words, segments: tokens.map(() => 0), special: tokens.map((token) => Number(token.startsWith("<"))),
  token_ids: [], offsets: [],
});
const TARGET = list(["<pad>", "un", "bon", "jour"], [-1, 0, 1, 1]);
const SOURCE = { ...list(["good", "##by", "day", "</s>", "x"], [0, 0, 1, -1, 2]), index: 0, id: "r", target: TARGET };
const stack = (name) => ({ name, layers: [0], heads: 2, key_heads: 2, head_dim: 2, value_dim: 2, score: { causal: false, scaling: [1] } });
const VAULT = { stacks: ["encoder", "decoder", "cross"].map(stack) };

test("a decoder reads the target, cross-attention both", () => {
  const lengths = (name) => Object.values(sidesOf({ name }, SOURCE)).map(({ tokens }) => tokens.length);
  assert.deepEqual(["encoder", "decoder", "cross"].map(lengths), [[5, 5], [4, 4], [4, 5]]);
  const alone = { ...SOURCE, target: null };
  assert.deepEqual(Object.values(sidesOf({ name: "decoder" }, alone)).map(({ tokens }) => tokens.length), [5, 5]);
  const { queries, keys } = makeAxes(sidesOf({ name: "encoder" }, SOURCE), false);
  assert.equal(queries, keys);
});

test("either side has its own tokens, words and special ones", () => {
  const at = (change) => makeContext({ ...START, stack: "cross", ...change }, VAULT, SOURCE);
  const plain = at({});
  assert.deepEqual([plain.rows, plain.columns], [[0, 1, 2, 3], [0, 1, 2, 3, 4]]);
  assert.deepEqual([plain.queries.labels[2].text, plain.keys.labels[2].text], ["bon", "day"]);
  const words = at({ words: true, special: "hide" });
  assert.deepEqual([words.rows, words.columns], [[1, 2], [0, 2, 4]]);
  assert.deepEqual([words.queries.labels[2].text, words.keys.labels[0].text], ["bonjour", "goodby"]);
  assert.deepEqual(at({ words: true, locked: { side: "left", token: 3 } }).locked, { side: "left", token: 2 });
  assert.equal(at({ locked: { side: "left", token: 4 } }).locked, null);
  assert.deepEqual(at({ locked: { side: "right", token: 4 } }).locked, { side: "right", token: 4 });
});

test("maps of two lengths are read by the words of either side", () => {
  const rows = [[0.2, 0.1, 0.3, 0.3, 0.1], [0, 0.5, 0.25, 0.25, 0], [0.1, 0.1, 0.1, 0.1, 0.6], [0.3, 0.3, 0, 0.4, 0]];
  const { queries, keys, reading } = makeContext({ ...START, stack: "cross", words: true, special: "renormalise" }, VAULT, SOURCE);
  const codes = Uint8Array.from(rows.flat(), (weight) => Math.round(255 * Math.sqrt(weight)));
  const read = readMap({ codes, offset: 0, stride: 5 }, reading);
  assert.equal(read.codes.length, 4 * 5);
  const flat = Float32Array.from(rows.flat());
  const exact = readRows(queries.members[2].map((query) => flat.subarray(5 * query, 5 * query + 5)), reading, 1);
  const expected = (0.2 / 0.9 + 0.6 / 0.6) / 2; // onto "goodby" from "bon" and "jour", without </s>
  assert.ok(Math.abs(exact[0] - expected) < 1e-6);
  assert.ok(Math.abs(WEIGHT_OF_CODE[read.codes[2 * 5]] - expected) < 0.01);
  const onto = readColumns(keys.members[0].map((key) => Float32Array.from(rows, (row) => row[key])), reading, 1);
  assert.equal(onto.length, 4);
  assert.ok(Math.abs(onto[2] - (0.2 + 0.6) / 2) < 1e-6);
});

test("changes of maps of two lengths are counted cell by cell", () => {
  const same = (count) => singles(count).map(([n]) => ({ a: n, b: n, replaced: false }));
  const a = new Uint8Array(2 * 3);
  const b = Uint8Array.from([255, 0, 0, 0, 0, 255]);
  assert.deepEqual([...meanChanges(a, [2, 3], b, [2, 3], same(2), same(3))], [Math.fround(1 / 3)]);
});
