// Help with a text that is no query: makes a query of plain words, and turns a hint of the service into a change of the
// text, which the user makes with one key.

import { FIELDS, conditions, quote, unquote } from "./language.js";

/** @typedef {{from: number, to: number, insert: string}} Fix */

const WORDS = /^(?:not\s+(?:in|like|exists|contains)|starts?_?\s*with|begins?_?\s*with|is\s+not|[\w.@+:/*%-]+|[=<>!&|~^:*%≠≥≤]+|[^])/i;
const PHRASE = /^[^()'",]+?(?=\s+(?:AND|OR)\b|\s*[),]|\s*$)/;
const TYPOGRAPHIC = /** @type {[RegExp, string][]} */ ([
  [/[\u2018\u2019\u201a\u201b\u2032\u00b4`]/g, "'"],
  [/[\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb]/g, '"'],
  [/[\u00a0\u2000-\u200a\u202f\u205f\u3000]/g, " "],
  [/[\u200b-\u200f\u2060\ufeff\u00ad]/g, ""],
  [/[\uff08[{]/g, "("],
  [/[\uff09\]}]/g, ")"],
  [/\uff0c/g, ","],
]);

/** Patterns of hints. Each has a function that makes the new text, from a name in the hint and the phrase at the fault. */
const REPLACING = /** @type {[RegExp, (named: string, phrase: string) => string][]} */ ([
  [/^put text in quotes: '/, (_, phrase) => quote(phrase)],
  [/^to look for a word: (?:(message ct) )?'/, (how, phrase) => (how ? `${how} ${quote(phrase)}` : quote(phrase))],
]);
const NAMING = [
  /^did you mean ([\w.]+)\?/, /(?:upper|lower) case: (\w+)$/, /^write ((?:eq|ne|ct|sw|gte|lte|gt|lt|in|AND|OR|NOT|null|now)\b)(?! before)/,
  /inside data: (data\.\S+)$/, /^write ([\w.]+)$/, /^write ('[^']*')$/,
];
const APPENDING = /** @type {[RegExp, (found: string) => string][]} */ ([
  [/bracket at position \d+ is not closed|list of values is not closed/, () => ")"],
  [/the quote that opens here is never closed/, (found) => found],
]);

const WORD_OF_A_QUERY = /^(?:AND|OR|NOT|and|or)$/;
const COMPARES = /^(?:eq|ne|ct|sw|gte?|lte?|exists|like|contains|is)$/i;

/** Make a query of plain words: it finds events that contain each word. "" if the text looks like a query. @param {string} text */
export function queryOfWords(text) {
  const words = text.trim().split(/\s+/);
  const [first, second = ""] = words;
  const field = FIELDS.includes(first) || first.startsWith("data.") || first === "data";
  const signs = /['"()=<>]/.test(text) || words.some((word) => /^[a-z_][\w.]*[:~]+[^/]/i.test(word));
  if (!first || field || signs || COMPARES.test(second) || words.some((word) => WORD_OF_A_QUERY.test(word))) return "";
  return words.map(quote).join(" AND ");
}

/** The e-mail address, if a query searches for nothing else; otherwise "". @param {string} text */
export function soughtAddress(text) {
  const all = conditions(text);
  const [only] = all;
  const found = all.length === 1 && only.field === "any" && !only.negated && only.values.length === 1 ? unquote(only.values[0]) : "";
  return /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(found) ? found : "";
}

/** Where the fault is, in UTF-16 units. @param {Record<string, any>} problem @param {string} text */
export function placeOf(problem, text) {
  const from = [...text].slice(0, Number(problem.offset) || 0).join("").length;
  const width = Number(problem.width) || WORDS.exec(text.slice(from))?.[0].length || 1;
  return { from, to: Math.min(text.length, from + width) };
}

/** The change that the hint asks for, if a machine can make it. @param {Record<string, any>} problem @param {string} text @returns {Fix|null} */
export function fixOf(problem, text) {
  const hint = String(problem.hint ?? "");
  const { from, to } = placeOf(problem, text);
  const found = text.slice(from, to);
  if (/typographic|plain space|invisible|plain brackets|plain comma/.test(hint)) return whole(text, plainSigns(text));
  for (const [pattern, make] of REPLACING) {
    const match = pattern.exec(hint);
    const phrase = PHRASE.exec(text.slice(from))?.[0] ?? found;
    if (match) return { from, to: from + phrase.length, insert: make(match[1] ?? "", phrase) };
  }
  for (const pattern of NAMING) {
    const match = pattern.exec(hint);
    if (match) return { from, to, insert: match[1] };
  }
  for (const [pattern, make] of APPENDING) {
    if (pattern.test(hint)) return { from: text.trimEnd().length, to: text.length, insert: make(found[0] ?? "'") };
  }
  if (/AND or OR is missing here|write AND NOT/.test(hint)) return { from, to: from, insert: "AND " };
  if (/comparisons are joined by/.test(hint)) return { from, to, insert: " AND" };
  return /no opening bracket/.test(hint) ? { from, to: from + 1, insert: "" } : null;
}

/** @param {string} text @param {string} changed @returns {Fix|null} */
function whole(text, changed) {
  return changed === text ? null : { from: 0, to: text.length, insert: changed };
}

/** Replace typographic quotes, brackets, commas and spaces outside of strings by plain ones. @param {string} text */
function plainSigns(text) {
  return text.split(/('(?:[^'\\]|\\[^])*'|"(?:[^"\\]|\\[^])*")/).map((part, i) => (i % 2 ? part : TYPOGRAPHIC.reduce((all, [pattern, by]) => all.replace(pattern, by), part))).join("");
}
