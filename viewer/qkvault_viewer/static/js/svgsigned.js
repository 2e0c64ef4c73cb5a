/** A map of signed numbers in a figure: blue above zero, orange below, hatched where there is none. Pure. */

import { cut, formatText, hex, round } from "./svgtext.js";

/**
 * @typedef {object} SignedFigure
 * @property {"signed"} type
 * @property {Float32Array} values (row, column), flat; NaN where there is none
 * @property {readonly {text: string}[]} queries labels of the rows
 * @property {readonly {text: string}[]} keys labels of the columns
 * @property {number} largest |value| of the full colour
 * @property {readonly [number, number, number]} plus
 * @property {readonly [number, number, number]} minus
 * @property {string} name of the numbers, in a list
 */

const LABELLED = 64;
const LABEL = 108;
const CELL = 13;
const SIDE = 420;
const HEAD = 34;
const MARGIN = 14;

/**
 * @param {SignedFigure} figure
 * @param {import("./svgfigure.js").Look} look
 * @returns {import("./svgfigure.js").Made}
 */
export function formatSigned({ values, queries, keys, largest, plus, minus }, look) {
  const labelled = Math.max(queries.length, keys.length) <= LABELLED;
  const cell = labelled ? CELL : SIDE / Math.max(queries.length, keys.length);
  const [left, top] = labelled ? [MARGIN + LABEL, HEAD + LABEL] : [MARGIN, HEAD + 8];
  const [wide, high] = [cell * keys.length, cell * queries.length];
  const body = [`<rect x="${left}" y="${top}" width="${round(wide)}" height="${round(high)}" fill="${look.cell}"/>`];
  values.forEach((value, at) => {
    const [row, column] = [Math.floor(at / keys.length), at % keys.length];
    const [x, y] = [left + column * cell, top + row * cell];
    if (Number.isNaN(value)) {
      if (labelled) body.push(`<path d="M${round(x)} ${round(y + cell)}L${round(x + cell)} ${round(y)}" stroke="${look.muted}" stroke-opacity="0.4" stroke-width="0.7"/>`);
      return;
    }
    const opacity = Math.sqrt(Math.min(1, Math.abs(value) / largest));
    if (opacity < 0.02) return;
    body.push(`<rect x="${round(x)}" y="${round(y)}" width="${round(cell)}" height="${round(cell)}" fill="${hex(value < 0 ? minus : plus)}" fill-opacity="${round(opacity)}" data-q="${row}" data-k="${column}"/>`);
  });
  if (labelled) {
    queries.forEach(({ text }, row) => body.push(formatText({ x: left - 6, y: top + (row + 0.5) * cell + 4, anchor: "end", text: cut(text, 18) }, look.ink, ` font-size="10.5" data-side="q" data-token="${row}"`)));
    keys.forEach(({ text }, column) => {
      const [x, y] = [left + (column + 0.5) * cell + 4, top - 6];
      body.push(formatText({ x, y, anchor: "start", text: cut(text, 18) }, look.ink, ` font-size="10.5" data-side="k" data-token="${column}" transform="rotate(-90 ${round(x)} ${y})"`));
    });
  }
  return {
    width: left + wide + MARGIN * 2, height: top + high + MARGIN, body,
    notes: [`Differences: full blue +${round(100 * largest)} %, full orange −${round(100 * largest)} % of a query's attention; hatched: no partner.`],
  };
}
