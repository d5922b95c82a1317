// Lines that the page shows only sometimes: a fault of the query, the person of a timeline, a service that is away.

import { html, nothing } from "lit-html";
import { isAway } from "./api.js";
import { soughtAddress, fixOf } from "./hints.js";

/** @typedef {import("./model.js").Model} Model */

/** @param {Model} model @param {() => void} correct */
export function faultLine(model, correct) {
  const fault = model.fault?.body;
  if (!fault) return nothing;
  const fix = fixOf(fault, model.draft);
  const expected = fault.expected?.length ? html` <span class="muted">Expected: ${fault.expected.slice(0, 6).join(", ")}</span>` : nothing;
  return html`<p class="fault-line" role="status"><span class="reason">${fault.reason ?? firstLine(fault.detail)}</span>
    ${fault.hint ? html`<span class="hint">${fault.hint}</span>` : nothing}
    ${fix ? html`<button @click=${() => correct()}>Correct <kbd>Tab</kbd></button>` : nothing}${expected}</p>`;
}

/** @param {Model} model @param {(email: string) => void} person */
export function personLine(model, person) {
  const email = model.byPerson;
  if (!email) return mentionsLine(model, person);
  const components = model.facets.component?.top.length ?? 0;
  const { order } = model.state;
  return html`<p class="person">Timeline of <strong dir="auto">${email}</strong>${components > 1 ? html` across ${components} components` : nothing}
    <button @click=${() => model.set({ order: order === "asc" ? "desc" : "asc" })}>${order === "asc" ? "oldest first" : "newest first"}</button></p>`;
}

/** Whoever looks for an address may want the events of that person. @param {Model} model @param {(email: string) => void} person */
function mentionsLine({ state }, person) {
  const email = soughtAddress(state.q);
  return email ? html`<p class="person">All that mentions <strong dir="auto">${email}</strong><button @click=${() => person(email)}>Timeline of this person</button></p>` : nothing;
}

/** @param {Model} model */
export function awayStrip({ away, problem }) {
  if (problem && isAway(problem)) return html`<div class="toast bad" role="alert">The service does not answer. Trying again…</div>`;
  return away.back && Date.now() - away.back < 4000 ? html`<div class="toast good" role="status">The service is back.</div>` : nothing;
}

/** @param {string|undefined} text */
function firstLine(text) {
  return (text ?? "").split("\n")[0];
}
