/** A whole map as a small picture of lines. Pure. */

import { clearField, createField, settle, splatMap, toneMap } from "./lines.js";

/**
 * @param {{rows: readonly number[], columns: readonly number[]}} bins of the map's axes, as drawn
 * @param {number} width pixels
 * @param {number} height pixels
 * @param {number} density pixels per CSS pixel
 * @returns {(grid: import("./lines.js").Grid, colour: import("./scale.js").Rgb) => Uint8ClampedArray<ArrayBuffer>}
 *   RGBA of one map after another
 */
export function thumbnailLines({ rows, columns }, width, height, density) {
  const field = createField(width, height);
  const pitch = height / Math.max(rows.length, columns.length);
  const y = (/** @type {number} */ at) => (at + 0.5) * pitch;
  const thickness = Math.max(1, Math.min(1.6 * density, pitch * 0.4));
  const place = { left: y, right: y, thickness, least: 1 };
  // Where rows lie closer than lines are thick, less gain keeps the thumbnail from filling solid.
  const gain = 2.2 * Math.min(1, pitch / (3 * thickness)) ** 0.9;
  return (grid, colour) => {
    clearField(field);
    splatMap(field, grid, rows, columns, place);
    settle(field, colour);
    return toneMap(field, gain);
  };
}
