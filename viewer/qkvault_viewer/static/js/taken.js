/** What each view gives away: its figure, and the numbers it shows. */

import { el, isDark, scaleCanvas } from "./dom.js";
import { paintMatrix } from "./matrix.js";
import { contrastFor, ramp, signedColour } from "./scale.js";
import { isPlain } from "./reading.js";
import { loadNumbers } from "./numbers.js";
import { MOST_CELLS } from "./svgfigure.js";
import { plainText } from "./tokens.js";
import { WEIGHT_OF_CODE } from "./wire.js";

/**
 * @typedef {import("./context.js").Context} Context
 * @typedef {import("./svgfigure.js").Figure} Figure
 * @typedef {import("./svgfigure.js").FigureMap} FigureMap
 * @typedef {import("./linelayer.js").Drawing} Drawing
 * @typedef {import("./takeaway.js").Numbers} Numbers
 * @typedef {import("./api.js").Api} Api
 * @typedef {import("./differencepanel.js").Difference} Difference
 */

const MOST_ROWS = 2_000_000;
const WEIGHTS = ["layer", "head", "query", "query_token", "key", "key_token", "weight"];

/** @param {Context} context @param {Drawing} drawing @param {(string | number)[]} names of the maps @returns {Figure} */
export function linesFigure({ queries, keys }, { maps, rows, columns, least = 1 }, names) {
  return { type: "lines", maps: maps.map((map, n) => ({ ...map, name: String(names[n]) })), rows, columns, queries: queries.labels, keys: keys.labels, least };
}

/** @param {Context} context @param {Drawing} drawing @returns {Figure} */
export function matrixFigure({ queries, keys, heads }, { maps, rows, columns, least = 1 }) {
  const contrast = contrastFor(rows.length);
  const large = maps.length * rows.length * columns.length > MOST_CELLS;
  return {
    type: "matrix",
    maps: maps.map((map, n) => ({ ...map, name: String(heads[n]), href: large ? paintTile(map, rows, columns, contrast, least) : undefined })),
    rows, columns, queries: queries.labels, keys: keys.labels, least, contrast,
  };
}

/** @param {Drawing["maps"][0]} map @param {number[]} rows @param {number[]} columns @param {number} contrast @param {number} least */
function paintTile({ codes, offset, stride, colour }, rows, columns, contrast, least) {
  const canvas = el("canvas");
  canvas.width = columns.length;
  canvas.height = rows.length;
  const table = ramp(isDark() ? [30, 32, 36] : [243, 243, 240], colour, contrast);
  table.fill(table[0], 0, Math.min(256, least));
  const pixels = paintMatrix(codes, offset, stride, rows, columns, table);
  canvas.getContext("2d")?.putImageData(new ImageData(pixels, columns.length, rows.length), 0, 0);
  return canvas.toDataURL("image/png");
}

/** Pixels per CSS pixel of pictures that are taken away, whatever the screen has. */
export const TAKEN_DENSITY = 2;

/** @typedef {{canvas: HTMLCanvasElement, width: number, height: number}} Picture sizes in CSS pixels */

/**
 * Pictures below each other, with the tokens in sight beside the first.
 * @param {Picture[]} pictures drawn at {@link TAKEN_DENSITY}
 * @param {import("./columns.js").TokenColumns | null} columns
 * @param {Context} context
 * @param {HTMLElement | null} heading its titles, above
 * @returns {Figure}
 */
export function rasterFigure(pictures, columns, context, heading) {
  const top = heading ? 22 : 0;
  const [{ width, height }] = pictures;
  const whole = el("canvas");
  const all = pictures.reduce((sum, picture) => sum + picture.height, top);
  const target = scaleCanvas(whole, width, all, TAKEN_DENSITY);
  let from = top;
  for (const picture of pictures) {
    target.drawImage(picture.canvas, 0, from, picture.width, picture.height);
    from += picture.height;
  }
  /** @type {import("./svgfigure.js").FigureText[]} */
  const texts = [];
  for (const title of heading?.children ?? []) {
    const { offsetLeft, offsetWidth } = /** @type {HTMLElement} */ (title);
    texts.push({ x: offsetLeft + offsetWidth / 2, y: 13, anchor: "middle", text: title.textContent ?? "" });
  }
  if (columns) {
    const place = (/** @type {number[]} */ tokens, /** @type {boolean} */ left) => tokens.forEach((token, at) => {
      const y = columns.centre(at) - columns.element.scrollTop;
      if (y < 4 || y > height - 4) return;
      const wide = columns.tokens?.tokenWidth ?? 0;
      texts.push({ x: left ? wide - 9 : width - wide + 9, y: y + top + 4, anchor: left ? "end" : "start", text: (left ? context.queries : context.keys).labels[token].text.slice(0, 24) });
    });
    place(context.rows, true);
    place(context.columns, false);
  }
  return { type: "raster", href: whole.toDataURL("image/png"), width, height: all, texts };
}

/**
 * Exact weights: of the token kept, or of all tokens shown.
 * @param {Api} api
 * @param {Context} context
 * @param {number[]} heads
 * @returns {Promise<Numbers>}
 */
