// Dialogs: the key, the shortcuts, the explanation of a query, a running export.

import { html, nothing } from "lit-html";
import { writeJson } from "./json.js";
import { OPERATORS } from "./language.js";
import { count } from "./time.js";

const SHORTCUTS = [
  ["/", "write a query"], ["j  k", "event below, above"], ["Enter", "open the event; in the query box: run"],
  ["c", "what came before and after the event"], ["t", "the range of time"], ["l", "live on and off"], ["Esc", "close, or leave the query box"],
  ["Tab", "in the query box: take the completion, or the correction"], ["Alt ↑ ↓", "in the query box: queries of before"],
  ["Ctrl Space", "in the query box: what may stand here"], ["?", "this"],
];

export function help() {
  return html`<h2>Shortcuts</h2>
    <dl class="keys">${SHORTCUTS.map(([keys, what]) => html`<dt>${keys.split("  ").map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd>`)}</dl>
    <h2>Queries</h2>
    <p><code>'buyer'</code> finds it anywhere. More exactly: <code>environment eq 'production' AND message ct 'buyer' AND NOT component in ('billing', 'mail')</code></p>
    <dl class="keys">${Object.entries(OPERATORS).map(([name, what]) => html`<dt><code>${name}</code></dt><dd>${what}</dd>`)}
      <dt><code>data.order.id</code></dt><dd>what lies in the data of an event</dd><dt><code>now-15m</code></dt><dd>a time: s, m, h, d, w before now</dd></dl>
    <p class="muted"><a href="page/licences.txt">Licences</a> of what this page is made from</p>`;
}

/** @param {{body: any, problem: string}|null} found */
export function explanation(found) {
  if (!found) return html`<p class="muted">…</p>`;
  if (found.problem) return html`<p class="problem">${found.problem}</p>`;
  const { query, elasticsearch, sql } = found.body;
  return html`<h2>What the query means</h2>
    <h3>Written out</h3><pre tabindex="0">${query}</pre>
    <h3>Elasticsearch is asked</h3><pre tabindex="0">${elasticsearch ? writeJson(elasticsearch) : "nothing: PostgreSQL answers this query"}</pre>
    <h3>PostgreSQL is asked</h3><pre tabindex="0">${sql.text}\n\n${writeJson(sql.parameters)}</pre>`;
}

/** @param {import("./export.js").Exporter} exporter */
export function exporting(exporter) {
  const { job } = exporter;
  if (!job) return nothing;
  const close = () => exporter.stop();
  if (job.error) return html`<div class="toast bad" role="alert">Export failed: ${job.error} <button @click=${close}>Close</button></div>`;
  if (job.finished) return html`<div class="toast" role="status">${job.name}: ${count(job.done)} events <button @click=${close}>Close</button></div>`;
  return html`<div class="toast" role="status"><label>Exporting <progress max=${Math.max(job.total, job.done, 1)} .value=${job.done}></progress></label>
    ${count(job.done)} of ${count(Math.max(job.total, job.done))} <button @click=${close}>Cancel</button></div>`;
}

/** @param {boolean} rejected @param {(key: string) => void} done */
export function keyForm(rejected, done) {
  const submit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    done(String(new FormData(form).get("key") ?? "").trim());
    form.reset();
  };
  return html`<form @submit=${submit}><h2>This service asks for a key</h2>
    ${rejected ? html`<p class="problem" role="alert">The service did not accept the key.</p>` : nothing}
    <label>Key <input name="key" type="password" autocomplete="off" required spellcheck="false" autofocus></label>
    <p class="muted">It stays in this tab, and is forgotten when the tab is closed.</p>
    <div class="buttons"><button type="button" @click=${() => done("")}>Cancel</button><button class="primary">Use it</button></div></form>`;
}

/** The button that closes a dialog. @param {string} id */
export function closer(id) {
  return html`<form method="dialog"><button class="close" autofocus aria-label="Close" value=${id}>×</button></form>`;
}
