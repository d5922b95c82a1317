// Messages in place of the list: the service has no events, none match, an error, the service is away.

import { html, nothing } from "lit-html";
import { Problem, isAway, isForbidden } from "./api.js";
import { conditions, without } from "./language.js";
import { rangeOf, withRange } from "./state.js";
import { count, zoneName } from "./time.js";

/** @typedef {import("./model.js").Model} Model */

const EXAMPLE = { email: "diego@chefhero.com", environment: "production", component: "orders", message: "the buyer #123456 has placed an order", data: { order_id: 123, amount: 300 } };

/** @param {Model} model @param {Suggestions} suggestions @param {(text: string) => void} say @returns {unknown} nothing if the list is to be shown */
export function instead(model, suggestions, say) {
  const { problem, pages, loading } = model;
  if (problem && isAway(problem)) return pages.length ? nothing : away();
  const inQuery = problem instanceof Problem && "offset" in problem.body;
  if (problem && !inQuery && !pages.length) return failed(model, problem);
  if (loading || !pages.started || pages.length || problem) return nothing;
  return model.everything === 0 ? empty(model, say) : unmatched(model, suggestions);
}

function away() {
  return html`<div class="state" role="alert"><h2>The service does not answer</h2><p>The page keeps trying, and goes on by itself when it is back.</p></div>`;
}

/** @param {Model} model @param {Error} problem */
function failed(model, problem) {
  if (problem instanceof Problem && isForbidden(problem)) {
    return html`<div class="state" role="alert"><h2>${problem.title || "Not allowed"}</h2><p>${problem.message}</p>
      <button class="primary" @click=${() => { model.api.key = ""; void model.run(); }}>Use another key</button></div>`;
  }
  const title = problem instanceof Problem ? problem.title : "This page has failed";
  return html`<div class="state" role="alert"><h2>${title}</h2><p>${problem.message}</p><button class="primary" @click=${() => model.run()}>Try again</button></div>`;
}

/** @param {Model} model @param {(text: string) => void} say */
function empty(model, say) {
  const body = JSON.stringify(EXAMPLE);
  const send = async () => {
    try {
      await model.api.post("event", EXAMPLE);
      await model.run();
    } catch (error) {
      say(/** @type {Error} */ (error).message);
    }
  };
  return html`<div class="state"><h2>There are no events yet</h2><p>Programs send them over HTTP:</p>
    <pre tabindex="0">curl -X POST ${new URL("event", location.href.split("?")[0])} \\
  -H 'Content-Type: application/json' \\
  -d '${body}'</pre>
    <button class="primary" @click=${send}>Send this event now</button></div>`;
}

/** @param {Model} model @param {Suggestions} suggestions */
function unmatched(model, suggestions) {
  const found = suggestions.of(model);
  return html`<div class="state"><h2>No event matches</h2>
    ${suggestions.missing.map(({ path, near }) => html`<p>No event has <code>${path}</code>${near.length ? html`; did you mean ${near.map((other) => html` <button @click=${() => model.set({ q: model.state.q.replaceAll(path, other) })}>${other}</button>`)}` : nothing}</p>`)}
    ${found === null ? html`<p class="muted">Looking for what would…</p>` : found.length
      ? html`<p>Without one of these, there are some:</p><ul class="drops">${found.map(({ name, patch, n }) => html`
          <li><button @click=${() => model.set(patch)}>${name}</button> <span class="n">${count(n)} events</span></li>`)}</ul>`
      : html`<p>No single condition is to blame: at least two of them exclude everything.</p>
        <button class="primary" @click=${() => model.set({ q: "", last: "all", from: "", to: "" })}>Show all events</button>`}</div>`;
}

/** @typedef {{name: unknown, patch: Partial<import("./state.js").State>, n: number}} Suggestion */

/** Suggests conditions to remove when nothing matches: counts the events without each condition. */
export class Suggestions {
  constructor() {
    this.key = "";
    /** @type {Suggestion[]|null} */
    this.found = null;
    /** @type {{path: string, near: string[]}[]} */
    this.missing = [];
  }

  /** @param {Model} model */
  of(model) {
    const key = `${model.query} ${model.ran}`;
    if (this.key !== key) {
      this.key = key;
      this.found = null;
      this.missing = [];
      void this.look(model, key);
    }
    return this.found;
  }

  /** @param {Model} model @param {string} key */
  async look(model, key) {
    const { q, last, asOf } = model.state;
    const range = rangeOf(model.state, model.ran);
    const tries = conditions(q).map((one, i) => ({ name: html`Without <code>${one.text}</code>`, patch: { q: without(q, i) }, query: withRange(without(q, i), range, model.state.time) }));
    if (last !== "all") tries.push({ name: html`In <strong>all time</strong>`, patch: /** @type {any} */ ({ last: "all", from: "", to: "" }), query: q });
    if (asOf) tries.push({ name: html`With events past seq ${count(Number(asOf))}`, patch: /** @type {any} */ ({ asOf: "" }), query: model.query });
    const named = q.includes("data.") ? model.api.read("query", { q, tz: zoneName(model.state.tz), paths: "true" }).then(({ body }) => body.paths, () => []) : [];
    const counted = await Promise.all(tries.map(async ({ name, patch, query }) => {
      const { body } = await model.api.read("event/stats", { q: query, asOf: "asOf" in patch ? "" : asOf, tz: zoneName(model.state.tz) }).catch(() => ({ body: { count: 0 } }));
      return { name, patch, n: body.count };
    }));
    const paths = /** @type {{path: string, exists: boolean|null, near: string[]}[]} */ (await named);
    if (this.key !== key) return;
    this.missing = paths.filter(({ exists }) => exists === false);
    this.found = counted.filter(({ n }) => n > 0);
    model.changed();
  }
}