export async function weightNumbers(api, context, heads) {
  const { queries, keys, layer, locked, rows, columns, example, reading, stack, vault } = context;
  const { length } = keys;
  /** @type {(string | number)[][]} */
  const lines = [];
  const add = (/** @type {number} */ head, /** @type {number} */ query, /** @type {number} */ key, /** @type {number} */ weight) =>
    lines.push([layer, head, query, queries.labels[query].text, key, keys.labels[key].text, weight]);
  if (locked) {
    const weights = await loadNumbers(api, context, locked, heads);
    for (const head of heads) {
      if (locked.side === "left") for (const key of columns) add(head, locked.token, key, weights[head * length + key]);
      else for (const query of rows) add(head, query, locked.token, weights[head * queries.length + query]);
    }
    return { names: WEIGHTS, rows: lines };
  }
  if (heads.length * rows.length * columns.length > MOST_ROWS) {
    throw new Error("That would be more than 2,000,000 rows: keep a token, or choose fewer heads.");
  }
  if (!isPlain(reading)) {
    for (const query of rows) {
      const weights = await loadNumbers(api, context, { side: "left", token: query }, heads);
      for (const head of heads) for (const key of columns) add(head, query, key, weights[head * length + key]);
    }
    return { names: WEIGHTS, rows: lines };
  }
  for (const head of heads) {
    const [frame] = await api.frames(vault, example.index, `attention/${stack.name}/${layer}/${head}?as=f32`);
    for (const query of rows) for (const key of columns) add(head, query, key, frame.data[query * length + key]);
  }
  return { names: WEIGHTS, rows: lines };
}

/**
 * The model view's pictures as numbers: to the 8 bits that they are kept with.
 * @param {Context} context
 * @param {Uint8Array} codes (layer, head, row bin, column bin)
 * @param {number[]} sides bins of either side
 * @returns {Numbers}
 */
export function thumbnailNumbers({ stack }, codes, [down, across]) {
  /** @type {(string | number)[][]} */
  const rows = [];
  let at = 0;
  for (const layer of stack.layers) {
    for (let head = 0; head < stack.heads; head += 1) {
      for (let query = 0; query < down; query += 1) {
        for (let key = 0; key < across; key += 1) {
          rows.push([layer, head, query, key, Number(WEIGHT_OF_CODE[codes[at]].toFixed(5))]);
          at += 1;
        }
      }
    }
  }
  return { names: ["layer", "head", "query_bin", "key_bin", "weight_8bit"], rows };
}


/**
 * Examples side by side, and under each what changed from the first.
 * @param {{letter: string, context: Context, drawing: Drawing}[]} shown
 * @param {Difference[]} differences
 * @param {(difference: Difference, step: import("./align.js").Step, axis: "queries" | "keys") => string} label
 * @returns {import("./svgfigure.js").SheetFigure}
 */
export function comparisonFigure(shown, differences, label) {
  const dark = isDark();
  const [plus, minus] = [signedColour(1, 1, dark).rgb, signedColour(-1, 1, dark).rgb];
  const examples = shown.map(({ letter, context, drawing }, column) => ({
    column,
    title: plainText(`${letter} · ${context.vault.title} · ${context.example.id.slice(0, 40)}`),
    figure: { .../** @type {import("./svgfigure.js").LinesFigure} */ (linesFigure(context, drawing, context.heads)), narrow: true },
  }));
  const changes = differences.map((one) => {
    const texts = (/** @type {import("./align.js").Step[]} */ steps, /** @type {"queries" | "keys"} */ axis) =>
      steps.map((step) => ({ text: label(one, step, axis) }));
    return {
      column: shown.findIndex(({ letter }) => letter === one.name),
      title: `${one.name} − A`,
      figure: /** @type {import("./svgsigned.js").SignedFigure} */ ({
        type: "signed", values: one.values, queries: texts(one.rows, "queries"), keys: texts(one.columns, "keys"),
        largest: one.largest, plus, minus, name: `${one.name} − A`,
      }),
    };
  });
  return { type: "sheet", parts: [...examples, ...changes] };
}

/**
 * Every cell of the differences: the weights of either, as stored, the mean of the heads that are on.
 * @param {Context} context of A
 * @param {Difference[]} differences
 * @returns {Numbers}
 */
export function changeNumbers({ layer, heads }, differences) {
  /** @type {(string | number)[][]} */
  const lines = [];
  for (const { name, rows, columns, values, a, b, contextA, contextB } of differences) {
    const at = (/** @type {import("./difference.js").Weights} */ weights, /** @type {number | null} */ query, /** @type {number | null} */ key) =>
      (query === null || key === null ? "" : weights.values[query * weights.keys + key]);
    const of = (/** @type {import("./tokens.js").Label[]} */ labels, /** @type {number | null} */ token) =>
      (token === null ? ["", ""] : [token, labels[token].text]);
    rows.forEach((query, row) => columns.forEach((key, column) => lines.push([
      name, layer, heads.join(" "),
      ...of(contextA.queries.labels, query.a), ...of(contextA.keys.labels, key.a),
      ...of(contextB.queries.labels, query.b), ...of(contextB.keys.labels, key.b),
      at(a, query.a, key.a), at(b, query.b, key.b),
      Number.isNaN(values[row * columns.length + column]) ? "" : values[row * columns.length + column],
    ])));
  }
  const sides = ["a", "b"].flatMap((side) => ["query", "query_token", "key", "key_token"].map((name) => `${name}_${side}`));
  return { names: ["compared", "layer", "heads", ...sides, "weight_a", "weight_b", "change"], rows: lines };
}
