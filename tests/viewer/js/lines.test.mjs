import assert from "node:assert/strict";
import { test } from "node:test";
import {
  clearField, createField, faintestOf, settle, splatEdge, splatMap, splatRest, toneMap,
} from "../../../viewer/qkvault_viewer/static/js/lines.js";
import { WEIGHT_OF_CODE } from "../../../viewer/qkvault_viewer/static/js/wire.js";

const BLUE = [0, 0, 255];

function columnMasses({ width, height, mass }) {
  return Array.from({ length: width }, (_, x) => {
    let sum = 0;
    for (let y = 0; y < height; y += 1) sum += mass[y * width + x];
    return sum;
  });
}

function nearly(actual, expected, tolerance = 1e-4) {
  assert.ok(Math.abs(actual - expected) <= tolerance, `${actual} is not ${expected}`);
}

for (const [from, to] of [[20, 20], [10.3, 14.9], [5, 95], [95, 5], [48.2, 51.7]]) {
  test(`an edge from ${from} to ${to} has the same mass in every column`, () => {
    const field = createField(40, 100);
    splatEdge(field, from, to, 2, 0.5);
    settle(field, BLUE);
    for (const mass of columnMasses(field)) nearly(mass, 1);
  });
}

test("mass lies where the edge is", () => {
  const field = createField(50, 60);
  splatEdge(field, 10, 50, 1, 1);
  settle(field, BLUE);
  for (let x = 0; x < 50; x += 1) {
    let sum = 0;
    let moment = 0;
    for (let y = 0; y < 60; y += 1) {
      sum += field.mass[y * 50 + x];
      moment += field.mass[y * 50 + x] * (y + 0.5);
    }
    nearly(moment / sum, 10 + (40 * (x + 0.5)) / 50, 0.02);
  }
});

test("a window onto an edge holds what the whole picture holds there", () => {
  const whole = createField(30, 90);
  const window = createField(30, 30);
  for (const [from, to] of [[-20, 80], [70, 10], [35, 36], [200, -100], [89, 300]]) {
    splatEdge(whole, from, to, 1.7, 0.3);
    splatEdge(window, from - 30, to - 30, 1.7, 0.3);
  }
  settle(whole, BLUE);
  settle(window, BLUE);
  for (let y = 0; y < 30; y += 1) {
    for (let x = 0; x < 30; x += 1) nearly(window.mass[y * 30 + x], whole.mass[(y + 30) * 30 + x]);
  }
});

test("opacity follows the mass, colour the strongest head", () => {
  const field = createField(1, 4);
  splatEdge(field, 0.5, 0.5, 1, 0.9);
  settle(field, [255, 0, 0]);
  splatEdge(field, 0.5, 0.5, 1, 0.1);
  settle(field, [0, 0, 255]);
  const [red, green, blue, alpha] = toneMap(field, 2);
  assert.equal(alpha, Math.round(255 * (1 - Math.exp(-2))));
  assert.ok(red > 245 && green === 0 && blue < 10);
  assert.equal(toneMap(field, 2)[7], 0);
});

test("clearing leaves nothing behind", () => {
  const field = createField(8, 8);
  splatEdge(field, 1, 7, 2, 1);
  settle(field, BLUE);
  clearField(field);
  assert.ok(toneMap(field, 3).every((value) => value === 0));
});

test("uniform attention over many tokens is drawn", () => {
  const tokens = Array.from({ length: 300 }, (_, i) => i);
  const code = Math.round(255 * Math.sqrt(1 / 300));
  const grid = { codes: new Uint8Array(300 * 300).fill(code), offset: 0, stride: 300 };
  const field = createField(60, 340);
  const y = (at) => at + 20;
  const place = { left: y, right: y, thickness: 1, least: 1, rowHeight: 1 };
  splatMap(field, grid, tokens, tokens, place);
  settle(field, BLUE);
  const expected = 300 * 300 * WEIGHT_OF_CODE[code];
  for (const mass of columnMasses(field)) nearly(mass, expected, expected * 1e-3);
});

test("what is pooled and what is drawn edge by edge add up", () => {
  const tokens = Array.from({ length: 90 }, (_, i) => i);
  const codes = Uint8Array.from({ length: 90 * 90 }, (_, i) => (i * 7919) % 97);
  const grid = { codes, offset: 0, stride: 90 };
  const least = faintestOf(grid, tokens, tokens, 500);
  assert.ok(least > 1);
  assert.ok(codes.filter((code) => code >= least).length <= 500);
  const field = createField(60, 400);
  const y = (at) => 60 + 3 * at;
  const place = { left: y, right: y, thickness: 1, least, rowHeight: 3 };
  splatMap(field, grid, tokens, tokens, place);
  splatRest(field, grid, tokens, tokens, place, 4);
  settle(field, BLUE);
  const expected = codes.reduce((sum, code) => sum + WEIGHT_OF_CODE[code], 0);
  for (const mass of columnMasses(field)) nearly(mass, expected, expected * 1e-3);
});

test("a map is drawn in parts as it is drawn at once", () => {
  const tokens = [0, 2, 3, 5];
  const grid = { codes: Uint8Array.from({ length: 36 }, (_, i) => i * 7), offset: 0, stride: 6 };
  const y = (at) => 5 + 9 * at;
  const place = { left: y, right: y, thickness: 1.5, least: 1 };
  const [once, parts] = [createField(16, 40), createField(16, 40)];
  splatMap(once, grid, tokens, tokens, place);
  splatMap(parts, grid, tokens, tokens, place, 0, 2);
  splatMap(parts, grid, tokens, tokens, place, 2, 4);
  settle(once, BLUE);
  settle(parts, BLUE);
  assert.deepEqual(parts.mass, once.mass);
});
