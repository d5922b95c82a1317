// The line above the list: the number of events, the source and the age of the answer, and options of the list.

import { html, nothing } from "lit-html";
import { seqOf } from "./frozen.js";
import { place } from "./menus.js";
import { axisTime, count } from "./time.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {{toggleFacets: () => void, facetsShown: boolean, unzoom: (() => void)|null, freeze: () => void}} StatusActions */

const SOURCES = /** @type {Record<string, string>} */ ({
  "index+tail": "Elasticsearch, and PostgreSQL for the newest",
  "cache+tail": "a kept answer of Elasticsearch that still holds, and PostgreSQL for the newest",
  index: "Elasticsearch alone",
  log: "PostgreSQL, because this is faster",
  sql: "PostgreSQL",
});

/** @param {Model} model @param {StatusActions} actions */
export function statusLine(model, actions) {
  const { state, counts, loading } = model;
  const newest = state.order === "desc";
  return html`<div class="status ${loading ? "loading" : ""}">
    <button class="facets-button" aria-expanded=${actions.facetsShown} @click=${actions.toggleFacets}>${actions.facetsShown ? "Done" : "Filter"}</button>
    <span class="count" role="status">${counts ? html`<strong>${count(counts.count)}</strong> event${counts.count === 1 ? "" : "s"}` : "…"}</span>
    ${freshness(model)}
    ${actions.unzoom ? html`<button @click=${actions.unzoom}>Reset zoom</button>` : nothing}
    <span class="spread"></span>
    ${model.pages.cut ? html`<span class="muted">older events: end live to see them</span>` : nothing}
    <button title="Turn the order round" @click=${() => model.set({ order: newest ? "asc" : "desc", live: false })}>${newest ? "Newest" : "Oldest"}<span class="wide"> first</span> ${newest ? "↓" : "↑"}</button>
    ${state.asOf || seqOf(model) === null ? nothing : html`<button title="Whoever opens the link then sees these very events" aria-label="Freeze this link" @click=${actions.freeze}>Freeze<span class="wide"> this link</span></button>`}
    <button popovertarget="columns" @click=${place}>Columns</button>
  </div>`;
}

/** @param {Model} model */
function freshness({ source, ran, state }) {
  if (!source) return nothing;
  const slow = source.source === "sql" && source.reason === "index away";
  const behind = source.lag === null ? "" : source.lag === 0 ? "the index has everything" : `the index is ${count(source.lag)} behind; those come from PostgreSQL`;
  const words = slow ? "Elasticsearch is away: slower, and complete" : "exact and complete";
  const title = `Answered by ${SOURCES[source.source] ?? source.source}${source.reason ? ` (${source.reason})` : ""}; ${behind}; ${Math.round(source.took)} ms`;
  return html`<span class="fresh ${slow ? "slow" : ""}" title=${title} tabindex="0" aria-label="${words}. ${title}"><i></i>${state.asOf ? nothing : `as of ${axisTime(ran, state.tz, 0)} · `}${slow ? words : source.source}<span class="wide"> · ${Math.round(source.took)} ms</span></span>`;
}
