// The values of fields with their counts; a click takes one into the query, with Alt it is kept out.

import { html, nothing } from "lit-html";
import { shown } from "./chart.js";
import { literal, standing } from "./language.js";
import { count } from "./time.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").Top} Top */

/** @param {Model} model @param {{toggle: (field: string, value: string, exclude: boolean) => void, colourOf: (value: unknown) => number, addFacet: () => unknown}} actions */
export function facets(model, actions) {
  const { facets: names, by } = model.state;
  return html`${names.map((field) => html`<section class="facet" aria-label=${field}>
    <h2><span>${field}</span>
      <button class="quiet" aria-pressed=${by === field} title="Stack the histogram by ${field}" aria-label="Stack the histogram by ${field}" @click=${() => model.set({ by: by === field ? "" : field })}>▤</button>
      ${field.startsWith("data.") ? html`<button class="quiet" aria-label="Remove ${field}" @click=${() => model.set({ facets: names.filter((one) => one !== field) })}>×</button>` : nothing}
    </h2>${list(model, field, actions)}</section>`)}
    ${actions.addFacet()}`;
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
      <i class="amount ${colour >= 0 ? `series-${colour}` : ""}" .style=${`width: ${Math.max(1, (n / most) * 100)}%`}></i>
      <span class="name" dir="auto">${shown(one)}</span><span class="n">${count(n)}</span></button>
    <button class="out" aria-pressed=${stands === "excluded"} aria-label="Without ${field} ${shown(one)}" title="Without these" @click=${() => actions.toggle(field, given, true)}>≠</button>
  </li>`;
}
