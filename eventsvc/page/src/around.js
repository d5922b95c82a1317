// The neighbours of an event, in the order of the log.

import { html, nothing } from "lit-html";
import { line } from "./text.js";
import { longTime, shortTime } from "./time.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./api.js").LogEvent} LogEvent */

const CHOICES = /** @type {[string, string[]][]} */ ([["all events", []], ["same component", ["component"]], ["same e-mail", ["email"]], ["both the same", ["component", "email"]]]);

/** @param {Model} model */
export function around(model) {
  const { state, around: shown } = model;
  if (!shown) return nothing;
  if (!shown.centred && shown.event) {
    shown.centred = true;
    requestAnimationFrame(() => requestAnimationFrame(() => document.querySelector(".around .centre")?.scrollIntoView({ block: "center" })));
  }
  const choices = CHOICES.map(([name, same]) => html`<button aria-pressed=${String(state.same) === String(same)} @click=${() => model.set({ same }, true)}>${name}</button>`);
  return html`<section class="around" aria-label="Around an event">
    <div class="bar"><strong>Around an event</strong><div class="segments" role="group" aria-label="Neighbours">${choices}</div>
      <span class="spread"></span><button @click=${() => model.set({ around: "", same: [] })}>Back to the list</button></div>
    ${shown.problem ? html`<p class="problem" role="alert">${shown.problem.message}</p>` : nothing}
    <div class="neighbours" tabindex="0" role="group" aria-label="Neighbours, oldest first">
      ${shown.earlier ? html`<button class="extend" @click=${() => model.extendAround(shown.earlier, {}, "earlier")}>Earlier ↑</button>` : ended(shown, "Nothing earlier")}
      ${shown.before.map((event) => neighbour(model, event, ""))}
      ${shown.event ? neighbour(model, shown.event, "centre") : nothing}
      ${shown.after.map((event) => neighbour(model, event, ""))}
      ${shown.later ? html`<button class="extend" @click=${() => model.extendAround(shown.later, {}, "later")}>Later ↓</button>` : ended(shown, "Nothing later")}
    </div></section>`;
}

/** @param {import("./model.js").Around} shown @param {string} text */
function ended(shown, text) {
  return shown.loading || shown.problem ? nothing : html`<p class="muted end">${text}</p>`;
}

/** @param {Model} model @param {LogEvent} event @param {string} kind */
function neighbour(model, event, kind) {
  const { tz } = model.state;
  return html`<button class="row ${kind} ${event.id === model.state.event ? "opened" : ""}" aria-current=${kind ? "true" : nothing} @click=${() => model.set({ event: event.id }, true)}>
    <i class="rail"></i><time datetime=${event.createdAt} title=${longTime(event.createdAt, tz)}>${shortTime(event.createdAt, tz)}</time>
    <span class="cell c-component">${event.component}</span><span class="cell c-email">${event.email}</span>
    <span class="cell c-message" dir="auto">${line(event.message, [])}</span></button>`;
}
