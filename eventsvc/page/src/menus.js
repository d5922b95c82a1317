// The menus of columns and of all other actions, and the strip with the state of the live stream.

import { html, nothing } from "lit-html";
import { keep } from "./keep.js";
import { count } from "./time.js";

/** @typedef {import("./model.js").Model} Model */

const COLUMNS = ["environment", "component", "email", "message", "id", "occurredAt", "data"];

/** Put a popover under the button that opens it. @param {MouseEvent} event */
export function place(event) {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  const pop = button.popoverTargetElement instanceof HTMLElement ? button.popoverTargetElement : null;
  if (!pop) return;
  const box = button.getBoundingClientRect();
  pop.style.top = `${box.bottom + 6}px`;
  pop.style.right = `${Math.max(8, document.documentElement.clientWidth - box.right)}px`;
}

/** Make the handler of a form whose field "path" takes a path in data. @param {(path: string) => void} take */
export function takePath(take) {
  return (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const given = String(new FormData(form).get("path") ?? "").trim();
    if (given) take(given.startsWith("data.") ? given : `data.${given}`);
    form.reset();
  };
}

/** @param {Model} model @param {(field: string) => void} column */
export function columnsMenu(model, column) {
  const { cols } = model.state;
  const names = [...new Set([...COLUMNS, ...cols])];
  return html`<fieldset><legend>Columns</legend>${names.map((name) => html`
      <label class="check"><input type="checkbox" .checked=${cols.includes(name)} ?disabled=${cols.length === 1 && cols.includes(name)} @change=${() => column(name)}> ${name}</label>`)}</fieldset>
    <form class="add" @submit=${takePath(column)}><input name="path" placeholder="data.…" aria-label="Path in data" spellcheck="false"><button>Add</button></form>`;
}

/** @param {Model} model @param {{theme: string}} ui @param {{changed: () => void, dialog: (id: string) => HTMLDialogElement, exporter: import("./export.js").Exporter}} app */
export function mainMenu(model, ui, app) {
  const theme = (/** @type {string} */ value, /** @type {string} */ name) => html`<button aria-pressed=${ui.theme === value} @click=${() => { keep.theme = ui.theme = value; app.changed(); }}>${name}</button>`;
  const closing = (/** @type {() => unknown} */ act) => (/** @type {MouseEvent} */ event) => {
    /** @type {HTMLElement|null} */ (/** @type {Element} */ (event.currentTarget).closest("[popover]"))?.hidePopover();
    act();
  };
  return html`<div class="segments" role="group" aria-label="Colours">${theme("", "Auto")}${theme("light", "Light")}${theme("dark", "Dark")}</div>
    <button @click=${closing(() => app.exporter.start("ndjson"))}>Export all as NDJSON</button>
    <button @click=${closing(() => app.exporter.start("csv"))}>Export columns as CSV</button>
    <button @click=${closing(() => fixRange(model))} ?disabled=${!model.state.last || !model.ran}>Fix the time range</button>
    <button @click=${closing(() => app.dialog("help").showModal())}>Help and shortcuts <kbd>?</kbd></button>
    ${model.api.key ? html`<button @click=${closing(() => { model.api.key = ""; void model.run(); })}>Forget the key</button>` : nothing}`;
}

/** Replace a range that ends now by two times, so that the link always shows the same range. @param {Model} model */
function fixRange(model) {
  const text = (/** @type {number|null} */ time) => (time === null ? "" : new Date(time).toISOString());
  model.set({ last: "", from: text(model.range.from), to: text(model.ran), live: false });
}

/** @param {Model} model */
export function liveStrip(model) {
  const { live } = model;
  const words = /** @type {Record<string, string>} */ ({ connecting: "Connecting…", live: "Live", lost: "Connection lost, coming back…", refused: "The service refuses the stream" });
  const waiting = live.waiting.length ? html`<strong>${count(live.waiting.length)} waiting</strong>` : nothing;
  return html`<div class="live-strip ${live.status}" role="group" aria-label="Live"><i></i><span role="status">${live.paused ? "Paused" : words[live.status]}${live.note ? html`: ${live.note}` : nothing}</span>
    <span class="muted">${live.rate.toFixed(1)} events/s</span> ${waiting}
    ${live.dropped ? html`<span class="muted">${count(live.dropped)} left out while paused</span>` : nothing}
    <button @click=${() => live.pause()}>${live.paused ? "Go on" : "Pause"}</button></div>`;
}
