// Completion: fields and paths, operators of the field, its most frequent values, connectives.

import { FIELDS, OPERATORS, literal, operatorsOf, path, placeAt, quote } from "./language.js";
import { count } from "./time.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("@codemirror/autocomplete").Completion} Completion */

const KEPT = 60_000;
const VALUES = "50";

export class Completer {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {Map<string, {at: number, found: Promise<Completion[]>}>} */
    this.known = new Map();
  }

  /** @param {import("@codemirror/autocomplete").CompletionContext} context */
  complete = async (context) => {
    const place = placeAt(context.state.doc.toString(), context.pos);
    const options = await this.options(place);
    const quoted = /^['"]/.test(place.word);
    if (!options.length || (!context.explicit && !place.word && place.wants === "connective")) return null;
    // After an opening quote, values are matched with their quotes, otherwise without.
    const from = place.from;
    const shown = place.wants === "value" ? options.map((one) => ({ ...one, label: quoted ? one.label : one.label.replace(/^'([^]*)'$/, "$1"), apply: written(one.label) })) : options;
    return { from, options: shown, validFor: quoted ? /^['"][^'"]*$/ : /^[\w.@'-]*$/ };
  };

  /** @param {ReturnType<typeof placeAt>} place @returns {Promise<Completion[]>} */
  async options({ wants, field, word }) {
    if (wants === "operator") return operatorsOf(field).map((label, i) => ({ label, boost: -i, detail: OPERATORS[label], apply: `${label} ` }));
    if (wants === "value") return /^(?:created|occurred)At$/.test(field) ? TIMES : this.kept(`values ${field}`, () => this.values(field));
    if (wants === "connective") return ["AND", "OR"].map((label, i) => ({ label, boost: -i, apply: `${label} ` }));
    const plain = [...FIELDS, "NOT"].map((label) => ({ label, boost: 2, apply: label.endsWith(".") ? label : `${label} ` }));
    const all = word.startsWith("d") || !word ? [...plain, ...(await this.kept("paths", () => this.paths()))] : plain;
    // Match beginnings only, because Enter takes the first offer: the word "mail" must not become "email".
    return all.filter(({ label }) => label.toLowerCase().startsWith(word.toLowerCase()));
  }

  /** @param {string} name @param {() => Promise<Completion[]>} ask */
  kept(name, ask) {
    const known = this.known.get(name);
    if (known && Date.now() - known.at < KEPT) return known.found;
    // Completion offers nothing after an error. Other parts of the page show errors of the service.
    const found = ask().catch(() => []);
    this.known.set(name, { at: Date.now(), found });
    return found;
  }

  /** @param {string} field */
  async values(field) {
    const { body } = await this.model.api.read("event/stats", { by: field, top: VALUES });
    return body.top.map((/** @type {any} */ { value, count: n }, /** @type {number} */ i) => ({ boost: -i, label: typeof value === "string" ? quote(value) : literal(value), detail: count(n) }));
  }

  async paths() {
    const { body } = await this.model.api.read("event/fields");
    const all = Array.isArray(body) ? body : body.fields;
    return all.map((/** @type {any} */ one) => ({ label: spelled(one.path), detail: Object.keys(one.types ?? {}).join(", "), apply: `${spelled(one.path)} ` }));
  }
}

/** Insert a value. If the editor has already written the closing quote, replace that quote, too. @param {string} value @returns {Completion["apply"]} */
function written(value) {
  return (view, _completion, from, to) => {
    const next = view.state.sliceDoc(to, to + 1);
    const end = /^['"]/.test(value) && next === value[0] ? to + 1 : to;
    view.dispatch({ changes: { from, to: end, insert: value }, selection: { anchor: from + value.length }, userEvent: "input.complete" });
  };
}

/** @param {string|string[]} given */
function spelled(given) {
  return Array.isArray(given) ? path(given) : given;
}

const TIMES = ["now-15m", "now-1h", "now-1d", "now-7d", quote(new Date().toISOString().slice(0, 10))].map((label) => ({ label }));
