/** Frames of docs/viewer-api.md, laid over the body's bytes without copying. */

/**
 * @typedef {{part: "attention" | "query" | "key" | "value" | "thumbnail" | "metrics", head: number | null,
 *   shape: number[], data: Uint8Array | Uint16Array | Float32Array, encoding: "value" | "sqrt"}} Frame
 *   `data` is flat, C order; half floats arrive widened to float32.
 */

const HEADER = 32;
const PARTS = /** @type {const} */ (["attention", "query", "key", "value", "thumbnail", "metrics"]);
const ITEM_BYTES = [0, 1, 2, 2, 4];
const EVERY_HEAD = 0xffff;

/** @type {Float32Array | null} */
let halves = null;

/** All 65,536 half floats as float32, built once: `Float16Array` is not in every browser. */
function halfTable() {
  const table = new Float32Array(65536);
  const powers = Float64Array.from({ length: 31 }, (_, exponent) => 2 ** (exponent - 25));
  for (let bits = 0; bits < 65536; bits += 1) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent === 0 ? fraction * powers[1]
      : exponent < 31 ? (1024 + fraction) * powers[exponent]
        : fraction ? NaN : Infinity;
    table[bits] = bits & 0x8000 ? -size : size;
  }
  return table;
}

/**
 * @param {Uint16Array} bits IEEE 754 binary16
 * @returns {Float32Array}
 */
export function decodeHalf(bits) {
  halves ??= halfTable();
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i += 1) values[i] = halves[bits[i]];
  return values;
}

/**
 * @param {ArrayBuffer} body
 * @param {number} start
 * @param {number} code
 * @param {number} count
 */
function layArray(body, start, code, count) {
  switch (code) {
    case 1: return new Uint8Array(body, start, count);
    case 2: return new Uint16Array(body, start, count);
    case 3: return decodeHalf(new Uint16Array(body, start, count));
    default: return new Float32Array(body, start, count);
  }
}

/**
 * @param {ArrayBuffer} body one frame or several
 * @returns {Frame[]}
 * @throws {Error} where the body is cut short or is no frame of version 1
 */
export function decodeFrames(body) {
  const view = new DataView(body);
  /** @type {Frame[]} */
  const frames = [];
  let start = 0;
  while (start < body.byteLength) {
    const left = body.byteLength - start;
    if (left < HEADER || view.getUint32(start, false) !== 0x514b5657 || view.getUint8(start + 4) !== 1) {
      throw new Error(`the answer is no frame of version 1 at byte ${start}`);
    }
    const code = view.getUint8(start + 5);
    const axes = view.getUint8(start + 7);
    const shape = Array.from({ length: axes }, (_, i) => view.getUint32(start + 8 + 4 * i, true));
    const count = shape.reduce((product, length) => product * length, 1);
    const bytes = HEADER + Math.ceil((count * ITEM_BYTES[code]) / 8) * 8;
    if (!(bytes <= left)) throw new Error(`the answer ends early: ${left} of ${bytes} bytes`);
    const head = view.getUint16(start + 30, true);
    frames.push({
      part: PARTS[view.getUint16(start + 28, true)],
      head: head === EVERY_HEAD ? null : head,
      shape,
      data: layArray(body, start + HEADER, code, count),
      encoding: view.getUint8(start + 6) === 1 ? "sqrt" : "value",
    });
    start += bytes;
  }
  return frames;
}

/** Weight of each √-code. */
export const WEIGHT_OF_CODE = Float32Array.from({ length: 256 }, (_, code) => (code / 255) ** 2);
