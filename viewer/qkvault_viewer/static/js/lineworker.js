/** Draws bands of lines off the page's thread. A message of a later round overtakes those before. */

import { drawBand } from "./bands.js";

/** @type {import("./bands.js").Drawing | null} */
let drawing = null;
let latest = 0;
const scratch = { field: null };

/** @param {number} round @param {import("./bands.js").Band} band */
async function paint(round, band) {
  const pixels = drawing && (await drawBand(drawing, band, scratch, () => round !== latest));
  const answer = /** @type {any} */ (self);
  answer.postMessage({ round, pixels }, pixels ? [pixels.buffer] : []);
}

addEventListener("message", ({ data }) => {
  latest = data.round;
  if (data.drawing) drawing = data.drawing;
  if (data.band) void paint(data.round, data.band);
});
