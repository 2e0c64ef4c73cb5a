/** Examples made to be compared: ids that begin alike, such as `rain-pour` and `rain-drizzle`. */

/**
 * @typedef {import("./api.js").Vault} Vault
 * @typedef {{index: number, id: string}} Member
 */

const MOST = 6;
/** Vig's (2019) example of BertViz, which the demo vault holds. */
const TRIO = ["eminem-sick", "eminem-terrific", "eminem-available"];

/** @param {string} id @returns {string | null} what the ids of a family begin with */
export function stemOf(id) {
  const match = /^(.{1,80}[-_])[^-_\d][^-_]*$/u.exec(id);
  return match ? match[1] : null;
}

/**
 * @param {import("./api.js").Api} api @param {Vault} vault @param {unknown} condition on the id
 * @param {AbortSignal} signal
 * @returns {Promise<Member[]>}
 */
async function findIds(api, vault, condition, signal) {
  const where = /** @type {import("./slice.js").Where} */ ({ id: condition });
  const page = await api.examples(vault, { query: "", where, sort: "", descending: false }, { cursor: null, limit: MOST + 1 }, signal);
  return page.rows.map(({ index, id }) => ({ index, id }));
}

/**
 * The others of an example's family; none where it has no family, or a large one.
 * @param {import("./api.js").Api} api @param {Vault} vault @param {Member} example @param {AbortSignal} signal
 */
export async function findFamily(api, vault, example, signal) {
  const stem = stemOf(example.id);
  if (!stem) return [];
  const found = await findIds(api, vault, { min: stem, max: `${stem}\uffff` }, signal);
  return found.length > MOST ? [] : found.filter(({ index }) => index !== example.index);
}

/** @param {import("./api.js").Api} api @param {Vault} vault @param {AbortSignal} signal @returns {Promise<Member[]>} all three, or none */
export async function findTrio(api, vault, signal) {
  const found = await findIds(api, vault, TRIO, signal);
  return found.length === TRIO.length ? found : [];
}
