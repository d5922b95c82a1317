// The state of the page, which is stored in the address. Reading any address gives a valid state.

import { queryOfWords } from "./hints.js";
import { join } from "./language.js";
import { LASTS } from "./time.js";

/**
 * @typedef {object} State
 * @property {string} q the query
 * @property {string} last a range that ends now, a key of LASTS; "" if from and to say it
 * @property {string} from RFC 3339, or ""
 * @property {string} to RFC 3339, or ""
 * @property {"desc"|"asc"} order
 * @property {string} by what the histogram is stacked by, or ""
 * @property {string[]} cols
 * @property {string[]} facets
 * @property {"local"|"utc"} tz
 * @property {"createdAt"|"occurredAt"} time which time the list is ordered and counted by
 * @property {string} event the id of the event that is open
 * @property {string} around the id of the event whose neighbours are shown
 * @property {string[]} same what neighbours have in common with it
 * @property {string} asOf only events up to this seq; "" for all events
 * @property {boolean} live
 */

/** The path in data where loggers usually put the level. */
export const LEVEL = "data.level";

/** @type {State} */
export const DEFAULTS = {
  q: "", last: "24h", from: "", to: "", order: "desc", by: LEVEL,
  cols: ["environment", "component", "email", "message"], facets: ["environment", "component", LEVEL, "email"],
  tz: "local", time: "createdAt", event: "", around: "", same: [], asOf: "", live: false,
};

const COLUMN = /^(?:environment|component|email|message|id|occurredAt|createdAt|data(?:\.[^,]{1,200})?)$/;
const FACET = /^(?:environment|component|email|data\.[^,]{1,200})$/;
const SEQ = /^\d{1,18}$/;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** @param {string} address the part after the question mark @returns {State} */
export function readAddress(address) {
  const given = new URLSearchParams(address);
  const text = (/** @type {string} */ name) => given.get(name) ?? "";
  const from = instant(text("from")), to = instant(text("to"));
  const last = text("last") in LASTS && Object.hasOwn(LASTS, text("last")) ? text("last") : from || to ? "" : DEFAULTS.last;
  const asOf = SEQ.test(text("asOf")) ? text("asOf") : "";
  return {
    q: queryOfWords(text("q").slice(0, 8192)) || text("q").slice(0, 8192),
    last, from: last ? "" : from, to: last ? "" : to,
    order: text("order") === "asc" ? "asc" : "desc",
    by: given.has("by") ? (FACET.test(text("by")) ? text("by") : "") : DEFAULTS.by,
    cols: list(given, "cols", COLUMN),
    facets: list(given, "facets", FACET),
    tz: text("tz") === "utc" ? "utc" : "local",
    time: text("time") === "occurredAt" ? "occurredAt" : "createdAt",
    event: id(text("event")),
    around: id(text("around")),
    same: text("same").split(",").filter((name) => ["component", "email", "environment"].includes(name)),
    asOf,
    live: text("live") === "1" && !asOf,
  };
}

/** Whether rows show something of their data: in a column, or as their colour. @param {State} state */
export function readsData({ cols, by }) {
  return [...cols, by].some((name) => /^data(?:\.|$)/.test(name));
}

/** @param {string} text */
function instant(text) {
  const time = new Date(text).getTime();
  return Number.isNaN(time) ? "" : new Date(time).toISOString();
}

/** @param {string} text */
function id(text) {
  return UUID.test(text) ? text.toLowerCase() : "";
}

/** @param {URLSearchParams} given @param {"cols"|"facets"} name @param {RegExp} allowed */
function list(given, name, allowed) {
  const found = (given.get(name) ?? "").split(",").filter((one) => allowed.test(one));
  return found.length ? [...new Set(found)].slice(0, 20) : DEFAULTS[name];
}

/** @param {State} state @returns {string} the part after the question mark */
export function writeAddress(state) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    const plain = Array.isArray(value) ? value.join(",") : typeof value === "boolean" ? (value ? "1" : "") : value;
    const usual = DEFAULTS[/** @type {keyof State} */ (name)];
    const unsaid = Array.isArray(usual) ? usual.join(",") : usual === false ? "" : usual;
    if (plain !== unsaid && !(name === "last" && !plain)) given.set(name, plain);
  }
  return given.toString();
}

/** @typedef {{from: number|null, to: number|null}} Range ms; null is no bound */

/** The range as instants. @param {State} state @param {number} now @returns {Range} */
export function rangeOf(state, now) {
  if (!state.last) {
    return { from: state.from ? Date.parse(state.from) : null, to: state.to ? Date.parse(state.to) : null };
  }
  const { ms } = LASTS[state.last];
  return { from: ms ? now - ms : null, to: null };
}

/** The query with its range, as the service is asked. @param {string} q @param {Range} range @param {string} [field] */
export function withRange(q, range, field = "createdAt") {
  const bounds = [
    range.from === null ? "" : `${field} gte '${new Date(range.from).toISOString()}'`,
    range.to === null ? "" : `${field} lt '${new Date(range.to).toISOString()}'`,
  ];
  return join([q.trim(), ...bounds]);
}
