// The query language as far as the page needs it: tokens for colours, the place of the cursor, and conditions.
// Only the service decides whether a query is right and what it means (GET /query).

/** @typedef {"string"|"number"|"keyword"|"operator"|"literal"|"field"|"bracket"|"comma"|"bad"} Kind */
/** @typedef {{kind: Kind, from: number, to: number, text: string}} Token */
/** @typedef {string|number|boolean|null} Value */
/** @typedef {{from: number, to: number, text: string, field: string, operator: string, values: string[], negated: boolean}} Condition */

export const FIELDS = ["any", "message", "email", "environment", "component", "createdAt", "occurredAt", "id", "data."];

const TEXT = ["eq", "ne", "ct", "sw", "in", "exists"];

/** The operators in words, for completion and for the help. */
export const OPERATORS = /** @type {Record<string, string>} */ ({
  eq: "is exactly",
  ne: "is not",
  ct: "contains, in any case",
  sw: "starts with, in any case",
  in: "is one of",
  exists: "has a value",
  gt: "greater, or later",
  gte: "at least, or from",
  lt: "less, or before",
  lte: "at most, or until",
});

const PATTERNS = /** @type {[Kind, RegExp][]} */ ([
  ["string", /'(?:[^'\\]|\\[^])*'|"(?:[^"\\]|\\[^])*"/y],
  ["bad", /['"][^]*/y],
  ["keyword", /(?:AND|OR|NOT)(?![\w.])/y],
  ["operator", /(?:eq|ne|ct|sw|gte?|lte?|in|exists)(?![\w.])/y],
  ["literal", /(?:true|false|null|now(?:[+-][\w.]*)*)(?![\w.])/y],
  ["field", /[\p{L}_][\p{L}\p{N}_]*(?:\.(?:[\p{L}\p{N}_@$-]+|'(?:[^'\\]|\\[^])*'|"(?:[^"\\]|\\[^])*"))*\.?/uy],
  ["number", /[+-]?\.?\d[\w.+:-]*/y],
  ["bracket", /[()]/y],
  ["comma", /,/y],
]);

/** @param {string} text @returns {Token[]} */
export function tokenize(text) {
  const tokens = [];
  let at = 0;
  while (at < text.length) {
    const token = /\s/.test(text[at]) ? null : read(text, at);
    if (token) tokens.push(token);
    at = token ? token.to : at + 1;
  }
  return tokens;
}

/** @param {string} text @param {number} at @returns {Token} */
function read(text, at) {
  for (const [kind, pattern] of PATTERNS) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) return { kind, from: at, to: at + found[0].length, text: found[0] };
  }
  const length = text.codePointAt(at) ?? 0;
  const width = length > 0xffff ? 2 : 1;
  return { kind: "bad", from: at, to: at + width, text: text.slice(at, at + width) };
}

/**
 * Tell what may follow at a position: a field, an operator of a field, a value of a field, or a connective.
 * @param {string} text @param {number} at
 * @returns {{wants: "field"|"operator"|"value"|"connective", field: string, from: number, word: string}}
 */
export function placeAt(text, at) {
  const all = tokenize(text.slice(0, at));
  const last = all.at(-1);
  const typing = last && last.to === at && !["bracket", "comma"].includes(last.kind) && !closed(last) ? last : undefined;
  const before = typing ? all.slice(0, -1) : all;
  const place = follows(before);
  return { ...place, from: typing?.from ?? at, word: typing?.text ?? "" };
}

/** @param {Token} token */
function closed(token) {
  return token.kind === "string";
}

/** @param {Token[]} tokens @returns {{wants: "field"|"operator"|"value"|"connective", field: string}} */
function follows(tokens) {
  const previous = tokens.at(-1);
  const field = tokens.findLast((token) => token.kind === "field")?.text ?? "";
  if (!previous || previous.kind === "keyword") return { wants: "field", field: "" };
  if (previous.kind === "field") return { wants: "operator", field };
  if (previous.kind === "operator") return { wants: previous.text === "exists" ? "connective" : "value", field };
  if (previous.kind === "comma") return { wants: "value", field };
  if (previous.text === "(") {
    return tokens.at(-2)?.text === "in" ? { wants: "value", field } : { wants: "field", field: "" };
  }
  return { wants: "connective", field };
}

