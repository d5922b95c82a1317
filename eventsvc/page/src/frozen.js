// Frozen links. A frozen link shows the same events, whenever and wherever somebody opens it.

import { html, nothing } from "lit-html";
import { count, zoneName } from "./time.js";

/** @typedef {import("./model.js").Model} Model */

/** The newest seq of the list's answer, or null while there is none. @param {Model} model */
export function seqOf({ source }) {
  return source === null || source.watermark === null || source.lag === null ? null : source.watermark + source.lag;
}

/** Change the address of the page into a frozen link: only events up to the newest seq, and no relative times. @param {Model} model */
export async function freeze(model) {
  const { q, tz, last } = model.state;
  const { from } = model.range;
  const asOf = String(seqOf(model) ?? "");
  // "now" and days depend on the time and the zone of the reader, so the service rewrites them as instants.
  const fixed = /['"](?:now|\d{4}-\d)/.test(q) ? (await model.api.read("query", { q, tz: zoneName(tz) })).body.query : q;
  model.set({ q: fixed, asOf, live: false, ...(last && from !== null ? { last: "", from: new Date(from).toISOString() } : {}) });
}

/** @param {Model} model */
export function frozenLine(model) {
  const { asOf } = model.state;
  if (!asOf) return nothing;
  return html`<p class="frozen"><span role="status">Frozen <strong>as of seq ${count(Number(asOf))}</strong></span>
    <span class="muted wide">Whoever opens this link sees these events, and none that came later.</span>
    <button @click=${() => model.set({ asOf: "" })}>Back to now</button></p>`;
}
