/**
 * How like the thumbnails drawn from a vault's pooled maps are to those drawn from the maps themselves.
 * Reads a JSON document {tokens, side, maps, pooled: base64, whole: base64} of √-codes of so many maps
 * from its input; writes the correlation of the opacities of each map's two pictures as a JSON list.
 */

import { readFileSync } from "node:fs";
import { thumbnailLines } from "../../../viewer/qkvault_viewer/static/js/thumbnails.js";

const WIDTH = 76;
const HEIGHT = 110;

const count = (length) => Array.from({ length }, (_, at) => at);

/** Pearson's coefficient of the opacities of two RGBA pictures. */
function correlate(a, b) {
  const opacities = [a, b].map((pixels) => Float64Array.from({ length: pixels.length / 4 }, (_, at) => pixels[4 * at + 3]));
  const centred = opacities.map((values) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.map((value) => value - mean);
  });
  const product = (x, y) => x.reduce((sum, value, at) => sum + value * y[at], 0);
  const [x, y] = centred;
  return product(x, y) / Math.sqrt(product(x, x) * product(y, y));
}

const { tokens, side, maps, pooled, whole } = JSON.parse(readFileSync(0, "utf8"));
const painters = [side, tokens].map((stride) => ({
  stride, paint: thumbnailLines({ rows: count(stride), columns: count(stride) }, WIDTH, HEIGHT, 1),
}));
const codes = [pooled, whole].map((text) => new Uint8Array(Buffer.from(text, "base64")));
const found = count(maps).map((map) => correlate(...painters.map(({ stride, paint }, which) =>
  paint({ codes: codes[which], offset: map * stride * stride, stride }, [0, 0, 0]))));
process.stdout.write(JSON.stringify(found));
