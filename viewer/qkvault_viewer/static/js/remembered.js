/** Small choices kept for the next visit; for this visit only, where the browser keeps nothing. */

/** @type {Map<string, string>} */
const meanwhile = new Map();

/** @param {string} key @param {string} value */
export function remember(key, value) {
  meanwhile.set(key, value);
  try {
    localStorage.setItem(key, value);
  } catch {
    // A private window or a full disk: the choice lasts as long as the page.
  }
}

/** @param {string} key @returns {string | null} */
export function recall(key) {
  try {
    return localStorage.getItem(key) ?? meanwhile.get(key) ?? null;
  } catch {
    return meanwhile.get(key) ?? null;
  }
}
