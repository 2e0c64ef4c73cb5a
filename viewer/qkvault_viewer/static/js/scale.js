/** Colours and number formats. Pure; the theme is an argument. */

/** @typedef {readonly [number, number, number]} Rgb 0 … 255 */

/**
 * Okabe & Ito's eight colours (2008), then the same hues in a second tone for models with more heads;
 * black and yellow give way to a grey and an ochre that show on both themes. Heads are numbered
 * wherever their colour is shown, so the cycle of sixteen never has to be told apart by eye alone.
 * @type {readonly Rgb[]}
 */
const LIGHT_HEADS = [
  [0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167],
  [86, 180, 233], [230, 159, 0], [110, 110, 118], [176, 156, 0],
  [70, 62, 160], [140, 45, 20], [0, 105, 90], [150, 55, 120],
  [120, 150, 190], [160, 120, 70], [100, 140, 40], [200, 70, 90],
];

/** @type {readonly Rgb[]} */
const DARK_HEADS = [
  [64, 156, 224], [240, 126, 44], [38, 190, 148], [222, 146, 190],
  [128, 204, 246], [240, 184, 50], [168, 170, 178], [226, 212, 70],
  [142, 136, 236], [212, 116, 90], [70, 160, 146], [204, 112, 178],
  [164, 188, 220], [204, 170, 122], [152, 192, 92], [238, 124, 140],
];

/**
 * @param {number} head
 * @param {boolean} dark
 * @returns {Rgb}
 */
export function headColour(head, dark) {
  const palette = dark ? DARK_HEADS : LIGHT_HEADS;
  return palette[head % palette.length];
}

/**
 * OKLCH to sRGB (Ottosson 2020), clipped.
 * @param {number} lightness 0 … 1
 * @param {number} chroma
 * @param {number} hue degrees
 * @returns {Rgb}
 */
export function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  const [red, green, blue] = linear.map((value) => {
    const clipped = Math.min(1, Math.max(0, value));
    const coded = clipped <= 0.0031308 ? 12.92 * clipped : 1.055 * clipped ** (1 / 2.4) - 0.055;
    return Math.round(255 * coded);
  });
  return [red, green, blue];
}

/**
 * One hue per layer, running from violet through blue and green to red with depth.
 * @param {number} index position of the layer among those kept
 * @param {number} count layers kept
 * @param {boolean} dark
 * @returns {Rgb}
 */
export function layerColour(index, count, dark) {
  const depth = count > 1 ? index / (count - 1) : 0.35;
  return oklch(dark ? 0.74 : 0.54, dark ? 0.14 : 0.17, 290 - 265 * depth);
}

/**
 * Contrast of a map's pictures: weights of long texts are small, and would all look alike.
 * @param {number} length tokens
 */
export function contrastFor(length) {
  return Math.max(1, length / 16) ** 0.4;
}

/**
 * Colours of 0 … 255 for a stored √-coded weight: from the background to `colour`.
 * @param {Rgb} background
 * @param {Rgb} colour
 * @param {number} [contrast] see {@link contrastFor}
 * @returns {Uint32Array} RGBA as it lies in memory, little-endian
 */
export function ramp(background, colour, contrast = 1) {
  const table = new Uint32Array(256);
  for (let code = 0; code < 256; code += 1) {
    const share = Math.min(1, (contrast * code) / 255);
    const [r, g, b] = background.map((base, i) => Math.round(base + (colour[i] - base) * share));
    table[code] = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  }
  return table;
}

/** Blue for what adds, orange for what takes away. @type {{light: [Rgb, Rgb], dark: [Rgb, Rgb]}} */
const SIGNED = {
  light: [[0, 90, 181], [222, 104, 0]],
  dark: [[92, 168, 255], [255, 150, 56]],
};

/**
 * Colour of a signed value: hue is its sign, saturation tanh(|value| / unit).
 * @param {number} value
 * @param {number} unit value of medium saturation
 * @param {boolean} dark
 * @returns {{rgb: Rgb, alpha: number}}
 */
export function signedColour(value, unit, dark) {
  const [plus, minus] = dark ? SIGNED.dark : SIGNED.light;
  return { rgb: value < 0 ? minus : plus, alpha: Math.tanh(Math.abs(value) / unit) };
}

/**
 * The unit for {@link signedColour}: twice the root mean square, so that typical values are a third
 * to a half saturated whatever the model's scale.
 * @param {ArrayLike<number>} values
 */
export function signedUnit(values) {
  let squares = 0;
  let count = 0;
  for (let i = 0; i < values.length; i += 1) {
    if (Number.isFinite(values[i])) {
      squares += values[i] * values[i];
      count += 1;
    }
  }
  return squares > 0 ? 2 * Math.sqrt(squares / count) : 1;
}

/** @param {Rgb} rgb @param {number} [alpha] */
export function css(rgb, alpha = 1) {
  return alpha === 1 ? `rgb(${rgb.join(" ")})` : `rgb(${rgb.join(" ")} / ${alpha.toFixed(3)})`;
}

/**
 * A weight between 0 and 1 in at most five characters; never "0" for what is not zero.
 * @param {number} value
 */
export function formatWeight(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  if (value < 0.0005) return "<.001";
  if (value > 0.9995 && value < 1) return ">.999";
  // The length of a weighted value is no weight, and may be more than one.
  return value < 1.5 ? value.toFixed(3).replace(/^0/, "") : value.toFixed(value < 100 ? 2 : 0);
}

/**
 * A signed activation in at most six characters, with a true minus sign.
 * @param {number} value
 */
export function formatSigned(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return `${value < 0 ? "−" : ""}${size.toFixed(digits)}`;
}

/** With commas; by hand, since the browser's own way loads its languages first. @param {number} count */
export function formatCount(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}
