/**
 * How a tokenizer's spelling becomes something a person can read, without hiding anything.
 *
 * Token text is hostile input: what is returned here goes to `textContent` or `fillText` only.
 */

/**
 * @typedef {{text: string, mark: boolean}} Piece a run of a token; `mark` for what is not its text
 *   (a word-piece sign, the name of an invisible character).
 * @typedef {{pieces: Piece[], text: string}} Label pieces, and the same joined.
 */

const CONTROL_NAMES = new Map([[0x09, "⇥"], [0x0a, "↵"], [0x0d, "␍"], [0x7f, "␡"], [0xa0, "⍽"]]);
const INVISIBLE = /[\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]|\p{Cs}/u;
const EMOJI = /\p{Extended_Pictographic}/u;

/** @type {Map<string, number>} */
const BYTE_OF = new Map();
for (let byte = 0, extra = 256; byte < 256; byte += 1) {
  const itself = (byte > 32 && byte < 127) || (byte > 160 && byte < 173) || byte > 173;
  BYTE_OF.set(String.fromCharCode(itself ? byte : extra), byte);
  if (!itself) extra += 1;
}

/**
 * Whether these tokens are spelled byte by byte (GPT-2's table, Radford et al. 2019), where a
 * leading space is `Ġ` and a newline `Ċ`.
 * @param {readonly string[]} tokens
 */
export function isByteLevel(tokens) {
  return tokens.some((token) => token.startsWith("Ġ") || token.startsWith("Ċ"));
}

/**
 * Undo the byte table. Bytes that are no whole character are named in hexadecimal.
 * @param {string} token
 * @returns {string | null} null where the token is not spelled in the table
 */
function decodeBytes(token) {
  const bytes = [];
  for (const character of token) {
    const byte = BYTE_OF.get(character);
    if (byte === undefined) return null;
    bytes.push(byte);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(bytes));
  } catch {
    return `‹${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}›`;
  }
}

/**
 * A visible name for a character that would show as nothing or would reorder its neighbours.
 * @param {string} character
 */
function nameInvisible(character) {
  const code = character.codePointAt(0) ?? 0;
  const known = CONTROL_NAMES.get(code);
  if (known) return known;
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
}

/**
 * Split text so that invisible characters become marks. Joiners inside an emoji stay.
 * @param {string} text
 * @returns {Piece[]}
 */
function revealInvisible(text) {
  const isEmoji = EMOJI.test(text);
  /** @type {Piece[]} */
  const pieces = [];
  for (const character of text) {
    const joiner = isEmoji && (character === "\u200d" || character === "\ufe0f");
    const mark = !joiner && INVISIBLE.test(character);
    const shown = mark ? nameInvisible(character) : character;
    const last = pieces.at(-1);
    if (last && last.mark === mark) last.text += shown;
    else pieces.push({ text: shown, mark });
  }
  return pieces;
}

/**
 * One token as it is shown: `Ġ` and `▁` (a space before the word) go, `##` stays as a faint sign,
 * `</w>` goes, and whatever is invisible is named.
 * @param {string} token
 * @param {boolean} byteLevel see {@link isByteLevel}
 * @returns {Label}
 */
export function prettify(token, byteLevel = false) {
  let text = token;
  let sign = "";
  if (byteLevel) text = decodeBytes(token) ?? token;
  if (text.startsWith("##") && text.length > 2) {
    sign = "##";
    text = text.slice(2);
  }
  text = text.replaceAll("▁", " ").replace(/<\/w>$/, "");
  const body = text.trim() === "" ? text : text.replace(/^ +/, "");
  const pieces = revealInvisible(body.replace(/^ +$/, (spaces) => "␣".repeat(spaces.length)));
  if (sign) pieces.unshift({ text: sign, mark: true });
  if (pieces.length === 0) pieces.push({ text: "∅", mark: true });
  return { pieces, text: pieces.map((piece) => piece.text).join("") };
}

/**
 * Labels of a whole example.
 * @param {readonly string[]} tokens
 * @returns {Label[]}
 */
export function labelTokens(tokens) {
  const byteLevel = isByteLevel(tokens);
  return tokens.map((token) => prettify(token, byteLevel));
}

/**
 * The label of a word: its tokens' texts, without the signs that only said they belong together.
 * @param {readonly Label[]} labels
 * @param {readonly number[]} tokens
 * @returns {Label | null} null for no token
 */
export function joinLabels(labels, tokens) {
  if (tokens.length < 2) return tokens.length ? labels[tokens[0]] : null;
  const pieces = tokens.flatMap((token) => labels[token].pieces.filter(({ mark, text }) => !mark || text !== "##"));
  return { pieces, text: pieces.map((piece) => piece.text).join("") };
}

const UNSAFE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/**
 * Running text with its control and direction characters named: they could make it read otherwise
 * than it is. Joiners and spaces stay.
 * @param {string} text
 */
export function plainText(text) {
  return text.replace(UNSAFE, nameInvisible);
}

/**
 * Wrap text so that its direction cannot leak into what stands beside it (Unicode FSI … PDI).
 * @param {string} text
 */
export function isolate(text) {
  return `\u2068${text}\u2069`;
}

/**
 * Fill an element with a label's pieces, as text, read in the direction that is its own.
 * @param {HTMLElement} element
 * @param {Label} label
 */
export function fillLabel(element, label) {
  const whole = document.createElement("bdi");
  whole.append(...label.pieces.map((piece) => {
    const part = document.createElement(piece.mark ? "i" : "span");
    part.textContent = piece.text;
    return part;
  }));
  element.replaceChildren(whole);
}
