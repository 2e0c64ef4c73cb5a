/** A slice of the corpus: words, filters and an order, as the address and the API carry them. Pure. */

/**
 * @typedef {null | boolean | number | string} Scalar
 * @typedef {{min?: number | string, max?: number | string}} Range both ends included
 * @typedef {Scalar[] | Range} Condition any of some values, or a range
 * @typedef {Record<string, Condition>} Where
 * @typedef {{query: string, where: Where, sort: string, descending: boolean}} Slice
 * @typedef {{name: string, type: string, own: boolean, present: number,
 *   distinct: [Scalar, number][] | null, min: Scalar, max: Scalar}} Column
 * @typedef {{stack: string, metric: string, layer: number, head: number}} HeadMetric
 */

const MOST = 32;
const NAME = /^(?:(\w{1,40})\.)?(\w{1,80})\[(\d{1,6}),(\d{1,6})\]$/;

/** @param {unknown} value @returns {value is Scalar} */
function isScalar(value) {
  return value === null || typeof value === "boolean" || typeof value === "string" || Number.isFinite(value);
}

/** @param {unknown} wanted @returns {Condition | null} */
function soundCondition(wanted) {
  if (isScalar(wanted)) return [wanted];
  if (Array.isArray(wanted)) return wanted.length && wanted.every(isScalar) ? wanted : null;
  if (typeof wanted !== "object") return null;
  const { min, max } = /** @type {Range} */ (wanted);
  const ends = Object.entries({ min, max }).filter(([, end]) => typeof end === "string" || Number.isFinite(end));
  return ends.length ? Object.fromEntries(ends) : null;
}

/**
 * Read the filters of an address; what is malformed is as if it were not said.
 * @param {string | null} text
 * @returns {Where}
 */
export function parseWhere(text) {
  /** @type {unknown} */
  let asked;
  try {
    asked = JSON.parse(text || "{}");
  } catch {
    return {};
  }
  if (typeof asked !== "object" || asked === null || Array.isArray(asked)) return {};
  const entries = Object.entries(asked).slice(0, MOST);
  const sound = entries.map(([name, wanted]) => /** @type {const} */ ([name, soundCondition(wanted)]));
  return Object.fromEntries(sound.filter(([, condition]) => condition !== null));
}

/** @param {Where} where @returns {string} empty for no filter; equal filters are equal strings */
export function formatWhere(where) {
  const names = Object.keys(where).sort();
  return names.length ? JSON.stringify(Object.fromEntries(names.map((name) => [name, where[name]]))) : "";
}

/**
 * Take a value into a column's filter, or out of it.
 * @param {Where} where @param {string} name @param {Scalar} value
 * @returns {Where}
 */
export function toggleValue(where, name, value) {
  const { [name]: before, ...others } = where;
  const values = Array.isArray(before) ? before : [];
  const after = values.includes(value) ? values.filter((one) => one !== value) : [...values, value];
  return after.length ? { ...others, [name]: after } : others;
}

/**
 * Set one end of a column's range; null opens it.
 * @param {Where} where @param {string} name @param {"min" | "max"} end @param {number | null} value
 * @returns {Where}
 */
export function setBound(where, name, end, value) {
  const { [name]: before, ...others } = where;
  const { [end]: _, ...rest } = Array.isArray(before) || !before ? {} : before;
  const range = value === null ? rest : { ...rest, [end]: value };
  return Object.keys(range).length ? { ...others, [name]: range } : others;
}

/** @param {HeadMetric} measured @param {string} firstStack whose name goes without saying */
export function metricColumn({ stack, metric, layer, head }, firstStack) {
  return `${stack === firstStack ? "" : `${stack}.`}${metric}[${layer},${head}]`;
}

/** @param {string} name @param {string} firstStack @returns {HeadMetric | null} */
export function parseMetricColumn(name, firstStack) {
  const match = NAME.exec(name);
  if (!match) return null;
  return { stack: match[1] ?? firstStack, metric: match[2], layer: Number(match[3]), head: Number(match[4]) };
}

/** @param {Slice} slice */
export function isNarrowed({ query, where }) {
  return query !== "" || Object.keys(where).length > 0;
}

/** @param {Slice} slice @returns {URLSearchParams} what `examples` and `position` take */
export function sliceParameters({ query, where, sort, descending }) {
  const parameters = new URLSearchParams();
  if (query) parameters.set("q", query);
  const filters = formatWhere(where);
  if (filters) parameters.set("where", filters);
  if (sort) parameters.set("sort", sort);
  if (descending) parameters.set("order", "desc");
  return parameters;
}

/**
 * A condition in words, for the chip that takes it away again.
 * @param {string} title of the column
 * @param {Condition} condition
 * @param {(value: Scalar) => string} nameValue
 */
export function describeCondition(title, condition, nameValue) {
  if (Array.isArray(condition)) return `${title}: ${condition.map(nameValue).join(" or ")}`;
  const { min, max } = condition;
  if (min === undefined) return `${title} ≤ ${max}`;
  if (max === undefined) return `${title} ≥ ${min}`;
  return min === max ? `${title} = ${min}` : `${title} ${min}–${max}`;
}
