import assert from "node:assert/strict";
import { test } from "node:test";
import { isByteLevel, isolate, labelTokens, plainText, prettify } from "../../../viewer/qkvault_viewer/static/js/tokens.js";

const shown = (tokens) => labelTokens(tokens).map(({ text }) => text);

test("word pieces keep a faint sign", () => {
  assert.deepEqual(prettify("##nem").pieces, [{ text: "##", mark: true }, { text: "nem", mark: false }]);
  assert.equal(prettify("##").text, "##");
  assert.equal(prettify("[SEP]").text, "[SEP]");
});

test("byte-level tokens become text", () => {
  assert.deepEqual(shown(["The", "Ġcat", "Ċ", "Ġ", "âĢĻ", "cafÃ©", "âĢ"]), ["The", "cat", "↵", "␣", "’", "café", "‹e2 80›"]);
  assert.ok(!isByteLevel(["café", "cat"]));
  assert.deepEqual(shown(["café"]), ["café"]);
});

test("sentence pieces lose their space sign", () => {
  assert.deepEqual(shown(["▁The", "▁", "mat", "low</w>"]), ["The", "␣", "mat", "low"]);
});

test("what cannot be seen is named", () => {
  assert.deepEqual(shown(["a\u0000b", "\t", "x\u200by", "\u202eevil", "\u2066", "\ud800", ""]), [
    "a␀b", "⇥", "x‹U+200B›y", "‹U+202E›evil", "‹U+2066›", "‹U+D800›", "∅",
  ]);
});

test("emoji, CJK and right-to-left text stay whole", () => {
  assert.deepEqual(shown(["👩‍👩‍👧", "❤️", "漢字", "שלום"]), ["👩‍👩‍👧", "❤️", "漢字", "שלום"]);
});

test("markup is only text", () => {
  assert.equal(prettify("<img src=x onerror=alert(1)>").text, "<img src=x onerror=alert(1)>");
});

test("direction does not leak", () => {
  assert.equal(isolate("שלום"), "\u2068שלום\u2069");
});

test("running text keeps its joiners and loses its tricks", () => {
  assert.equal(plainText("a\u202eb\u0000 می‌خواهم\n"), "a‹U+202E›b␀ می‌خواهم\n");
});
