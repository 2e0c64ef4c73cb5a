/** Figures as SVG text: strongest weights as lines, maps as cells, canvases as pictures. Pure. */

import { formatSigned } from "./svgsigned.js";
import { cut, escapeXml, formatText, hex, round } from "./svgtext.js";
import { WEIGHT_OF_CODE } from "./wire.js";

/**
 * @typedef {import("./lines.js").Grid & {colour: readonly [number, number, number], name: string, href?: string}} FigureMap
 *   `href`: the map as a picture, where it has too many cells
 * @typedef {object} Sides
 * @property {FigureMap[]} maps
 * @property {number[]} rows
 * @property {number[]} columns
 * @property {readonly {text: string}[]} queries labels of the attending tokens
 * @property {readonly {text: string}[]} keys labels of the attended tokens
 * @property {number} least faintest code drawn
 * @typedef {Sides & {type: "lines", narrow?: boolean}} LinesFigure `narrow`: one of several in a row
 * @typedef {Sides & {type: "matrix", contrast: number}} MatrixFigure
 * @typedef {import("./svgtext.js").FigureText} FigureText
 * @typedef {{type: "raster", href: string, width: number, height: number, texts: FigureText[]}} RasterFigure
 * @typedef {LinesFigure | MatrixFigure | RasterFigure | import("./svgsigned.js").SignedFigure} Single
 * @typedef {{type: "sheet", parts: {title: string, figure: Single, column: number}[]}} SheetFigure several
 *   figures, row by row: one whose column is no further right begins a row
 * @typedef {Single | SheetFigure} Figure
 * @typedef {{width: number, height: number, body: string[], notes: string[]}} Made
 * @typedef {{background: string, ink: string, muted: string, cell: string}} Look CSS colours
 * @typedef {{title: string, provenance: string[]}} Caption
 */

export const MOST_LINES = 5000;
/** A map with more cells, all heads together, is embedded as a picture. */
export const MOST_CELLS = 20000;

const ROW = 20;
const TOKENS = 150;
const BETWEEN = 380;
const NARROW = { tokens: 110, between: 190 };
const MARGIN = 14;
const HEAD = 34;
const SIDE = 260;

/**
 * The strongest edges, faintest first, so that strong ones lie on top.
 * @param {Sides} sides
 * @param {number} [most]
 * @returns {{edges: {map: number, row: number, column: number, weight: number}[], all: number, mass: number}}
 *   `row`, `column`: places among those shown; `mass`: share of all that is not hidden by `least`
 */
export function strongestEdges({ maps, rows, columns, least }, most = MOST_LINES) {
  const counts = new Uint32Array(257);
  const each = (/** @type {(code: number, map: number, row: number, column: number) => void} */ visit) => {
    maps.forEach(({ codes, offset, stride }, map) => rows.forEach((query, row) => columns.forEach((key, column) => {
      const code = codes[offset + query * stride + key];
      if (code >= Math.max(1, least)) visit(code, map, row, column);
    })));
  };
  let all = 0;
  each((code) => {
    counts[code] += 1;
    all += 1;
  });
  let floor = 256;
  for (let above = 0; floor > 1 && above + counts[floor - 1] <= most; floor -= 1) above += counts[floor - 1];
  /** @type {{map: number, row: number, column: number, weight: number}[]} */
  const edges = [];
  let [held, total] = [0, 0];
  each((code, map, row, column) => {
    const weight = WEIGHT_OF_CODE[code];
    total += weight;
    if (code < floor) return;
    held += weight;
    edges.push({ map, row, column, weight });
  });
  edges.sort((a, b) => a.weight - b.weight);
  return { edges, all, mass: total ? held / total : 0 };
}

