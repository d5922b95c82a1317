// The menu of the time range: a range that ends now, or two instants, in the zone of the viewer or in UTC.

import { html } from "lit-html";
import { LASTS, fromInput, pointTime, toInput, zoneName } from "./time.js";

/** @typedef {import("./model.js").Model} Model */

/** @param {Model} model */
export function rangeName({ state }) {
  if (state.last) return LASTS[state.last].name;
  const point = (/** @type {string} */ text) => (text ? pointTime(Date.parse(text), state.tz) : "");
  if (!state.to) return `Since ${point(state.from)}`;
  return state.from ? `${point(state.from)} – ${point(state.to)}` : `Before ${point(state.to)}`;
}

/** @param {Model} model @param {() => void} close */
export function rangePicker(model, close) {
  const { state, range, ran } = model;
  const choose = (/** @type {string} */ last) => {
    model.set({ last, from: "", to: "" });
    close();
  };
  const apply = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const given = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const [from, to] = ["from", "to"].map((name) => fromInput(String(given.get(name) ?? ""), state.tz));
    const text = (/** @type {number} */ time) => (Number.isNaN(time) ? "" : new Date(time).toISOString());
    if (Number.isNaN(from) && Number.isNaN(to)) return;
    model.set({ last: "", from: text(from), to: text(to), live: false });
    close();
  };
  return html`<div class="lasts">${Object.entries(LASTS).map(([key, { name }]) => html`<button aria-pressed=${state.last === key} @click=${() => choose(key)}>${name}</button>`)}</div>
    <form @submit=${apply}>
      <label>From <input type="datetime-local" name="from" step="1" .value=${range.from === null ? "" : toInput(range.from, state.tz)}></label>
      <label>Until <input type="datetime-local" name="to" step="1" .value=${range.to === null ? (ran ? toInput(ran, state.tz) : "") : toInput(range.to, state.tz)}></label>
      <button class="primary">Apply</button>
      <fieldset><legend>Times are shown in</legend>
        ${zone(model, "local", zoneName("local") === "UTC" ? "your zone, UTC" : zoneName("local"))}${zone(model, "utc", "UTC")}
      </fieldset>
      <fieldset><legend>Events are ordered and counted by</legend>
        ${kind(model, "createdAt", "when they were stored")}${kind(model, "occurredAt", "when they happened")}
      </fieldset>
    </form>`;
}

/** @param {Model} model @param {"createdAt"|"occurredAt"} time @param {string} name */
function kind(model, time, name) {
  const choose = () => model.set(time === "occurredAt" ? { time, live: false } : { time });
  return html`<label class="radio"><input type="radio" name="time" value=${time} .checked=${model.state.time === time} @change=${choose}> ${name}</label>`;
}

/** @param {Model} model @param {"local"|"utc"} tz @param {string} name */
function zone(model, tz, name) {
  return html`<label class="radio"><input type="radio" name="zone" value=${tz} .checked=${model.state.tz === tz} @change=${() => model.set({ tz })}> ${name}</label>`;
}
