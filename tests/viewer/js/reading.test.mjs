import assert from "node:assert/strict";
import { test } from "node:test";
import { snapFocus } from "../../../viewer/qkvault_viewer/static/js/context.js";
import { poolMass } from "../../../viewer/qkvault_viewer/static/js/minimap.js";
import { arrange } from "../../../viewer/qkvault_viewer/static/js/matrixpanels.js";
import { readColumns, readRows } from "../../../viewer/qkvault_viewer/static/js/numbers.js";
import { drawShare, groupWords, readMap, singles } from "../../../viewer/qkvault_viewer/static/js/reading.js";
import { joinLabels, labelTokens } from "../../../viewer/qkvault_viewer/static/js/tokens.js";
import { WEIGHT_OF_CODE } from "../../../viewer/qkvault_viewer/static/js/wire.js";

const EXAMPLE = { words: [-1, 0, 0, 1, -1, 0, 0, -1], segments: [0, 0, 0, 0, 0, 1, 1, 1] };
const SPECIAL = [1, 0, 0, 0, 1, 0, 0, 1];
const MEMBERS = groupWords(EXAMPLE);
const side = (members) => ({ members, special: SPECIAL });
const CODE = (weight) => Math.round(255 * Math.sqrt(weight));

function randomMap(length) {
  let seed = 7;
  const rows = Array.from({ length }, () => {
    const row = Array.from({ length }, () => (seed = (seed * 16807) % 2147483647) / 2147483647);
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((weight) => weight / sum);
  });
  return { rows, grid: { codes: Uint8Array.from(rows.flat(), CODE), offset: 0, stride: length } };
}

test("neighbours of one word and one text make a word", () => {
  assert.deepEqual(MEMBERS, [[0], [1, 2], [], [3], [4], [5, 6], [], [7]]);
  assert.deepEqual(groupWords({ words: [-1, -1, 0], segments: [0, 0, 0] }), [[0], [1], [2]]);
  assert.deepEqual(groupWords({ words: [0, 0], segments: [0, 1] }), [[0], [1]]);
});

test("a word's label is its tokens' texts", () => {
  const labels = labelTokens(["[CLS]", "sleep", "##ing"]);
  assert.equal(joinLabels(labels, [1, 2]).text, "sleeping");
  assert.equal(joinLabels(labels, []), null);
});

test("a focus within a word is its word's", () => {
  assert.deepEqual(snapFocus({ side: "left", token: 6 }, MEMBERS), { side: "left", token: 5 });
  assert.deepEqual(snapFocus({ side: "right", token: 3 }, MEMBERS), { side: "right", token: 3 });
});

test("a plain map is itself", () => {
  const { grid } = randomMap(8);
  const reading = { words: false, hides: true, renormalises: false, queries: side(singles(8)), keys: side(singles(8)) };
  assert.equal(readMap(grid, reading), grid);
});

for (const renormalises of [false, true]) {
  test(`words are summed over keys and averaged over queries${renormalises ? ", renormalised" : ""}`, () => {
    const { rows, grid } = randomMap(8);
    const reading = { words: true, hides: renormalises, renormalises, queries: side(MEMBERS), keys: side(MEMBERS) };
    const read = readMap(grid, reading);
    const flat = Float32Array.from(rows.flat());
    const whole = (q) => (renormalises ? rows[q].reduce((sum, w, k) => sum + (SPECIAL[k] ? 0 : w), 0) : 1);
    for (const first of [1, 3, 5]) {
      const exact = readRows(MEMBERS[first].map((q) => flat.subarray(q * 8, q * 8 + 8)), reading, 1);
      for (const key of [1, 3, 5]) {
        let expected = 0;
        for (const q of MEMBERS[first]) {
          for (const k of MEMBERS[key]) expected += rows[q][k] / whole(q) / MEMBERS[first].length;
        }
        assert.ok(Math.abs(exact[key] - expected) < 1e-6);
        assert.ok(Math.abs(WEIGHT_OF_CODE[read.codes[first * 8 + key]] - expected) < 0.01);
      }
    }
    const onto = readColumns(MEMBERS[1].map((k) => Float32Array.from(rows, (row) => row[k])), { ...reading, renormalises: false }, 1);
    const direct = (rows[5][1] + rows[5][2] + rows[6][1] + rows[6][2]) / 2;
    assert.ok(Math.abs(onto[5] - direct) < 1e-6 && onto[6] === 0);
  });
}

test("the strongest weights that hold a share, and no fewer", () => {
  const codes = Uint8Array.from([0.5, 0.25, 0.125, 0.0625, 0, 0.03], CODE);
  const grid = { codes, offset: 0, stride: 6 };
  const columns = [0, 1, 2, 3, 4, 5];
  const half = drawShare([grid], [0], columns, 0.7);
  assert.equal(half.edges, 2);
  assert.equal(half.all, 5);
  assert.equal(half.least, CODE(0.25));
  assert.ok(Math.abs(half.mass - 0.75 / 0.9675) < 0.01 && Math.abs(half.shown - 0.9675) < 0.01);
  const all = drawShare([grid, grid], [0], columns, 1);
  assert.deepEqual([all.least, all.edges, all.mass], [1, 10, 1]);
  assert.equal(drawShare([{ ...grid, codes: new Uint8Array(6) }], [0], columns, 0.5).edges, 0);
});

test("pooling for the minimap keeps the mass", () => {
  const { rows, grid } = randomMap(40);
  const tokens = rows.map((_, token) => token);
  const sums = new Float32Array(49);
  poolMass(grid, tokens, tokens, 1, 7, sums);
  const expected = grid.codes.reduce((sum, code) => sum + WEIGHT_OF_CODE[code], 0);
  assert.ok(Math.abs(sums.reduce((a, b) => a + b, 0) - expected) < 1e-3);
});

test("panels fill the room and stay inside it", () => {
  for (const [count, width, height] of [[1, 800, 600], [12, 800, 600], [48, 900, 300], [3, 200, 700]]) {
    const { across, width: side } = arrange(count, width, height, 1);
    const down = Math.ceil(count / across);
    assert.ok(across * side <= width && down * side <= height && side > 20);
  }
});
