// The values of fields with their counts. A click adds a value to the query; Alt and a click exclude the value.

import { html, nothing } from "lit-html";
import { shown } from "./chart.js";
import { literal, standing } from "./language.js";
import { takePath } from "./menus.js";
import { LEVEL } from "./state.js";
import { count, zoneName } from "./time.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").Top} Top */

const EXAMINED = "200", OFFERED = 8;
/** The service gives at most 5 examples of a path (EXAMPLES in search/paths.py). A path with 5 examples may have many more values. */
const MOST_VALUES = 5;

/** @param {Model} model @param {{toggle: (field: string, value: string, exclude: boolean) => void, colourOf: (value: unknown) => number, further: Further}} actions */
export function facets(model, actions) {
  const { facets: names, by } = model.state;
  return html`${names.filter((field) => !unused(model, field)).map((field) => html`<section class="facet" aria-label=${field}>
    <h2><span>${field}</span>
      <button class="quiet" aria-pressed=${by === field} title="Stack the histogram by ${field}" aria-label="Stack the histogram by ${field}" @click=${() => model.set({ by: by === field ? "" : field })}>▤</button>
      ${field.startsWith("data.") ? html`<button class="quiet" aria-label="Remove ${field}" @click=${() => model.set({ facets: names.filter((one) => one !== field) })}>×</button>` : nothing}
    </h2>${list(model, field, actions)}</section>`)}
    ${addFacet(model, actions.further.of(model))}`;
}

/** Whether to hide the facet of levels. The page counts levels by default, but not all events have a level. @param {Model} model @param {string} field */
function unused({ facets: found }, field) {
  return field === LEVEL && found[field]?.problem === "" && !found[field].top.length;
}

/** The form and the buttons that add a facet. @param {Model} model @param {string[]} paths */
function addFacet(model, paths) {
  const add = (/** @type {string} */ path) => model.set({ facets: [...model.state.facets, path] });
  const left = paths.filter((path) => !model.state.facets.includes(path)).slice(0, OFFERED);
  return html`<section class="further" aria-label="More fields"><h2 class="muted">More fields</h2>
    ${left.length ? html`<div class="paths">${left.map((path) => html`<button title="Count the values of ${path}" aria-label="Count the values of ${path}" @click=${() => add(path)}>${path.slice(5)}</button>`)}</div>` : nothing}
    <form class="add" @submit=${takePath(add)}><input name="path" placeholder="data.…" aria-label="Path in data whose values are counted" spellcheck="false"><button>Count</button></form></section>`;
}

/** The paths in the data of the newest matching events; paths with few values come first. */
export class Further {
  constructor() {
    this.query = "";
    /** @type {string[]} */
    this.paths = [];
  }

  /** @param {Model} model */
  of(model) {
    // Wait until the events are there, so that they are not delayed.
    if (!model.loading && model.pages.length && this.query !== model.query) void this.look(model);
    return this.paths;
  }

  /** @param {Model} model */
  async look(model) {
    const { query } = model;
    this.query = query;
    // Without an answer, no paths are offered. Other parts of the page show errors of the service.
    const found = await model.api.read("event/fields", { q: query, newest: EXAMINED, tz: zoneName(model.state.tz) }).catch(() => null);
    if (!found || this.query !== query) return;
    this.paths = ranked(found.body);
    model.changed();
  }
}

/** @param {{path: string, count: number, types: Record<string, number>, examples: unknown[]}[]} found @returns {string[]} */
function ranked(found) {
  const few = found.filter(({ types, examples }) => !("object" in types) && examples.length > 0 && examples.length < MOST_VALUES);
  return few.sort((a, b) => Number(b.examples.length > 1) - Number(a.examples.length > 1) || b.count - a.count).map(({ path }) => path);
}

/** @param {Model} model @param {string} field @param {Parameters<typeof facets>[1]} actions */
function list(model, field, actions) {
  const facet = model.facets[field];
  if (!facet) return html`<p class="muted">…</p>`;
  if (facet.problem) return html`<p class="muted">${facet.problem}</p>`;
  if (!facet.top.length) return html`<p class="muted">no values</p>`;
  const most = facet.top[0].count;
  return html`<ul>${facet.top.map((top) => value(model, field, top, most, actions))}
    ${facet.other > 0 ? html`<li class="muted other"><span>others</span><span>${count(facet.other)}</span></li>` : nothing}</ul>`;
}

/** @param {Model} model @param {string} field @param {Top} top @param {number} most @param {Parameters<typeof facets>[1]} actions */
function value(model, field, { value: one, count: n }, most, actions) {
  const given = literal(one);
  const stands = standing(model.state.q, field, given);
  const colour = model.state.by === field ? actions.colourOf(one) : -1;
  const clicked = (/** @type {MouseEvent} */ event) => actions.toggle(field, given, event.altKey);
  return html`<li class=${stands || nothing}>
    <button class="value" aria-pressed=${stands === "included"} title="${shown(one)}: ${count(n)} events. Click: only these; Alt-click: without these" @click=${clicked}>
      <i class="amount ${colour >= 0 ? `series-${colour}` : ""}" .style=${`width: ${Math.max(2, (n / most) * 100)}%`}></i>
      <span class="name" dir="auto">${shown(one)}</span><span class="n">${count(n)}</span></button>
    <button class="out" aria-pressed=${stands === "excluded"} aria-label="Without ${field} ${shown(one)}" title="Without these" @click=${() => actions.toggle(field, given, true)}>≠</button>
  </li>`;
}
