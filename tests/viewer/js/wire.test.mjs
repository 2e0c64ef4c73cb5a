import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeFrames, decodeHalf, WEIGHT_OF_CODE } from "../../../viewer/qkvault_viewer/static/js/wire.js";

function frame({ dtype, encoding = 0, shape, part = 0, head = 0xffff, bytes }) {
  const body = new ArrayBuffer(32 + Math.ceil(bytes.byteLength / 8) * 8);
  const view = new DataView(body);
  [..."QKVW"].forEach((letter, i) => view.setUint8(i, letter.charCodeAt(0)));
  [1, dtype, encoding, shape.length].forEach((value, i) => view.setUint8(4 + i, value));
  shape.forEach((length, i) => view.setUint32(8 + 4 * i, length, true));
  view.setUint16(28, part, true);
  view.setUint16(30, head, true);
  new Uint8Array(body, 32).set(new Uint8Array(bytes.buffer));
  return new Uint8Array(body);
}

test("half floats: zero, ones, subnormal, largest, infinities, NaN", () => {
  const bits = Uint16Array.of(0x0000, 0x8000, 0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0x3555);
  const values = [...decodeHalf(bits)];
  assert.deepEqual(values.slice(0, 10), [0, -0, 1, -2, 2 ** -24, 1023 * 2 ** -24, 65504, Infinity, -Infinity, NaN]);
  assert.ok(Math.abs(values[10] - 1 / 3) < 1e-4);
});

test("two frames in one body", () => {
  const codes = frame({ dtype: 1, encoding: 1, shape: [1, 3], part: 0, head: 2, bytes: Uint8Array.of(0, 51, 255) });
  const rows = frame({ dtype: 4, shape: [2], part: 2, bytes: Float32Array.of(0.5, -1) });
  const body = new Uint8Array(codes.length + rows.length);
  body.set(codes);
  body.set(rows, codes.length);
  const [first, second] = decodeFrames(body.buffer);
  assert.deepEqual([first.part, first.head, first.shape, first.encoding], ["attention", 2, [1, 3], "sqrt"]);
  assert.deepEqual([...first.data].map((code) => WEIGHT_OF_CODE[code].toFixed(3)), ["0.000", "0.040", "1.000"]);
  assert.deepEqual([second.part, second.head, [...second.data]], ["key", null, [0.5, -1]]);
});

test("a body cut short, or of something else, is refused", () => {
  const whole = frame({ dtype: 4, shape: [4], bytes: Float32Array.of(1, 2, 3, 4) });
  assert.throws(() => decodeFrames(whole.slice(0, 40).buffer), /ends early/);
  assert.throws(() => decodeFrames(whole.slice(0, 20).buffer), /no frame/);
  assert.throws(() => decodeFrames(new TextEncoder().encode("{\"error\": 1}".padEnd(64)).buffer), /no frame/);
});
