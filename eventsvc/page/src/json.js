// Parses JSON without losing digits: a number that a double cannot hold is kept as text.

/** A number, kept as the text in which it was sent. */
export class RawNumber {
  /** @param {string} raw */
  constructor(raw) {
    this.raw = raw;
  }

  toString() {
    return this.raw;
  }
}

/** @param {string} text @returns {any} */
export function readJson(text) {
  return JSON.parse(text, /** @type {any} */ (keepDigits));
}

/** @param {string} _key @param {unknown} value @param {{source?: string}} [context] */
function keepDigits(_key, value, context) {
  const source = context?.source;
  return typeof value === "number" && source && String(value) !== source ? new RawNumber(source) : value;
}

/** JSON text of a value, in which raw numbers stand as they were. @param {unknown} value @param {string} [indent] @returns {string} */
export function writeJson(value, indent = "  ") {
  return write(value, indent, "\n");
}

/** @param {unknown} value @param {string} indent @param {string} newline @returns {string} */
function write(value, indent, newline) {
  if (value instanceof RawNumber) return value.raw;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = newline + indent;
  const parts = Array.isArray(value)
    ? value.map((one) => write(one, indent, inner))
    : Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${write(one, indent, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return parts.length ? `${open}${inner}${parts.join(`,${inner}`)}${newline}${close}` : open + close;
}
