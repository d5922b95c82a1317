// Shows data as a tree. Buttons at each leaf add the value to the query, exclude it, or make a column.

import { html, nothing } from "lit-html";
import { RawNumber } from "./json.js";
import { literal, path, standing } from "./language.js";
import { block } from "./text.js";

/**
 * @typedef {object} Actions
 * @property {string} q
 * @property {string[]} cols
 * @property {(field: string, value: string, exclude: boolean) => void} toggle value is a literal
 * @property {(field: string) => void} column
 * @property {string[]} [marks]
 */

const OPEN_DEPTH = 3;
const MOST_CHILDREN = 100;

/** @param {unknown} value @param {Actions} actions */
export function tree(value, actions) {
  if (value === null || typeof value !== "object" || value instanceof RawNumber) return html`<ul class="tree">${leaf("", value, [], actions)}</ul>`;
  return html`<ul class="tree">${children(value, [], actions)}</ul>`;
}

/** @param {object} value @param {string[]} keys @param {Actions} actions */
function children(value, keys, actions) {
  const all = Array.isArray(value) ? value.map((one) => /** @type {[string, unknown]} */ (["", one])) : Object.entries(value);
  const shown = all.slice(0, MOST_CHILDREN);
  const rest = all.length - shown.length;
  return html`${shown.map(([key, one]) => node(key, one, Array.isArray(value) ? keys : [...keys, key], actions))}
    ${rest ? html`<li class="more">and ${rest} more: copy the event as JSON to see them</li>` : nothing}`;
}

/** @param {string} key @param {unknown} value @param {string[]} keys @param {Actions} actions @returns {unknown} */
function node(key, value, keys, actions) {
  if (value === null || typeof value !== "object" || value instanceof RawNumber) return leaf(key, value, keys, actions);
  const size = Array.isArray(value) ? value.length : Object.keys(value).length;
  const name = Array.isArray(value) ? `[${size}]` : `{${size}}`;
  if (!size) return html`<li><span class="key">${key}</span> <span class="size">${Array.isArray(value) ? "[]" : "{}"}</span></li>`;
  return html`<li><details ?open=${keys.length < OPEN_DEPTH && size <= 30}>
    <summary><span class="key">${key || "–"}</span> <span class="size">${name}</span></summary>
    <ul>${children(value, keys, actions)}</ul></details></li>`;
}

/** @param {string} key @param {unknown} value @param {string[]} keys @param {Actions} actions */
function leaf(key, value, keys, actions) {
  const text = String(value);
  const kind = value === null ? "null" : value instanceof RawNumber ? "number" : typeof value;
  const long = typeof value === "string" && (text.length > 120 || text.includes("\n"));
  const label = html`${key ? html`<span class="key">${key}</span>` : nothing}`;
  if (!keys.length) return html`<li>${label} <span class="v-${kind}">${text}</span></li>`;
  const field = path(keys);
  const given = literal(/** @type {any} */ (value));
  return html`<li class="leaf">${label}
    ${long ? html`<div class="long">${block(text, actions.marks ?? [])}</div>` : html`<span class="v-${kind}" dir="auto">${text === "" ? "''" : text}</span>`}
    ${tools(field, given, actions)}</li>`;
}

/** Buttons for a value. @param {string} field @param {string} value a literal @param {Actions} actions */
export function tools(field, value, actions) {
  const fixed = !field.startsWith("data.");
  const stands = standing(actions.q, field, value);
  const asColumn = actions.cols.includes(field);
  const short = value.length > 40 ? `${value.slice(0, 40)}…` : value;
  return html`<span class="tools">
    <button aria-pressed=${stands === "included"} title="Only ${field} eq ${short}" aria-label="Only ${field} eq ${short}" @click=${() => actions.toggle(field, value, false)}>=</button>
    <button aria-pressed=${stands === "excluded"} title="Not ${field} eq ${short}" aria-label="Not ${field} eq ${short}" @click=${() => actions.toggle(field, value, true)}>≠</button>
    ${fixed ? nothing : html`<button aria-pressed=${asColumn} title="${asColumn ? "Remove the column" : "Show as a column"}" aria-label="${asColumn ? "Remove" : "Show"} column ${field}" @click=${() => actions.column(field)}>▥</button>`}
  </span>`;
}
