// Saved views: of this browser, and of everybody, which the service stores.

import { html, nothing } from "lit-html";
import { keep } from "./keep.js";
import { writeAddress } from "./state.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {{name: string, address: string, savedBy: string}} Shared */

/** The views of everybody. To change them, a key needs the right write. */
export class SharedViews {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {Shared[]|null} */
    this.views = null;
    this.problem = "";
  }

  /** @param {() => Promise<unknown>} [change] is made before the views are listed anew */
  async load(change = async () => {}) {
    try {
      await change();
      this.views = (await this.model.api.read("view")).body;
      this.problem = "";
    } catch (error) {
      this.problem = /** @type {Error} */ (error).message;
    }
    this.model.changed();
  }

  /** @param {string} name @param {string} address */
  save(name, address) {
    const init = { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ address }) };
    return this.load(() => this.model.api.fetch(`view/${encodeURIComponent(name)}`, {}, init));
  }

  /** @param {string} name */
  drop(name) {
    if (!confirm(`Remove the view “${name}” for everybody?`)) return;
    void this.load(() => this.model.api.fetch(`view/${encodeURIComponent(name)}`, {}, { method: "DELETE" }));
  }
}

/** @param {Model} model @param {SharedViews} shared @param {() => void} close */
export function viewsMenu(model, shared, close) {
  const save = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const name = String(new FormData(form).get("name") ?? "").trim();
    if (!name) return;
    const address = writeAddress({ ...model.state, event: "", around: "" });
    if (/** @type {HTMLButtonElement|null} */ (event.submitter)?.value === "all") void shared.save(name, address);
    else keep.saveView({ name, address });
    form.reset();
    model.changed();
  };
  return html`<h2>Saved views</h2>
    ${list(keep.views, (name) => { keep.dropView(name); model.changed(); }, "None yet. They are kept in this browser.")}
    <h2>Shared views</h2>
    ${shared.problem ? html`<p class="problem" role="alert">${shared.problem}</p>` : nothing}
    ${shared.views ? list(shared.views, (name) => shared.drop(name), "None yet. The service keeps them for everybody.") : nothing}
    <form class="add" @submit=${save}><input name="name" placeholder="Name of this view" aria-label="Name of this view" maxlength="80" pattern="[^\\/]+" title="Any name without /"><button title="Keep it in this browser">Save</button><button value="all" title="Keep it on the server, for everybody">Share</button></form>
    ${recent(model, close)}`;
}

/** @param {{name: string, address: string, savedBy?: string}[]} views @param {(name: string) => void} drop @param {string} none */
function list(views, drop, none) {
  if (!views.length) return html`<p class="muted">${none}</p>`;
  return html`<ul class="views">${views.map(({ name, address, savedBy }) => html`<li><a href="?${address}">${name}</a>${savedBy ? html`<span class="muted">by ${savedBy}</span>` : nothing}
    <button class="quiet" aria-label="Delete the ${savedBy === undefined ? "" : "shared "}view ${name}" @click=${() => drop(name)}>×</button></li>`)}</ul>`;
}

/** @param {Model} model @param {() => void} close */
function recent(model, close) {
  const { queries } = keep;
  if (!queries.length) return nothing;
  return html`<h2>Recent queries</h2><ul class="recent">${queries.slice(0, 10).map((q) => html`<li><button @click=${() => { model.set({ q }); close(); }}>${q}</button></li>`)}</ul>
    <button class="quiet" @click=${() => { keep.forgetQueries(); model.changed(); }}>Forget these queries</button>`;
}
