// The list of events. Only the rows on the screen exist in the document; scrolling draws other rows.

import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import { html, nothing, render } from "lit-html";
import { needles } from "./language.js";
import { RawNumber, writeJson } from "./json.js";
import { line } from "./text.js";
import { gap, longTime, shortTime } from "./time.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./api.js").LogEvent} LogEvent */

const ROW = 26, ROW_NARROW = 54;
// The greatest height of an element in Chromium, in pixels, with some reserve.
const HIGHEST = 30_000_000;
const narrow = matchMedia("(max-width: 720px)");

export class EventList extends HTMLElement {
  constructor() {
    super();
    /** @type {Model|null} */
    this.model = null;
    this.colourOf = (/** @type {LogEvent} */ _event) => -1;
    this.open = (/** @type {number} */ _row) => {};
    this.person = (/** @type {string} */ _email) => {};
    this.inner = document.createElement("div");
    this.inner.className = "rows";
    this.head = document.createElement("div");
    this.head.className = "head";
    this.space = document.createElement("div");
    this.space.className = "space";
    this.space.append(this.inner);
  }

  connectedCallback() {
    this.tabIndex = 0;
    this.setAttribute("role", "grid");
    this.setAttribute("aria-label", "Events");
    this.append(this.head, this.space);
    this.virtual = new Virtualizer({
      count: 0,
      getScrollElement: () => /** @type {Element} */ (this),
      estimateSize: () => this.rowHeight,
      overscan: 12,
      scrollMargin: this.headHeight, scrollPaddingStart: this.headHeight,
      observeElementRect, observeElementOffset, scrollToFn: elementScroll,
      onChange: () => this.draw(),
    });
    this.unmount = this.virtual._didMount();
    narrow.addEventListener("change", this.remeasure);
    this.addEventListener("click", this.clicked);
  }

  disconnectedCallback() {
    this.unmount?.();
    narrow.removeEventListener("change", this.remeasure);
  }

  get rowHeight() {
    return narrow.matches ? ROW_NARROW : ROW;
  }

  get headHeight() {
    return narrow.matches ? 0 : ROW;
  }

  remeasure = () => {
    this.virtual?.setOptions({ ...this.virtual.options, scrollMargin: this.headHeight, scrollPaddingStart: this.headHeight });
    this.virtual?.measure();
    this.show();
  };

  /** Draw the rows again after a change of the model. */
  show() {
    const { virtual, model } = this;
    if (!virtual || !model) return;
    const most = Math.floor(HIGHEST / this.rowHeight);
    const count = Math.min(model.pages.length, most);
    virtual.setOptions({ ...virtual.options, count });
    virtual._willUpdate();
    this.space.style.height = `${virtual.getTotalSize()}px`;
    this.setAttribute("aria-rowcount", String(model.pages.complete ? count + 1 : -1));
    this.draw();
  }

  /** Keep the visible rows in their place after rows were added above them. @param {number} added the number of rows */
  keepPlace(added) {
    if (added && this.scrollTop > 0) this.scrollTop += added * this.rowHeight;
  }

  toTop() {
    this.scrollTop = 0;
  }

  /** @param {number} row */
  reveal(row) {
    this.virtual?.scrollToIndex(row, { align: "auto" });
  }

  draw() {
    const { virtual, model } = this;
    if (!virtual || !model) return;
    const items = virtual.getVirtualItems();
    if (items.length) model.pages.show(items[0].index, items[items.length - 1].index);
    this.inner.style.transform = `translateY(${(items[0]?.start ?? 0) - this.headHeight}px)`;
    if (model.row >= 0) this.setAttribute("aria-activedescendant", `row-${model.row}`);
    else this.removeAttribute("aria-activedescendant");
    const { q, cols, tz, time } = model.state;
    this.classList.toggle("one-day", isOneDay(model));
    const look = { cols, tz, time, marks: Object.fromEntries(cols.map((name) => [name, needles(q, name)])) };
    render(headView(cols, time, Boolean(model.byPerson)), this.head);
    render(items.map(({ index }) => this.rowView(index, model, look)), this.inner);
  }

  /** @param {number} index @param {Model} model @param {Look} look */
  rowView(index, model, look) {
    const event = model.pages.at(index);
    const chosen = index === model.row;
    const opened = event && event.id === model.state.event;
    const classes = `row${chosen ? " chosen" : ""}${opened ? " opened" : ""}`;
    if (!event) return html`<div class=${classes} role="row" aria-rowindex=${index + 2}><span class="waiting" role="gridcell">…</span></div>`;
    const colour = this.colourOf(event);
    const when = event[look.time] ?? event.createdAt;
    return html`<div class=${classes} role="row" id="row-${index}" data-index=${index} aria-rowindex=${index + 2} aria-selected=${chosen}>
      <i class="rail ${colour >= 0 ? `series-${colour}` : ""}" role="presentation" title=${model.state.by && textOf(event, model.state.by)}></i>
      <time role="gridcell" datetime=${when} title=${longTime(when, look.tz)}>${timeView(when, look.tz)}</time>
      ${look.cols.map((name) => cell(event, name, look))}
      ${model.byPerson ? html`<span class="gap" role="gridcell">${this.gapBefore(index, model, event)}</span>` : nothing}
    </div>`;
  }