/** @param {LinesFigure} figure @param {Look} look */
function formatLines(figure, look) {
  const { maps, rows, columns, queries, keys } = figure;
  const { edges, all, mass } = strongestEdges(figure);
  const y = (/** @type {number} */ at) => HEAD + (at + 0.5) * ROW;
  const { tokens: room, between } = figure.narrow ? NARROW : { tokens: TOKENS, between: BETWEEN };
  const [left, right] = [MARGIN + room, MARGIN + room + between];
  const lines = edges.map(({ map, row, column, weight }) =>
    `<line x1="${left}" y1="${round(y(row))}" x2="${right}" y2="${round(y(column))}" stroke="${hex(maps[map].colour)}"`
    + ` stroke-opacity="${round(Math.min(1, 0.03 + (weight / Math.sqrt(maps.length)) ** 0.8))}" data-q="${rows[row]}" data-k="${columns[column]}"/>`);
  const side = (/** @type {number[]} */ tokens, /** @type {readonly {text: string}[]} */ labels, /** @type {number} */ x, /** @type {"start" | "end"} */ anchor, /** @type {string} */ name) =>
    tokens.map((token, at) => formatText({ x, y: y(at) + 4, anchor, text: cut(labels[token].text, figure.narrow ? 16 : 24) }, look.ink, ` data-side="${name}" data-token="${token}"`));
  const note = edges.length < all ? `The ${edges.length} strongest of ${all} weights are drawn: ${(100 * mass).toFixed(1)} % of their mass.` : "";
  return {
    width: 2 * MARGIN + 2 * room + between,
    height: HEAD + ROW * Math.max(rows.length, columns.length),
    body: [`<g stroke-width="1.5">`, ...lines, "</g>", ...side(rows, queries, left - 7, "end", "q"), ...side(columns, keys, right + 7, "start", "k")],
    notes: [`Heads ${maps.map(({ name }) => name).join(", ")}.`, note],
  };
}

/** @param {MatrixFigure} figure @param {Look} look */
function formatMatrix({ maps, rows, columns, queries, keys, contrast, least }, look) {
  const single = maps.length === 1 && rows.length <= 64;
  const across = Math.ceil(Math.sqrt(maps.length));
  const cell = single ? 18 : SIDE / Math.max(rows.length, columns.length);
  const [wide, high] = [cell * columns.length, cell * rows.length];
  const [left, top] = single ? [MARGIN + 110, HEAD + 110] : [MARGIN, HEAD];
  /** @type {string[]} */
  const body = [];
  maps.forEach(({ codes, offset, stride, colour, name, href }, n) => {
    const x = left + (n % across) * (wide + MARGIN);
    const y = top + Math.floor(n / across) * (high + MARGIN + 16) + 14;
    body.push(`<rect x="${round(x)}" y="${round(y)}" width="${round(wide)}" height="${round(high)}" fill="${look.cell}"/>`);
    body.push(formatText({ x: single ? MARGIN : x, y: single ? HEAD + 12 : y - 4, anchor: "start", text: `head ${name}` }, look.muted));
    if (href) {
      body.push(`<image x="${round(x)}" y="${round(y)}" width="${round(wide)}" height="${round(high)}" href="${href}" preserveAspectRatio="none" image-rendering="pixelated"/>`);
      return;
    }
    body.push(`<g fill="${hex(colour)}">`);
    rows.forEach((query, row) => columns.forEach((key, column) => {
      const code = codes[offset + query * stride + key];
      if (code < Math.max(1, least)) return;
      body.push(`<rect x="${round(x + column * cell)}" y="${round(y + row * cell)}" width="${round(cell)}" height="${round(cell)}" fill-opacity="${round(Math.min(1, (contrast * code) / 255))}" data-q="${query}" data-k="${key}"/>`);
    }));
    body.push("</g>");
  });
  if (single) {
    rows.forEach((token, at) => body.push(formatText({ x: left - 6, y: top + 14 + (at + 0.5) * cell + 4, anchor: "end", text: cut(queries[token].text, 16) }, look.ink, ` data-side="q" data-token="${token}"`)));
    columns.forEach((token, at) => {
      const [x, y] = [left + (at + 0.5) * cell + 4, top + 8];
      body.push(formatText({ x, y, anchor: "start", text: cut(keys[token].text, 16) }, look.ink, ` data-side="k" data-token="${token}" transform="rotate(-90 ${round(x)} ${y})"`));
    });
  }
  const down = Math.ceil(maps.length / across);
  return {
    width: left + Math.min(across, maps.length) * (wide + MARGIN),
    height: top + down * (high + MARGIN + 16),
    body,
    notes: ["Attending tokens down, attended tokens across."],
  };
}

