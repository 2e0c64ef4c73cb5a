import assert from "node:assert/strict";
import { test } from "node:test";
import { formatCsv, formatHtml } from "../../../viewer/qkvault_viewer/static/js/offline.js";
import { formatSvg, strongestEdges } from "../../../viewer/qkvault_viewer/static/js/svgfigure.js";
import { escapeXml } from "../../../viewer/qkvault_viewer/static/js/svgtext.js";
import { listNumbers } from "../../../viewer/qkvault_viewer/static/js/takeaway.js";

const LOOK = { background: "#ffffff", ink: "#111111", muted: "#777777", cell: "#eeeeee" };
const EVIL = "</script><script>alert(1)</script>";
const MAP = { codes: Uint8Array.of(255, 128, 0, 64), offset: 0, stride: 2, colour: [0, 90, 181], name: "3" };
const LABELS = [{ text: EVIL }, { text: 'a"&\u0000' }];
const SIDES = { maps: [MAP], rows: [0, 1], columns: [0, 1], queries: LABELS, keys: LABELS, least: 1 };

test("text cannot end its place in XML", () => {
  assert.equal(escapeXml('<a href="x">&\u0000\ud800'), "&#60;a href=&#34;x&#34;&#62;&#38;\ufffd\ufffd");
});

test("the strongest edges, the faintest first", () => {
  const { edges, all, mass } = strongestEdges(SIDES, 2);
  assert.equal(all, 3);
  assert.deepEqual(edges.map(({ row, column }) => [row, column]), [[0, 1], [0, 0]]);
  assert.ok(mass > 0.9 && mass < 1);
  assert.equal(strongestEdges({ ...SIDES, least: 200 }).all, 1);
});

for (const figure of [{ ...SIDES, type: "lines" }, { ...SIDES, type: "matrix", contrast: 1 }]) {
  test(`${figure.type}: a figure holds its tokens, safely, and where it comes from`, () => {
    const { svg } = formatSvg(figure, { title: EVIL, provenance: ["vault abc"] }, LOOK);
    assert.ok(!svg.includes("<script") && svg.includes("vault abc"));
    assert.equal(svg.match(/data-q=/g).length - (figure.type === "lines" ? 0 : 0), 3);
  });
}

test("many weights are the strongest only, and it is said", () => {
  const tokens = Array.from({ length: 100 }, (_, token) => token);
  const codes = Uint8Array.from({ length: 10000 }, (_, i) => 1 + ((i * 7919) % 250));
  const figure = { type: "lines", maps: [{ ...MAP, codes, stride: 100 }], rows: tokens, columns: tokens, queries: tokens.map(() => ({ text: "t" })), keys: tokens.map(() => ({ text: "t" })), least: 1 };
  const { svg } = formatSvg(figure, { title: "t", provenance: [] }, LOOK);
  const drawn = svg.match(/<line /g).length;
  assert.ok(drawn <= 5000 && drawn > 4500);
  assert.ok(svg.includes(`The ${drawn} strongest of 10000 weights`));
});

test("a page of its own asks for nothing and holds no markup of a token's", () => {
  const { svg } = formatSvg({ ...SIDES, type: "lines" }, { title: EVIL, provenance: [] }, LOOK);
  const html = formatHtml(svg, EVIL, [{ queries: [EVIL], keys: [EVIL], weights: [["head 3", 0, 1, 0.5]] }], { names: [EVIL], rows: [[EVIL], [0.25]] }, LOOK);
  assert.equal(html.match(/<\/script/g).length, 2);
  assert.ok(html.includes("\\u003c/script>"));
  assert.ok(!/https?:\/\/(?!www\.w3\.org\/2000\/svg)/.test(html));
});

test("fields of a table are quoted, and none is a formula", () => {
  assert.equal(formatCsv(["a", "b"], [["=1+1", 0.5], ['x"y,z', -2]]), `a,b\r\n'=1+1,0.5\r\n"x""y,z",-2\r\n`);
});

test("a comparison is a sheet: its lines, its differences, and the numbers of both", () => {
  const values = Float32Array.of(0.25, -0.5, NaN, 0);
  const signed = { type: "signed", values, queries: LABELS, keys: LABELS, largest: 0.5, plus: [0, 90, 181], minus: [222, 104, 0], name: "B − A" };
  const sheet = { type: "sheet", parts: [{ column: 0, title: EVIL, figure: { ...SIDES, type: "lines", narrow: true } }, { column: 1, title: "B", figure: { ...SIDES, type: "lines", narrow: true } }, { column: 1, title: "B − A", figure: signed }] };
  const { svg, width } = formatSvg(sheet, { title: "t", provenance: [] }, LOOK);
  assert.ok(!svg.includes("<script"));
  assert.deepEqual([...svg.matchAll(/data-part="(\d)"/g)].map(([, part]) => part), ["0", "1", "2"]);
  assert.equal(svg.match(/fill="#005ab5" fill-opacity="0.71"/g).length, 1);
  assert.equal(svg.match(/fill="#de6800" fill-opacity="1"/g).length, 1);
  assert.equal(svg.match(/translate\((\d+) \d+\)/g).length, 3);
  assert.ok(width > 800 && width < 1000);
  const [first, , changes] = listNumbers(sheet);
  assert.equal(first.weights.length, 3);
  assert.deepEqual(changes.weights, [["B − A", 0, 1, -0.5], ["B − A", 0, 0, 0.25]]);
});
