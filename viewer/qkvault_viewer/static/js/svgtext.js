/** Text and numbers inside an SVG: nothing of a vault's can end the place it stands in. Pure. */

/** @typedef {{x: number, y: number, anchor: "start" | "middle" | "end", text: string}} FigureText */

/** Text for XML: nothing in it can end the text or is no character there. @param {string} text */
export function escapeXml(text) {
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Cs}/gu, "\ufffd")
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** @param {readonly number[]} rgb */
export const hex = (rgb) => `#${rgb.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;

/** @param {number} value */
export const round = (value) => String(Math.round(value * 100) / 100);

/**
 * @param {FigureText} text
 * @param {string} colour
 * @param {string} [more] attributes
 */
export function formatText({ x, y, anchor, text }, colour, more = "") {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" fill="${colour}"${more}>\u2068${escapeXml(text)}\u2069</text>`;
}

/** @param {string} text @param {number} [most] */
export const cut = (text, most = 24) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
