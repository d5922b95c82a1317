// The screen: draws the state of the model with the parts in the other files.

import { html, nothing, render } from "lit-html";
import { around } from "./around.js";
import { colourOf } from "./chart.js";
import { Completer } from "./complete.js";
import { detail } from "./detail.js";
import { closer, explanation, exporting, help, keyForm } from "./dialogs.js";
import { Exporter } from "./export.js";
import { Further, facets } from "./facets.js";
import { fixOf, placeOf, queryOfWords } from "./hints.js";
import { freeze, frozenLine } from "./frozen.js";
import { keep } from "./keep.js";
import { toggled } from "./language.js";
import { awayStrip, faultLine, personLine } from "./lines.js";
import { textOf } from "./list.js";
import { columnsMenu, liveStrip, mainMenu, place } from "./menus.js";
import { pills } from "./pills.js";
import { rangeName, rangePicker } from "./range.js";
import { instead, Suggestions } from "./states.js";
import { statusLine } from "./status.js";
import { copy } from "./text.js";
import { SharedViews, viewsMenu } from "./views.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./editor.js").QueryEditor} QueryEditor */
/** @typedef {import("./list.js").EventList} EventList */
/** @typedef {import("./chart.js").TimeChart} TimeChart */

const CHECK_AFTER = 120;

