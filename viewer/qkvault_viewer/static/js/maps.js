/** Maps of the heads switched on, each in its colour. */

import { isDark } from "./dom.js";
import { headColour } from "./scale.js";

/** Larger layers are asked for head by head. */
const WHOLE_LAYER_BYTES = 4 << 20;

/**
 * The whole layer in one request, so that heads come and go at once; head by head where the layer would
 * be large.
 * @param {import("./api.js").Api} api
 * @param {import("./context.js").Context} context
 * @param {AbortSignal} signal
 * @returns {Promise<import("./linelayer.js").HeadMap[]>}
 */
export async function loadMaps(api, { vault, example, stack, layer, heads, queries, keys }, signal) {
  const path = `attention/${stack.name}/${layer}`;
  const size = queries.length * keys.length;
  const dark = isDark();
  const whole = stack.heads * size <= WHOLE_LAYER_BYTES;
  const frames = await Promise.all((whole ? [path] : heads.map((head) => `${path}/${head}`))
    .map((each) => api.frames(vault, example.index, each, signal)));
  return heads.map((head, n) => ({
    codes: /** @type {Uint8Array} */ (frames[whole ? 0 : n][0].data),
    offset: whole ? head * size : 0,
    stride: keys.length,
    colour: headColour(head, dark),
  }));
}
