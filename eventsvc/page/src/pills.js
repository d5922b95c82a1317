// The conditions of the query, each shown as a pill. The pills and the text are always the same query.

import { html, nothing } from "lit-html";
import { conditions, negation, replaced, unquote, without } from "./language.js";

/** @typedef {import("./model.js").Model} Model */

/** @param {Model} model @param {{editing: number}} ui @param {() => void} redraw */
export function pills(model, ui, redraw) {
  const all = conditions(model.state.q);
  if (!all.length) return nothing;
  return html`<ul class="pills" aria-label="Conditions">${all.map((one, index) => html`<li class="pill ${one.negated || one.operator === "ne" ? "not" : ""}">
    ${ui.editing === index ? editor(model, ui, index, one.text, redraw) : html`
      <button class="text" title="Edit this condition" @click=${() => { ui.editing = index; redraw(); }}>${label(one)}</button>
      <button class="flip" title="Turn round" aria-label="Turn round ${one.text}" @click=${() => model.set({ q: replaced(model.state.q, index, negation(one.text)) })}>¬</button>
      <button class="drop" title="Remove" aria-label="Remove ${one.text}" @click=${() => model.set({ q: without(model.state.q, index) })}>×</button>`}
  </li>`)}
  ${all.length > 1 ? html`<li><button class="quiet" @click=${() => model.set({ q: "" })}>Clear all</button></li>` : nothing}</ul>`;
}

/** @param {import("./language.js").Condition} one */
function label(one) {
  if (!one.field) return html`<code>${one.text}</code>`;
  if (one.field === "any" && !one.negated && /^['"]/.test(one.text)) return html`<span class="v" dir="auto">${unquote(one.values[0])}</span>`;
  const values = one.values.map(unquote).join(", ");
  return html`${one.negated ? html`<b>not </b>` : nothing}<span class="f">${one.field}</span> <span class="o">${one.operator}</span> <span class="v" dir="auto">${values}</span>`;
}

/** @param {Model} model @param {{editing: number}} ui @param {number} index @param {string} text @param {() => void} redraw */
function editor(model, ui, index, text, redraw) {
  const close = () => {
    ui.editing = -1;
    redraw();
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => {
    const input = /** @type {HTMLInputElement} */ (event.target);
    if (event.key === "Escape") close();
    if (event.key !== "Enter") return;
    close();
    model.set({ q: replaced(model.state.q, index, input.value.trim()) });
  };
  return html`<input class="edit" aria-label="Condition" size=${Math.max(20, text.length + 2)} .value=${text} @keydown=${keyed} @blur=${close} autofocus>`;
}