/** @param {RasterFigure} figure @param {Look} look */
function formatRaster({ href, width, height, texts }, look) {
  return {
    width: width + 2 * MARGIN,
    height: HEAD + height,
    body: [
      `<image x="${MARGIN}" y="${HEAD}" width="${round(width)}" height="${round(height)}" href="${href}"/>`,
      ...texts.map((text) => formatText({ ...text, x: text.x + MARGIN, y: text.y + HEAD }, look.ink)),
    ],
    notes: [],
  };
}

/** @param {Single} figure @param {Look} look @param {number} part its number @returns {Made} */
function formatPart(figure, look, part) {
  const made = figure.type === "lines" ? formatLines(figure, look)
    : figure.type === "matrix" ? formatMatrix(figure, look)
      : figure.type === "signed" ? formatSigned(figure, look) : formatRaster(figure, look);
  return { ...made, body: [`<g data-part="${part}">`, ...made.body, "</g>"] };
}

/** @param {SheetFigure} figure @param {Look} look @returns {Made} */
function formatSheet({ parts }, look) {
  const made = parts.map(({ figure }, n) => formatPart(figure, look, n));
  /** @type {number[]} */
  const widths = [];
  parts.forEach(({ column }, n) => { widths[column] = Math.max(widths[column] ?? 0, made[n].width); });
  let [top, tall] = [8, 0];
  const body = parts.flatMap(({ title, column }, n) => {
    if (n > 0 && column <= parts[n - 1].column) [top, tall] = [top + tall, 0];
    tall = Math.max(tall, made[n].height + 12);
    const left = widths.slice(0, column).reduce((sum, width) => sum + width, 0);
    return [`<g transform="translate(${round(left)} ${round(top)})">`,
      formatText({ x: MARGIN, y: HEAD - 2, anchor: "start", text: title }, look.ink, ` font-weight="600"`), ...made[n].body, "</g>"];
  });
  return {
    width: widths.reduce((sum, width) => sum + width, 0), height: top + tall, body,
    notes: [...new Set(made.flatMap(({ notes }) => notes))],
  };
}

/**
 * A whole figure.
 * @param {Figure} figure
 * @param {Caption} caption
 * @param {Look} look
 * @returns {{svg: string, width: number, height: number}}
 */
export function formatSvg(figure, { title, provenance }, look) {
  const made = figure.type === "sheet" ? formatSheet(figure, look) : formatPart(figure, look, 0);
  const width = Math.ceil(Math.max(480, made.width, title.length * 7.8 + 2 * MARGIN));
  const below = [...made.notes.filter(Boolean), ...provenance];
  const height = Math.ceil(made.height + 16 + below.length * 15 + MARGIN);
  const svg = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12">`,
    `<title>${escapeXml(title)}</title>`,
    `<rect width="100%" height="100%" fill="${look.background}"/>`,
    formatText({ x: MARGIN, y: 21, anchor: "start", text: title }, look.ink, ` font-size="13" font-weight="600"`),
    ...made.body,
    ...below.map((text, n) => formatText({ x: MARGIN, y: made.height + 22 + n * 15, anchor: "start", text }, look.muted, ` font-size="10.5"`)),
    "</svg>",
  ].join("\n");
  return { svg, width, height };
}

