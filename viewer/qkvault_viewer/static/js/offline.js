/** A figure as one HTML file that needs nothing else. Pure. */

import { escapeXml } from "./svgtext.js";

const POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

const STYLE = `
body { margin: 24px; background: var(--background); color: var(--ink); font: 13px/1.5 system-ui, sans-serif; }
svg { max-width: 100%; height: auto; }
svg [data-token] { cursor: pointer; }
svg .chosen line { display: none; }
svg .chosen line.on { display: inline; stroke-width: 2.5; }
svg [data-token].on { font-weight: 700; }
table { border-collapse: collapse; } td, th { padding: 1px 14px 1px 0; text-align: left; font-variant-numeric: tabular-nums; }
`;

/** Runs in the exported file: a token's own lines, and its weights as numbers. Text goes in as text. */
const SCRIPT = `
const parts = JSON.parse(document.getElementById("numbers").textContent);
const svg = document.querySelector("svg");
const table = document.querySelector("#chosen");
const list = (part, wanted) => {
  const { queries, keys, weights } = parts[part];
  const rows = weights.filter(wanted).sort((a, b) => Math.abs(b[3]) - Math.abs(a[3])).slice(0, 40);
  table.replaceChildren(...rows.map(([name, query, key, weight]) => {
    const row = document.createElement("tr");
    for (const value of [name, queries[query] + " \\u2192 " + keys[key], weight.toFixed(4)]) row.insertCell().textContent = value;
    return row;
  }));
};
const choose = (text) => {
  const { side, token } = text ? text.dataset : {};
  const group = text && text.closest("[data-part]");
  for (const one of svg.querySelectorAll("[data-part]")) one.classList.toggle("chosen", one === group);
  for (const one of svg.querySelectorAll("[data-token]")) one.classList.toggle("on", one === text);
  if (!group) { table.replaceChildren(); return; }
  for (const line of group.querySelectorAll("line")) line.classList.toggle("on", line.dataset[side] === token);
  list(group.dataset.part, (entry) => entry[side === "q" ? 1 : 2] === Number(token));
};
svg.addEventListener("pointerover", (event) => {
  const text = event.target.closest("[data-token]");
  if (text) { choose(text); return; }
  const cell = event.target.closest("rect[data-q]");
  if (!cell) return;
  choose(null);
  list(cell.closest("[data-part]").dataset.part, (entry) => entry[1] === Number(cell.dataset.q) && entry[2] === Number(cell.dataset.k));
});
svg.addEventListener("click", (event) => { if (!event.target.closest("[data-token]")) choose(null); });
`;

/**
 * @typedef {{queries: string[], keys: string[], weights: [string, number, number, number][]}} Listed of one
 *   part of a figure: labels by token; name, query, key, weight
 */

/** @param {import("./takeaway.js").Numbers} numbers */
function formatTable({ names, rows }) {
  const row = (/** @type {string} */ tag, /** @type {readonly (string | number)[]} */ cells) =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeXml(typeof cell === "number" ? String(Number(cell.toPrecision(6))) : cell)}</${tag}>`).join("")}</tr>`;
  return `<table>${row("th", names)}${rows.map((cells) => row("td", cells)).join("")}</table>`;
}

/**
 * @param {string} svg
 * @param {string} title
 * @param {Listed[]} listed numbers to look up by pointing, one list per part
 * @param {import("./takeaway.js").Numbers | null} table numbers to show as they are
 * @param {import("./svgfigure.js").Look} look
 * @returns {string} HTML
 */
export function formatHtml(svg, title, listed, table, look) {
  const data = JSON.stringify(listed).replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
  return [
    "<!doctype html>",
    '<html lang="en"><head><meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${POLICY}">`,
    '<meta name="referrer" content="no-referrer">',
    `<title>${escapeXml(title)}</title>`,
    `<style>:root { --background: ${look.background}; --ink: ${look.ink}; }${STYLE}</style></head><body>`,
    svg,
    listed.some(({ weights }) => weights.length) ? "<p>Point at a token or a cell for its numbers; click beside the tokens for all.</p>" : "",
    '<table id="chosen"></table>',
    table ? formatTable(table) : "",
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
