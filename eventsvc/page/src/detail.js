// The panel that shows one event with all its fields.

import { html, nothing } from "lit-html";
import { writeJson } from "./json.js";
import { needles, quote } from "./language.js";
import { block, copy, runs } from "./text.js";
import { tools, tree } from "./tree.js";
import { ago, longTime } from "./time.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./api.js").LogEvent} LogEvent */
/**
 * @typedef {object} DetailActions
 * @property {(field: string, value: string, exclude: boolean) => void} toggle
 * @property {(field: string) => void} column
 * @property {(email: string) => void} person
 * @property {(text: string) => void} say
 */

/** @param {Model} model @param {DetailActions} actions */
export function detail(model, actions) {
  const { event, problem } = model.detail;
  const close = () => model.set({ event: "" }, true);
  return html`<div class="bar">
      <button aria-label="Event above" title="Event above (k)" @click=${() => model.select(model.row - 1)}>↑</button>
      <button aria-label="Event below" title="Event below (j)" @click=${() => model.select(model.row + 1)}>↓</button>
      ${event ? buttons(model, event, actions) : nothing}
      <button class="close" aria-label="Close the event" title="Close (Esc)" @click=${close}>×</button>
    </div>
    ${problem ? html`<p class="problem" role="alert">${problem.message}</p>` : event ? whole(model, event, actions) : html`<p class="muted">…</p>`}`;
}

/** @param {Model} model @param {LogEvent} event @param {DetailActions} actions */
function buttons(model, event, { say }) {
  const copied = async (/** @type {string} */ text, /** @type {string} */ what) => say((await copy(text)) ? `${what} copied` : `Could not reach the clipboard`);
  return html`<button @click=${() => model.set({ around: event.id, event: "" })} title="What came before and after it (c)">Around it</button>
    <span class="spread"></span>
    <button @click=${() => copied(writeJson(event), "JSON")}>JSON</button>
    <button @click=${() => copied(curl(model, event), "curl command")}>curl</button>
    <button @click=${() => copied(linkTo(event), "Link")}>Link</button>`;
}

/** @param {LogEvent} event */
function linkTo(event) {
  return `${location.origin}${location.pathname}?last=all&event=${event.id}`;
}

/** @param {Model} model @param {LogEvent} event */
function curl(model, event) {
  const key = model.api.key ? ` -H 'Authorization: Bearer YOUR-KEY'` : "";
  return `curl${key} '${new URL(`event/${event.id}`, location.href.split("?")[0])}'`;
}

/** @param {Model} model @param {LogEvent} event @param {DetailActions} actions */
function whole(model, event, actions) {
  const { q, cols, tz } = model.state;
  const kit = { q, cols, toggle: actions.toggle, column: actions.column };
  const row = (/** @type {string} */ name, /** @type {string} */ value, /** @type {unknown} */ shown) => html`
    <dt>${name}</dt><dd><span dir="auto">${shown}</span>${tools(name, quote(value), kit)}</dd>`;
  const person = html`<button class="link" title="All events of this person" @click=${() => actions.person(event.email)}>${event.email}</button>`;
  return html`<div class="content">
    <p class="when"><time datetime=${event.createdAt}>${longTime(event.createdAt, tz)}</time> <span class="muted">${ago(Date.now() - Date.parse(event.createdAt))} ago</span></p>
    ${event.occurredAt && event.occurredAt !== event.createdAt ? html`<p class="when"><span class="muted">happened</span> <time datetime=${event.occurredAt}>${longTime(event.occurredAt, tz)}</time></p>` : nothing}
    <section aria-label="Message" class="message">${block(event.message, needles(q, "message"))}
      <span class="tools"><button title="Only this very message" aria-label="Only this very message" @click=${() => actions.toggle("message", quote(event.message), false)}>=</button></span></section>
    <dl>${row("environment", event.environment, event.environment)}${row("component", event.component, event.component)}${row("email", event.email, person)}
      <dt>id</dt><dd><code>${event.id}</code></dd></dl>
    <section aria-label="Data"><h2>data</h2>${event.data === null || event.data === undefined ? html`<p class="muted">none</p>` : tree(event.data, { ...kit, marks: [] })}</section>
  </div>`;
}

/** The first line of a message, for titles. @param {LogEvent} event */
export function title(event) {
  return runs(event.message).map(({ text }) => text).join("").split("\n")[0].slice(0, 80);
}