  /** How long since the event before. @param {number} index @param {Model} model @param {LogEvent} event */
  gapBefore(index, model, event) {
    const { time } = model.state;
    const other = model.pages.at(model.state.order === "asc" ? index - 1 : index + 1);
    return other ? `+${gap(Date.parse(event[time] ?? "") - Date.parse(other[time] ?? ""))}` : "";
  }

  /** @param {MouseEvent} event */
  clicked = (event) => {
    const target = /** @type {Element} */ (event.target);
    const row = /** @type {HTMLElement|null} */ (target.closest(".row[data-index]"));
    if (!row || getSelection()?.toString()) return;
    const person = /** @type {HTMLElement|null} */ (target.closest("[data-person]"));
    if (person) this.person(person.dataset.person ?? "");
    else this.open(Number(row.dataset.index));
  };
}

/** @typedef {{cols: string[], tz: string, time: "createdAt"|"occurredAt", marks: Record<string, string[]>}} Look */

/** The names of the columns. @param {string[]} cols @param {string} time @param {boolean} gaps */
function headView(cols, time, gaps) {
  return html`<div class="columns" role="row" aria-rowindex="1"><i class="rail" role="presentation"></i><time role="columnheader">${time}</time>
    ${cols.map((name) => html`<span class="cell ${kindOf(name)}" role="columnheader" title=${name}>${name}</span>`)}
    ${gaps ? html`<span class="gap" role="columnheader">gap</span>` : nothing}</div>`;
}

/** Whether the range lies within one day, so that the rows can leave out the date. @param {Model} model */
function isOneDay({ range, ran, state }) {
  const day = (/** @type {number} */ time) => shortTime(time, state.tz).replace(/ [^ ]*$/, "");
  return range.from !== null && day(range.from) === day(range.to ?? ran);
}

/** The date stands apart: where there is little room, it is left out. @param {string} when @param {string} tz */
function timeView(when, tz) {
  const text = shortTime(when, tz);
  const at = text.lastIndexOf(" ") + 1;
  return html`<span class="date">${text.slice(0, at)}</span>${text.slice(at)}`;
}

/** @param {string} name of a column */
function kindOf(name) {
  return `c-${name.startsWith("data") ? "data" : name}`;
}

/** @param {LogEvent} event @param {string} name @param {Look} look */
function cell(event, name, look) {
  const text = textOf(event, name);
  const shown = line(text, look.marks[name] ?? []);
  const kind = `cell ${kindOf(name)}`;
  if (name === "email") {
    return html`<span class=${kind} role="gridcell" title=${text}><button class="link" tabindex="-1" data-person=${text}>${shown}</button></span>`;
  }
  if (name === "createdAt" || name === "occurredAt") return html`<span class=${kind} role="gridcell">${text && shortTime(text, look.tz)}</span>`;
  return html`<span class=${kind} role="gridcell" dir=${name === "message" ? "auto" : nothing} title=${name === "message" ? nothing : text}>${shown}</span>`;
}

/** The text of a column. @param {LogEvent} event @param {string} name */
export function textOf(event, name) {
  if (name === "data") return event.data === undefined ? "" : writeJson(event.data, "").replace(/\n/g, " ");
  if (!name.startsWith("data.")) return String(/** @type {any} */ (event)[name] ?? "");
  return valuesAt(event.data, keysOf(name)).map(plain).join(", ");
}

/** The keys of a path as a query writes it. @param {string} name */
export function keysOf(name) {
  return (name.match(/\.(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^.]+)/g) ?? []).map((key) => key.slice(1).replace(/^(['"])([^]*)\1$/, "$2").replace(/\\(.)/g, "$1"));
}

/** The values at a path. As in the query language, an array on the path stands for its elements. @param {unknown} value @param {string[]} keys @returns {unknown[]} */
function valuesAt(value, keys) {
  if (Array.isArray(value)) return value.flatMap((one) => valuesAt(one, keys));
  if (!keys.length) return value === undefined ? [] : [value];
  if (value === null || typeof value !== "object" || !Object.hasOwn(value, keys[0])) return [];
  return valuesAt(/** @type {any} */ (value)[keys[0]], keys.slice(1));
}

/** @param {unknown} value */
function plain(value) {
  return value instanceof RawNumber || typeof value !== "object" || value === null ? String(value) : writeJson(value, "").replace(/\n/g, " ");
}

customElements.define("event-list", EventList);