/** @param {string} field @returns {string[]} */
export function operatorsOf(field) {
  if (field === "any") return ["ct", "eq", "ne", "sw", "in"];
  if (field === "id") return ["eq", "ne", "in"];
  if (field === "createdAt" || field === "occurredAt") return ["gte", "lt", "gt", "lte", "eq", "ne", "in"];
  return field.startsWith("data.") ? ["eq", "ne", "ct", "gt", "gte", "lt", "lte", "sw", "in", "exists"] : TEXT;
}

/** The literal of a value. @param {Value|{raw: string}} value */
export function literal(value) {
  if (typeof value === "string") return quote(value);
  return value !== null && typeof value === "object" ? value.raw : String(value);
}

/** @param {string} text */
export function quote(text) {
  const escaped = text.replace(/[\\']/g, "\\$&").replace(/\n/g, "\\n").replace(/\t/g, "\\t");
  return `'${escaped.replace(/[\u0000-\u001f\u007f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`)}'`;
}

/** The string of a string literal; any other literal unchanged. @param {string} text */
export function unquote(text) {
  if (!/^['"]/.test(text)) return text;
  const escapes = /** @type {Record<string, string>} */ ({ n: "\n", t: "\t", r: "\r", b: "\b", f: "\f" });
  return text.slice(1, -1).replace(/\\(?:u([0-9a-fA-F]{4})|([^]))/g, (_, hex, char) =>
    hex ? String.fromCharCode(parseInt(hex, 16)) : (escapes[char] ?? char));
}

/** The path of keys as a query writes it. @param {string[]} keys */
export function path(keys) {
  return ["data", ...keys.map((key) => (/^[A-Za-z0-9_@$-]+$/.test(key) ? key : quote(key)))].join(".");
}

/** Split a query at its outermost ANDs. A query with an outermost OR is a single condition. @param {string} text @returns {Condition[]} */
export function conditions(text) {
  const tokens = bare(tokenize(text));
  if (!tokens.length) return [];
  const parts = tops(tokens, "OR").length > 1 ? [tokens] : tops(tokens, "AND").filter((part) => part.length);
  return parts.map((part) => condition(text, part));
}

/** Remove brackets that enclose all tokens. @param {Token[]} tokens @returns {Token[]} */
function bare(tokens) {
  let depth = 0;
  const wrapped = tokens[0]?.text === "(" && tokens.every((token, i) => {
    depth += token.text === "(" ? 1 : token.text === ")" ? -1 : 0;
    return depth > 0 || i === tokens.length - 1;
  }) && depth === 0;
  return wrapped ? bare(tokens.slice(1, -1)) : tokens;
}

/** Cut at a keyword outside brackets. @param {Token[]} tokens @param {string} keyword */
function tops(tokens, keyword) {
  /** @type {Token[][]} */
  const parts = [[]];
  let depth = 0;
  for (const token of tokens) {
    if (token.kind === "bracket") depth += token.text === "(" ? 1 : -1;
    if (depth === 0 && token.text === keyword && token.kind === "keyword") parts.push([]);
    else parts[parts.length - 1].push(token);
  }
  return parts;
}

/** @param {string} text @param {Token[]} part @returns {Condition} */
function condition(text, part) {
  const [from, to] = [part[0].from, part[part.length - 1].to];
  const inner = bare(part);
  const negated = inner[0]?.text === "NOT";
  if (inner.length === 1 && inner[0].kind === "string") {
    return { from, to, text: text.slice(from, to), negated: false, field: "any", operator: "ct", values: [inner[0].text] };
  }
  const [field, operator, ...rest] = negated ? bare(inner.slice(1)) : inner;
  const values = rest.filter((token) => !["bracket", "comma"].includes(token.kind));
  const listed = operator?.text === "in" || operator?.text === "exists" || values.length === 1;
  const simple = field?.kind === "field" && operator?.kind === "operator" && listed
    && !values.some((token) => ["keyword", "operator", "field"].includes(token.kind));
  return {
    from, to, text: text.slice(from, to), negated,
    field: simple ? field.text : "", operator: simple ? operator.text : "",
    values: simple ? values.map((token) => token.text) : [],
  };
}

/** @param {string[]} parts */
export function join(parts) {
  const given = parts.filter((part) => part.trim());
  return given.length === 1 ? given[0] : given.map(wrapOr).join(" AND ");
}

/** @param {string} text */
function wrapOr(text) {
  return tops(tokenize(text), "OR").length > 1 ? `(${text})` : text;
}

/** The query without one of its conditions. @param {string} text @param {number} index */
export function without(text, index) {
  return join(conditions(text).filter((_, i) => i !== index).map((one) => one.text));
}

/** The query with one of its conditions replaced. @param {string} text @param {number} index @param {string} by */
export function replaced(text, index, by) {
  return join(conditions(text).map((one, i) => (i === index ? by : one.text)));
}

/** @param {string} text */
export function negation(text) {
  const [only] = conditions(text);
  if (only?.field && !only.negated && only.operator === "eq") return `${only.field} ne ${only.values[0]}`;
  if (only?.field && !only.negated && only.operator === "ne") return `${only.field} eq ${only.values[0]}`;
  const [first, ...rest] = tokenize(text);
  if (first?.text === "NOT" && rest.length) return unwrap(text.slice(rest[0].from));
  return only?.field ? `NOT ${text}` : `NOT (${text})`;
}

/** @param {string} text */
function unwrap(text) {
  const inner = bare(tokenize(text));
  return text.slice(inner[0].from, inner[inner.length - 1].to);
}

/** Whether conditions of a query already ask for a value, or refuse it. @param {string} text @param {string} field @param {string} value a literal */
export function standing(text, field, value) {
  const own = conditions(text).filter((one) => one.field === field && one.values.some((v) => same(v, value)));
  if (own.some((one) => (one.operator === "eq" || one.operator === "in") && !one.negated)) return "included";
  const refused = own.some((one) => (one.operator === "ne" && !one.negated) || (one.negated && ["eq", "in"].includes(one.operator)));
  return refused ? "excluded" : "";
}

/** @param {string} a @param {string} b */
function same(a, b) {
  return a === b || (/^['"]/.test(a) && /^['"]/.test(b) && unquote(a) === unquote(b));
}

/**
 * Change the query after a click on a value: include or exclude the value. A second click undoes this.
 * @param {string} text @param {string} field @param {string} value a literal @param {boolean} exclude
 */
export function toggled(text, field, value, exclude) {
  const stands = standing(text, field, value);
  if (stands) return cleared(text, field, value, stands === (exclude ? "excluded" : "included") ? "" : added(field, value, exclude));
  const index = exclude ? -1 : conditions(text).findIndex((one) => joinable(one, field));
  if (index < 0) return join([text, added(field, value, exclude)]);
  const { values } = conditions(text)[index];
  return replaced(text, index, `${field} in (${[...values, value].join(", ")})`);
}

/** @param {Condition} one @param {string} field */
function joinable(one, field) {
  return one.field === field && !one.negated && (one.operator === "eq" || one.operator === "in");
}

/** @param {string} field @param {string} value @param {boolean} exclude */
function added(field, value, exclude) {
  return `${field} ${exclude ? "ne" : "eq"} ${value}`;
}

/** Take a value out of every condition on the field. @param {string} text @param {string} field @param {string} value @param {string} instead */
function cleared(text, field, value, instead) {
  const kept = conditions(text).map((one) => (one.field === field ? reduced(one, value) : one.text));
  return join([...kept, instead]);
}

/** @param {Condition} one @param {string} value */
function reduced(one, value) {
  const rest = one.values.filter((v) => !same(v, value));
  if (rest.length === one.values.length) return one.text;
  if (!rest.length) return "";
  const list = rest.length === 1 ? `eq ${rest[0]}` : `in (${rest.join(", ")})`;
  return `${one.negated ? "NOT " : ""}${one.field} ${list}`;
}

/** Remove the conditions on a field from a query, so that all values of the field can be counted. @param {string} text @param {string} field */
export function apartFrom(text, field) {
  return join(conditions(text).filter((one) => one.field !== field).map((one) => one.text));
}

/** The texts that a query looks for, to be marked in a column. @param {string} text @param {string} field */
export function needles(text, field) {
  return conditions(text)
    .filter((one) => !one.negated && (one.field === field || one.field === "any") && ["ct", "sw", ...(field === "message" ? ["eq", "in"] : [])].includes(one.operator))
    .flatMap((one) => one.values.filter((value) => /^['"]/.test(value)).map(unquote))
    .filter(Boolean);
}

/** The e-mail address, if exactly one condition of the query is email eq …; otherwise "". @param {string} text */
export function personOf(text) {
  const own = conditions(text).filter((one) => one.field === "email" && one.operator === "eq" && !one.negated);
  return own.length === 1 ? unquote(own[0].values[0]) : "";
}
