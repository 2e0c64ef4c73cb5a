/**
 * Attention as lines, drawn as a density rather than as strokes.
 *
 * Every edge spreads the same mass over each pixel column it crosses, whatever its slope; the masses
 * add up in float32 and one tone curve makes them opacity. So a thousand faint edges stay a faint
 * veil of the right hue, a steep fan does not clot, and the cost is edges × width, not strokes.
 * Pure: no DOM, the same bytes in node and in a browser.
 */

import { WEIGHT_OF_CODE } from "./wire.js";

/**
 * @typedef {{width: number, height: number, red: Float32Array, green: Float32Array,
 *   blue: Float32Array, share: Float32Array, mass: Float32Array, steps: Float32Array}} Field
 *   row-major sums of mass, of mass², and of mass² × colour; `steps` is scratch, two rows taller.
 * @typedef {readonly [number, number, number]} Rgb 0 … 255
 */

/**
 * @param {number} width pixels
 * @param {number} height pixels
 * @returns {Field}
 */
export function createField(width, height) {
  const size = width * height;
  return {
    width,
    height,
    red: new Float32Array(size),
    green: new Float32Array(size),
    blue: new Float32Array(size),
    share: new Float32Array(size),
    mass: new Float32Array(size),
    steps: new Float32Array(width * (height + 2)),
  };
}

/**
 * Note where the density begins (positive amount) or ends (negative) in one column.
 * @param {Float32Array} steps
 * @param {number} x
 * @param {number} width
 * @param {number} height
 * @param {number} edge position in pixels; fractions are shared by two pixels
 * @param {number} amount
 */
function step(steps, x, width, height, edge, amount) {
  if (edge <= 0) {
    steps[x] += amount;
  } else if (edge < height) {
    const pixel = edge | 0;
    const part = (edge - pixel) * amount;
    const cell = pixel * width + x;
    steps[cell] += amount - part;
    steps[cell + width] += part;
  }
}

/**
 * Add one edge from the left border at `from` to the right border at `to`.
 * @param {Field} field
 * @param {number} from y in pixels (may lie outside)
 * @param {number} to
 * @param {number} thickness across the line, pixels
 * @param {number} weight mass per column is `weight × thickness`
 */
export function splatEdge(field, from, to, thickness, weight) {
  const slope = (to - from) / field.width;
  splatBand(field, from, to, thickness * Math.sqrt(1 + slope * slope), weight * thickness);
}

/**
 * Add a band of even density: a bundle of parallel edges, or one edge.
 * @param {Field} field
 * @param {number} from y of its middle at the left border
 * @param {number} to
 * @param {number} tall extent within a column, pixels
 * @param {number} mass per column
 */
export function splatBand(field, from, to, tall, mass) {
  const { width, height, steps } = field;
  const slope = (to - from) / width;
  const span = tall + Math.abs(slope);
  const half = span / 2;
  let start = 0;
  let end = width;
  const low = -half - from;
  const high = height + half - from;
  if (slope > 0) {
    start = Math.max(0, Math.floor(low / slope) - 1);
    end = Math.min(width, Math.ceil(high / slope) + 1);
  } else if (slope < 0) {
    start = Math.max(0, Math.floor(high / slope) - 1);
    end = Math.min(width, Math.ceil(low / slope) + 1);
  } else if (low > 0 || high < 0) {
    return;
  }
  const amount = mass / span;
  let middle = from + slope * (start + 0.5);
  for (let x = start; x < end; x += 1, middle += slope) {
    step(steps, x, width, height, middle - half, amount);
    step(steps, x, width, height, middle + half, -amount);
  }
}

/**
 * Sum what {@link splatEdge} noted into the field under one colour, and clear the scratch.
 * @param {Field} field
 * @param {Rgb} colour
 */
export function settle(field, colour) {
  const { width, height, red, green, blue, share, mass, steps } = field;
  const [r, g, b] = colour;
  const densities = new Float64Array(width);
  for (let y = 0, cell = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, cell += 1) {
      const density = (densities[x] += steps[cell]);
      if (density > 1e-6) {
        const square = density * density;
        mass[cell] += density;
        share[cell] += square;
        red[cell] += square * r;
        green[cell] += square * g;
        blue[cell] += square * b;
      }
    }
  }
  steps.fill(0);
}