export class App {
  /** @param {Model} model @param {HTMLElement} root */
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.ui = { editing: -1, said: "", theme: keep.theme, facets: false, rejected: false, back: -1 };
    this.suggestions = new Suggestions();
    this.further = new Further();
    this.exporter = new Exporter(model);
    this.shared = new SharedViews(model);
    this.completer = new Completer(model);
    /** @type {{body: any, problem: string}|null} */
    this.explained = null;
    /** @type {(key: string) => void} */
    this.answerKey = () => {};
    /** The range before the histogram was zoomed into. @type {Pick<import("./state.js").State, "last"|"from"|"to">|null} */
    this.unzoomed = null;
    this.drawing = 0;
    this.listed = model.pages;
    this.shownQuery = "";
    model.api.askForKey = (rejected) => this.askForKey(rejected);
    model.live.arrived = (added) => this.list?.keepPlace(added);
  }

  /** Draw the screen at the next frame, once, however many changes there are until then. */
  changed = () => {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      this.draw();
    });
  };

  draw() {
    document.documentElement.dataset.theme = this.ui.theme || "auto";
    render(this.view(), this.root);
    this.settle();
  }

  view() {
    const { model, ui } = this;
    const { state } = model;
    const open = state.event !== "";
    return html`<a class="skip" href="#list">To the events</a>
      ${this.header()}
      <div class="beneath">${faultLine(model, () => this.fix())}${pills(model, ui, this.changed)}${personLine(model, this.person)}${frozenLine(model)}</div>
      ${state.live ? liveStrip(model) : nothing}
      <main class=${open ? "with-detail" : ""}>
        <aside class="facets ${ui.facets ? "shown" : ""}" aria-label="Values of fields">${facets(model, { toggle: this.toggle, colourOf: this.colourOfValue, further: this.further })}</aside>
        <section class="results" aria-label="Results">
          <time-chart></time-chart>
          ${statusLine(model, { toggleFacets: () => { ui.facets = !ui.facets; this.changed(); }, facetsShown: ui.facets, unzoom: this.unzoomed && !state.last ? () => this.unzoom() : null, freeze: () => this.freeze() })}
          ${state.around ? around(model) : nothing}
          ${state.around ? nothing : instead(model, this.suggestions, this.say)}
          <event-list id="list" ?hidden=${state.around !== "" || !model.pages.length}></event-list>
        </section>
        ${open ? html`<aside class="detail" aria-label="Event" tabindex="-1">${detail(model, { toggle: this.toggle, column: this.column, person: this.person, say: this.say })}</aside>` : nothing}
      </main>
      ${this.overlays()}`;
  }

  header() {
    const { model } = this;
    return html`<header>
      <a class="brand" href="./" title="Start again">eventsvc</a>
      <div class="search" role="search">
        <query-editor></query-editor>
        ${model.draft ? html`<button class="quiet" aria-label="Empty the query" title="Empty the query" @click=${() => { model.set({ q: "" }); model.draft = ""; this.fault(null); this.changed(); this.editor?.focus(); }}>×</button>` : nothing}
        <button class="quiet" title="What the query means" @click=${() => this.explain()}>Explain</button>
        <button class="primary" title="Run (Enter)" @click=${() => this.runDraft()}>Run</button>
      </div>
      <div class="tools-right">
        <button class="range" popovertarget="range" title="The range of time (t)" @click=${place}>${rangeName(model)}</button>
        <button class="live" aria-pressed=${model.state.live} title="New events as they are stored (l)" @click=${() => this.toggleLive()}><i></i>Live</button>
        <button popovertarget="views" @click=${(/** @type {MouseEvent} */ event) => { place(event); void this.shared.load(); }}>Views</button>
        <button popovertarget="menu" aria-label="Menu" title="Menu" @click=${place}>⋯</button>
      </div></header>`;
  }

  overlays() {
    const { model, ui } = this;
    const close = () => /** @type {HTMLElement|null} */ (this.root.querySelector("[popover]:popover-open"))?.hidePopover();
    return html`
      <div popover id="range" class="pop range-pop">${rangePicker(model, close)}</div>
      <div popover id="views" class="pop">${viewsMenu(model, this.shared, close)}</div>
      <div popover id="columns" class="pop">${columnsMenu(model, this.column)}</div>
      <div popover id="menu" class="pop menu">${mainMenu(model, ui, this)}</div>
      <dialog id="help" aria-label="Help" closedby="any">${help()}${closer("help")}</dialog>
      <dialog id="explain" aria-label="Explanation" closedby="any">${explanation(this.explained)}${closer("explain")}</dialog>
      <dialog id="key" aria-label="Key" @close=${() => this.answerKey("")}>${keyForm(ui.rejected, (key) => this.answerKey(key))}</dialog>
      ${exporting(this.exporter)}
      ${awayStrip(model)}
      <div class="said ${ui.said ? "shown" : ""}" role="status">${ui.said}</div>`;
  }

  /** Update the parts that draw themselves: the query box, the chart and the list. */
  settle() {
    const { model } = this;
    this.bind();
    if (this.editor && model.draft !== this.editor.text && this.shownQuery !== model.draft) this.editor.text = model.draft;
    this.shownQuery = model.draft;
    this.chart?.show(model.counts, model.state.tz, this.ui.theme);
    if (this.list && this.listed !== model.pages) {
      this.listed = model.pages;
      this.list.toTop();
    }
    this.list?.show();
    const input = /** @type {HTMLInputElement|null} */ (this.root.querySelector(".pill .edit"));
    if (input && document.activeElement !== input) input.select();
  }

  bind() {
    if (this.editor) return;
    this.editor = /** @type {QueryEditor} */ (this.root.querySelector("query-editor"));
    this.list = /** @type {EventList} */ (this.root.querySelector("event-list"));
    this.chart = /** @type {TimeChart} */ (this.root.querySelector("time-chart"));
    Object.assign(this.list, { model: this.model, colourOf: this.colourOf, person: this.person, open: this.openRow });
    this.chart.zoom = (from, to) => this.zoom(from, to);
    Object.assign(this.editor, { complete: this.completer.complete, changed: this.typed, run: () => this.runDraft(), fix: () => this.fix(), older: this.older });
  }

  typed = (/** @type {string} */ text) => {
    this.model.draft = text;
    this.shownQuery = text;
    clearTimeout(this.checking);
    this.checking = setTimeout(() => void this.check(text), CHECK_AFTER);
    this.changed();
  };

  /** @param {string} text */
  async check(text) {
    const fault = queryOfWords(text) ? null : await this.model.check(text).catch(() => null);
    if (this.model.draft !== text) return;
    // While the user still types, a missing end is no fault to be shown.
    const unfinished = fault && this.editor?.focused && placeOf(fault.body, text).from >= text.trimEnd().length;
    this.fault(unfinished ? null : fault);
  }

  /** @param {import("./api.js").Problem|null} fault */
  fault(fault) {
    this.model.fault = fault;
    this.editor?.mark(fault && placeOf(fault.body, this.model.draft));
    this.changed();
  }

  fix() {
    const fix = this.model.fault && fixOf(this.model.fault.body, this.model.draft);
    if (!fix) return false;
    this.editor?.replace(fix.from, fix.to, fix.insert);
    return true;
  }

  runDraft() {
    const { model } = this;
    const q = queryOfWords(model.draft) || model.draft.trim();
    keep.ranQuery(q);
    this.ui.back = -1;
    if (q === model.state.q) void model.run().then(() => this.fault(model.fault));
    else model.set({ q });
  }

  older = (/** @type {number} */ step) => {
    const all = keep.queries;
    this.ui.back = Math.max(-1, Math.min(this.ui.back + step, all.length - 1));
    if (this.editor && this.ui.back >= 0) this.editor.text = all[this.ui.back];
    return true;
  };

  /** @param {number} from @param {number} to */
  zoom(from, to) {
    const { last, from: since, to: until } = this.model.state;
    this.unzoomed ??= { last, from: since, to: until };
    this.model.set({ last: "", from: new Date(from).toISOString(), to: new Date(to).toISOString(), live: false });
  }

  unzoom() {
    if (this.unzoomed) this.model.set(this.unzoomed);
    this.unzoomed = null;
  }

  openRow = (/** @type {number} */ row) => {
    const event = this.model.pages.at(row);
    if (!event) return;
    this.model.row = row;
    this.model.set({ event: event.id }, this.model.state.event !== "");
  };

  toggle = (/** @type {string} */ field, /** @type {string} */ value, /** @type {boolean} */ exclude) => {
    this.model.set({ q: toggled(this.model.state.q, field, value, exclude) });
  };

  column = (/** @type {string} */ field) => {
    const { cols } = this.model.state;
    const kept = cols.filter((name) => name !== field);
    // The message is the widest column, so a new column stands before it.
    const at = cols.indexOf("message");
    this.model.set({ cols: kept.length < cols.length ? kept : at < 0 ? [...cols, field] : cols.toSpliced(at, 0, field) });
  };

  person = (/** @type {string} */ email) => {
    this.model.set({ q: toggled("", "email", `'${email.replace(/[\\']/g, "\\$&")}'`, false), last: "all", from: "", to: "", by: "component", event: "", around: "" });
  };

  async freeze() {
    try {
      await freeze(this.model);
      this.say((await copy(location.href)) ? "Frozen link copied" : "The link is frozen");
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    }
  }

  toggleLive() {
    const live = !this.model.state.live;
    const range = live && !this.model.state.last ? { last: "1h", from: "", to: "" } : {};
    this.model.set({ live, ...(live ? { asOf: "", order: /** @type {const} */ ("desc"), time: /** @type {const} */ ("createdAt"), around: "" } : {}), ...range });
  }

  async explain() {
    this.explained = null;
    this.dialog("explain").showModal();
    try {
      this.explained = { body: (await this.model.api.read("query", { q: this.model.draft.trim() || "createdAt exists" })).body, problem: "" };
    } catch (error) {
      this.explained = { body: null, problem: /** @type {Error} */ (error).message };
    }
    this.changed();
  }

  /** @param {boolean} rejected @returns {Promise<string>} */
  askForKey(rejected) {
    this.ui.rejected = rejected;
    this.draw();
    const dialog = this.dialog("key");
    dialog.showModal();
    return new Promise((resolve) => {
      this.answerKey = (key) => {
        this.answerKey = () => {};
        dialog.close();
        resolve(key);
      };
    });
  }

  /** @param {string} id */
  dialog(id) {
    return /** @type {HTMLDialogElement} */ (this.root.querySelector(`dialog#${id}`));
  }

  say = (/** @type {string} */ text) => {
    this.ui.said = text;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => this.say(""), text ? 2500 : 1e9);
    this.changed();
  };

  colourOfValue = (/** @type {unknown} */ value) => colourOf(this.model.counts, value);

  colourOf = (/** @type {import("./api.js").LogEvent} */ event) => {
    const { by } = this.model.state;
    return by ? this.colourOfValue(textOf(event, by)) : -1;
  };
}
