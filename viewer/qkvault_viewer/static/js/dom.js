/** The few lines of DOM building that all parts share. Text goes in as text, never as markup. */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean | EventListener | undefined>} [props] `class`,
 *   `text`, `onclick`-style listeners; anything else is an attribute (false and undefined: none)
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = String(value);
    else if (name === "text") element.textContent = String(value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * Size a canvas for the screen's pixels; drawing then happens in CSS pixels.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width CSS pixels
 * @param {number} height
 * @param {number} [finest] most device pixels per CSS pixel
 * @returns {CanvasRenderingContext2D} cleared
 */
export function sizeCanvas(canvas, width, height, finest = 3) {
  const context = scaleCanvas(canvas, width, height, Math.min(devicePixelRatio || 1, finest));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  return context;
}

/**
 * Size a canvas for a density of its own: for pictures that are taken away.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width CSS pixels
 * @param {number} height
 * @param {number} density pixels per CSS pixel
 * @returns {CanvasRenderingContext2D} cleared
 */
export function scaleCanvas(canvas, width, height, density) {
  const wide = Math.max(1, Math.round(width * density));
  const high = Math.max(1, Math.round(height * density));
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== high) canvas.height = high;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/**
 * A colour variable of the stylesheet, as numbers.
 * @param {string} name for example `--surface`
 * @returns {readonly [number, number, number]}
 */
export function themeColour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const value = Number.parseInt(text.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

/** @returns {boolean} */
export function isDark() {
  return document.documentElement.dataset.theme === "dark";
}

/** Let the browser paint and answer; resolves in a new task. */
export function breathe() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve(undefined);
    };
    port2.postMessage(null);
  });
}