/**
 * Opacity `1 − exp(−gain × mass)`; colour the mean of what crossed the pixel, weighted by the square
 * of its mass, so that the strongest head keeps its hue where a plain mean would be mud.
 * @param {Field} field
 * @param {number} gain
 * @param {Uint8ClampedArray<ArrayBuffer>} [pixels] RGBA, straight alpha; made if absent
 * @returns {Uint8ClampedArray<ArrayBuffer>}
 */
export function toneMap(field, gain, pixels = new Uint8ClampedArray(field.mass.length * 4)) {
  const { red, green, blue, share, mass } = field;
  for (let cell = 0, out = 0; cell < mass.length; cell += 1, out += 4) {
    const total = share[cell];
    if (total === 0) {
      pixels[out + 3] = 0;
      continue;
    }
    pixels[out] = red[cell] / total;
    pixels[out + 1] = green[cell] / total;
    pixels[out + 2] = blue[cell] / total;
    pixels[out + 3] = 255 * (1 - Math.exp(-gain * mass[cell]));
  }
  return pixels;
}

/** @param {Field} field */
export function clearField(field) {
  field.red.fill(0);
  field.green.fill(0);
  field.blue.fill(0);
  field.share.fill(0);
  field.mass.fill(0);
}

/**
 * @typedef {{codes: Uint8Array, offset: number, stride: number}} Grid √-codes of one head,
 *   (query_token, key_token) or its thumbnail: entry (q, k) at `offset + q × stride + k`
 * @typedef {{left: (at: number) => number, right: (at: number) => number, thickness: number,
 *   least: number}} Place y of the n-th row and column drawn; faintest code drawn
 */

/**
 * Add the edges of one map.
 * @param {Field} field
 * @param {Grid} grid
 * @param {readonly number[]} rows query tokens drawn, top to bottom
 * @param {readonly number[]} columns key tokens drawn
 * @param {Place} place
 * @param {number} [first] only rows from the n-th
 * @param {number} [last] up to this one
 */
export function splatMap(field, grid, rows, columns, place, first = 0, last = rows.length) {
  const { codes, offset, stride } = grid;
  const ends = columns.map((_, at) => place.right(at));
  const least = Math.max(1, place.least);
  for (let at = first; at < last; at += 1) {
    const from = place.left(at);
    const row = offset + rows[at] * stride;
    for (let other = 0; other < columns.length; other += 1) {
      const code = codes[row + columns[other]];
      if (code >= least) splatEdge(field, from, ends[other], place.thickness, WEIGHT_OF_CODE[code]);
    }
  }
}

/**
 * The faintest code whose edges, with all stronger ones, number at most `most`.
 * @param {Grid} grid
 * @param {readonly number[]} rows
 * @param {readonly number[]} columns
 * @param {number} most
 */
export function faintestOf(grid, rows, columns, most) {
  const counts = new Uint32Array(256);
  for (const row of rows) {
    const base = grid.offset + row * grid.stride;
    for (const column of columns) counts[grid.codes[base + column]] += 1;
  }
  let code = 255;
  for (let above = counts[255]; code > 1 && above + counts[code - 1] <= most; code -= 1) {
    above += counts[code - 1];
  }
  return code;
}

/**
 * Add what is fainter than `place.least` in blocks of `block` × `block` tokens, one broad band each,
 * so that no mass is lost when a long text has too many edges to draw one by one.
 * @param {Field} field
 * @param {Grid} grid
 * @param {readonly number[]} rows
 * @param {readonly number[]} columns
 * @param {Place & {rowHeight: number}} place
 * @param {number} block
 * @param {number} [floor] what is fainter than this is left out
 */
export function splatRest(field, grid, rows, columns, place, block, floor = 1) {
  const across = Math.ceil(columns.length / block);
  const broad = block * place.rowHeight;
  const middle = (/** @type {(at: number) => number} */ y, /** @type {number} */ at) =>
    y(at) + ((block - 1) * place.rowHeight) / 2;
  for (let top = 0; top < rows.length; top += block) {
    const sums = new Float32Array(across);
    for (let at = top; at < Math.min(rows.length, top + block); at += 1) {
      const base = grid.offset + rows[at] * grid.stride;
      for (let other = 0; other < columns.length; other += 1) {
        const code = grid.codes[base + columns[other]];
        if (code < place.least && code >= floor) sums[(other / block) | 0] += WEIGHT_OF_CODE[code];
      }
    }
    const from = middle(place.left, top);
    for (let bin = 0; bin < across; bin += 1) {
      const mass = sums[bin] * place.thickness;
      if (mass > 1e-6) splatBand(field, from, middle(place.right, bin * block), broad, mass);
    }
  }
}
