/** What the head metrics are called, and the colours they are shown in. Pure. */

/** @typedef {import("./scale.js").Rgb} Rgb */

/** @type {Record<string, {title: string, about: string, unit?: string}>} */
const KNOWN = {
  entropy: { title: "Entropy", about: "how widely a token looks, in nats", unit: "nats" },
  normalized_entropy: { title: "Entropy, 0 to 1", about: "entropy over the most that the mask allows" },
  max: { title: "Strongest weight", about: "the strongest weight of a token, on average" },
  distance: { title: "Distance", about: "how far away a token looks, in tokens", unit: "tokens" },
  self: { title: "To itself", about: "weight on the token itself" },
  previous: { title: "To the previous token", about: "weight on the token before" },
  next: { title: "To the next token", about: "weight on the token after" },
  first: { title: "To the first token", about: "weight on the first token" },
  special: { title: "To special tokens", about: "weight on [CLS], [SEP] and their like" },
  content: { title: "To words", about: "weight on tokens that are neither special nor punctuation" },
  a_to_b: { title: "A→B", about: "weight that the first text gives to the second" },
  b_to_a: { title: "B→A", about: "weight that the second text gives to the first" },
  entropy_without_first: { title: "Entropy without the first", about: "entropy with the first token left out", unit: "nats" },
  distance_without_first: { title: "Distance without the first", about: "distance with the first token left out", unit: "tokens" },
};

/** @param {string} metric */
export function metricTitle(metric) {
  return KNOWN[metric]?.title ?? metric.replaceAll("_", " ");
}

/** @param {string} metric */
export function metricAbout(metric) {
  return KNOWN[metric]?.about ?? "";
}

/** @param {number | null | undefined} value */
export function formatMetric(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && size < 0.0005) return `${value < 0 ? "−" : ""}<.001`;
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3).replace("-", "−");
}

/**
 * Nine steps of viridis (van der Walt & Smith 2015), which stays in order for every kind of colour
 * vision and in grey.
 * @type {readonly Rgb[]}
 */
const STEPS = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
];

/** @param {number} share 0 … 1 @returns {Rgb} */
export function metricColour(share) {
  const at = Math.min(1, Math.max(0, share)) * (STEPS.length - 1);
  const low = Math.min(STEPS.length - 2, Math.floor(at));
  const [r, g, b] = STEPS[low].map((value, i) => Math.round(value + (STEPS[low + 1][i] - value) * (at - low)));
  return [r, g, b];
}

/**
 * Lowest and highest of some numbers, those that are not there left out.
 * @param {ArrayLike<number>} values
 * @returns {[number, number] | null} null where there is none
 */
export function extentOf(values) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i += 1) {
    if (!Number.isFinite(values[i])) continue;
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  return low <= high ? [low, high] : null;
}
