/** A figure as one HTML file that needs nothing else. Pure. */

import { escapeXml } from "./svgfigure.js";

const POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

const STYLE = `
body { margin: 24px; background: var(--background); color: var(--ink); font: 13px/1.5 system-ui, sans-serif; }
svg { max-width: 100%; height: auto; }
svg [data-token] { cursor: pointer; }
svg.chosen line { display: none; }
svg.chosen line.on { display: inline; stroke-width: 2.5; }
svg [data-token].on { font-weight: 700; }
table { border-collapse: collapse; } td { padding: 1px 12px 1px 0; font-variant-numeric: tabular-nums; }
`;

/** Runs in the exported file: a token's own lines, and its weights as numbers. Text goes in as text. */
const SCRIPT = `
const { queries, keys, weights } = JSON.parse(document.getElementById("numbers").textContent);
const svg = document.querySelector("svg");
const table = document.querySelector("table");
const choose = (text) => {
  const { side, token } = text ? text.dataset : {};
  svg.classList.toggle("chosen", Boolean(text));
  for (const one of svg.querySelectorAll("[data-token]")) one.classList.toggle("on", one === text);
  for (const line of svg.querySelectorAll("line")) line.classList.toggle("on", line.dataset[side] === token);
  const own = side === "q" ? 1 : 2;
  const rows = text ? weights.filter((entry) => entry[own] === Number(token)).sort((a, b) => b[3] - a[3]).slice(0, 40) : [];
  table.replaceChildren(...rows.map(([head, query, key, weight]) => {
    const row = document.createElement("tr");
    for (const value of ["head " + head, queries[query] + " \\u2192 " + keys[key], weight.toFixed(4)]) {
      row.insertCell().textContent = value;
    }
    return row;
  }));
};
svg.addEventListener("pointerover", (event) => {
  const text = event.target.closest("[data-token]");
  if (text) choose(text);
});
svg.addEventListener("click", (event) => { if (!event.target.closest("[data-token]")) choose(null); });
`;

/**
 * @param {string} svg
 * @param {string} title
 * @param {{queries: string[], keys: string[], weights: [number, number, number, number][]}} numbers labels
 *   by token; head, query, key, weight
 * @param {import("./svgfigure.js").Look} look
 * @returns {string} HTML
 */
export function formatHtml(svg, title, numbers, look) {
  const data = JSON.stringify(numbers).replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
  return [
    "<!doctype html>",
    '<html lang="en"><head><meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${POLICY}">`,
    '<meta name="referrer" content="no-referrer">',
    `<title>${escapeXml(title)}</title>`,
    `<style>:root { --background: ${look.background}; --ink: ${look.ink}; }${STYLE}</style></head><body>`,
    svg,
    numbers.weights.length ? "<p>Point at a token for its own lines and numbers; click beside the tokens for all.</p>" : "",
    "<table></table>",
    `<script type="application/json" id="numbers">${data}</script>`,
    `<script>${SCRIPT}</script>`,
    "</body></html>",
  ].join("\n");
}

/**
 * Rows as CSV (RFC 4180). Text that a spreadsheet would take for a formula gets an apostrophe.
 * @param {readonly string[]} names
 * @param {readonly (readonly (string | number)[])[]} rows
 */
export function formatCsv(names, rows) {
  const field = (/** @type {string | number} */ value) => {
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
}
