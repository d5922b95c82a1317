// The model: the state, which the address of the page holds, and the answers of the service. Parts of the screen read the
// model and call its methods; the model calls `changed` and knows nothing of the screen.

import { Problem, isAway, nextCursor } from "./api.js";
import { apartFrom, personOf } from "./language.js";
import { Live } from "./live.js";
import { FIRST, PAGE, Pages } from "./pages.js";
import { rangeOf, readAddress, readsData, withRange, writeAddress } from "./state.js";
import { intervalFor, later, zoneName } from "./time.js";

/** @typedef {import("./api.js").Api} Api */
/** @typedef {import("./api.js").LogEvent} LogEvent */
/** @typedef {import("./api.js").Source} Source */
/** @typedef {import("./state.js").State} State */
/** @typedef {{value: any, count: number, buckets?: {start: string, count: number}[]}} Top */
/** @typedef {{count: number, from: number, to: number, step: number, buckets: {start: string, count: number}[], top: Top[], other: number, source: Source}} Counts */
/** @typedef {{top: Top[], other: number, problem: string}} Facet */
/** @typedef {{event: LogEvent|null, problem: Error|null}} Detail */
/** @typedef {{before: LogEvent[], event: LogEvent|null, after: LogEvent[], earlier: string, later: string, problem: Error|null, loading: boolean, centred: boolean}} Around */

const RERUN = /** @type {(keyof State)[]} */ (["q", "last", "from", "to", "order", "tz", "time", "cols", "asOf"]);
const RECOUNT = /** @type {(keyof State)[]} */ (["by", "facets"]);
const STACKED = "7", LISTED = "12";
const RETRIES = [1000, 2000, 4000, 8000];
/** The page requests events this many milliseconds before counts. */
const HEAD_START = 100;

export class Model {
  /** @param {Api} api @param {() => void} changed */
  constructor(api, changed) {
    this.api = api;
    this.changed = changed;
    this.state = readAddress(location.search);
    this.draft = this.state.q;
    /** @type {Counts|null} */
    this.counts = null;
    /** @type {Record<string, Facet>} */
    this.facets = {};
    this.pages = this.newPages(new AbortController().signal);
    this.row = -1;
    /** @type {Error|null} */
    this.problem = null;
    /** What is wrong with the draft. @type {Problem|null} */
    this.fault = null;
    /** @type {Source|null} */
    this.source = null;
    this.loading = true;
    this.away = { tries: 0, back: 0 };
    /** The number of all events; counted only if no event matches. @type {number|null} */
    this.everything = null;
    /** @type {Detail} */
    this.detail = { event: null, problem: null };
    /** @type {Around|null} */
    this.around = null;
    this.live = new Live(this);
    this.running = new AbortController();
    this.query = ""; this.ran = 0;
    /** @type {import("./state.js").Range} */
    this.range = { from: null, to: null };
    addEventListener("popstate", () => this.adopt(readAddress(location.search)));
  }

  /** Change what is on the screen, and the address with it. @param {Partial<State>} patch @param {boolean} [quietly] without an entry in the history */
  set(patch, quietly = false) {
    const before = location.search;
    const state = { ...this.state, ...patch };
    const address = writeAddress(state);
    if (`?${address}` !== before && !(address === "" && before === "")) {
      history[quietly ? "replaceState" : "pushState"](null, "", address ? `?${address}` : location.pathname);
    }
    this.adopt(state);
  }

  /** @param {State} state */
  adopt(state) {
    const before = this.state;
    this.state = state;
    const differs = (/** @type {(keyof State)[]} */ names) => names.some((name) => String(before[name]) !== String(state[name]));
    if (before.q !== state.q) this.draft = state.q;
    if (before.live && !state.live) this.live.end();
    if (differs(RERUN) || (state.live && !before.live) || (readsData(state) && !readsData(before))) void this.run();
    else if (differs(RECOUNT)) void this.recount(this.running.signal);
    if (before.event !== state.event) void this.open(state.event);
    if (differs(["around", "same"])) void this.lookAround();
    this.changed();
  }

  /** The person whose timeline this is, or "". */
  get byPerson() {
    return personOf(this.state.q);
  }

  async start() {
    await Promise.all([this.run(), this.open(this.state.event), this.lookAround()]);
  }

  /** Request events and counts again. */
  async run() {
    this.running.abort();
    this.running = new AbortController();
    const { signal } = this.running;
    this.loading = true;
    this.changed();
    await this.guarded(signal, async () => {
      this.fault = await this.check(this.state.q, signal);
      if (this.fault) throw this.fault;
      this.ran = Date.now();
      this.range = rangeOf(this.state, this.ran);
      this.query = withRange(this.state.q, this.range, this.state.time);
      // The stream begins before the page is read, so that no event is missed in between.
      if (this.state.live) await this.live.begin();
      const first = this.readFirstPage(signal);
      await Promise.all([first, Promise.race([first, later(HEAD_START)]).then(() => this.recount(signal))]);
      if (!this.pages.length) await this.countEverything(signal);
    });
  }

  /** @param {AbortSignal} signal */
  async readFirstPage(signal) {
    const pages = this.newPages(signal);
    await pages.first();
    if (signal.aborted) return;
    this.pages = pages;
    this.row = -1;
    this.live.release();
    this.changed();
  }

  /** Run work, and show its failure on the page. If the service is away, run the query again later. @param {AbortSignal} signal @param {() => Promise<void>} work */
  async guarded(signal, work) {
    try {
      await work();
      if (signal.aborted) return;
      if (this.away.tries) this.cameBack();
      this.problem = null;
    } catch (error) {
      if (signal.aborted) return;
      this.fail(error, signal);
    }
    this.loading = false;
    this.changed();
  }

  /** Show for a moment that the service is back. */
  cameBack() {
    this.away = { tries: 0, back: Date.now() };
    setTimeout(this.changed, 4100);
  }

  /** @param {unknown} error @param {AbortSignal} signal */
  fail(error, signal) {
    this.problem = error instanceof Error ? error : new Error(String(error));
    if (!isAway(error)) return;
    const wait = RETRIES[Math.min(this.away.tries, RETRIES.length - 1)];
    this.away = { tries: this.away.tries + 1, back: 0 };
    setTimeout(() => signal.aborted || void this.run(), wait);
  }

  /** @param {AbortSignal} signal */
  newPages(signal) {
    // Cursors belong to this query, even if the state changes meanwhile.
    const asked = {
      q: this.query, asOf: this.state.asOf, tz: zoneName(this.state.tz), order: this.state.order, fields: this.fields(), ...this.orderBy(),
    };
    const load = async (/** @type {string} */ cursor) => {
      const { body, headers, source } = await this.api.read("event", { ...asked, cursor, limit: String(cursor ? PAGE : FIRST) }, signal);
      this.source = source;
      return { events: body, next: nextCursor(headers) };
    };
    return new Pages(load, this.changed, (error) => signal.aborted || (this.fail(error, signal), this.changed()));
  }

  fields() {
    const occurred = [this.state.time, ...this.state.cols].includes("occurredAt");
    return ["id", "createdAt", ...(occurred ? ["occurredAt"] : []), "email", "environment", "component", "message", ...(readsData(this.state) ? ["data"] : [])].join(",");
  }

  orderBy() {
    return /** @type {Record<string, string>} */ (this.state.time === "occurredAt" ? { orderBy: "occurredAt" } : {});
  }

  /** @param {AbortSignal} signal */
  async recount(signal) {
    await Promise.all([this.countOverTime(signal), ...this.state.facets.map((field) => this.countValues(field, signal))]);
    if (!signal.aborted) this.changed();
  }

  /** Count again while live events arrive, with a range that ends now. */
  async refreshCounts() {
    this.ran = Date.now();
    this.range = rangeOf(this.state, this.ran);
    // If the service is away, the strip of the live stream shows this, and the stream reconnects by itself.
    await this.recount(this.running.signal).catch(() => {});
  }

  /** @param {AbortSignal} signal */
  async countOverTime(signal) {
    const query = withRange(this.state.q, this.range, this.state.time);
    const { from, to } = await this.extent(query, signal);
    const [interval, step] = intervalFor(from, to);
    const { body, source } = await this.api.read("event/stats", {
      q: query, asOf: this.state.asOf, tz: zoneName(this.state.tz), interval, by: this.state.by, top: this.state.by && STACKED, time: this.orderBy().orderBy ?? "",
    }, signal);
    this.counts = { count: body.count, from, to, step, buckets: body.buckets, top: body.top ?? [], other: body.other ?? 0, source };
    this.changed();
  }

  /** The span of the histogram; without bounds, from the first to the last event. @param {string} query @param {AbortSignal} signal */
  async extent(query, signal) {
    const { from, to } = this.range;
    const { time, asOf } = this.state;
    const end = async (/** @type {string} */ order) => {
      const { body } = await this.api.read("event", { q: query, asOf, tz: zoneName(this.state.tz), order, limit: "1", fields: time, ...this.orderBy() }, signal);
      return body.length ? Date.parse(body[0][time]) : this.ran;
    };
    const until = asOf && to === null ? (await end("desc")) + 1 : Math.max(this.ran, (from ?? 0) + 1);
    return { from: from ?? (await end("asc")), to: to ?? until };
  }

  /** @param {string} field @param {AbortSignal} signal */
  async countValues(field, signal) {
    const q = withRange(apartFrom(this.state.q, field), this.range, this.state.time);
    try {
      const { body } = await this.api.read("event/stats", { q, asOf: this.state.asOf, tz: zoneName(this.state.tz), by: field, top: LISTED }, signal);
      this.facets[field] = { top: body.top, other: body.other, problem: "" };
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.facets[field] = { top: [], other: 0, problem: error.message };
    }
    this.changed();
  }

  /** @param {AbortSignal} signal */
  async countEverything(signal) {
    const { body } = await this.api.read("event/stats", {}, signal);
    this.everything = body.count;
  }

  /** What is wrong with a query, as the service says it. @param {string} q @param {AbortSignal} [signal] @returns {Promise<Problem|null>} */
  async check(q, signal) {
    if (!q.trim()) return null;
    try {
      await this.api.read("query", { q, tz: zoneName(this.state.tz) }, signal);
      return null;
    } catch (error) {
      if (error instanceof Problem && error.status === 400) return error;
      throw error;
    }
  }

  /** @param {string} id */
  async open(id) {
    this.detail = { event: this.detail.event?.id === id ? this.detail.event : null, problem: null };
    if (!id) return;
    try {
      const { body } = await this.api.read(`event/${id}`);
      if (this.state.event === id) this.detail = { event: body, problem: null };
    } catch (error) {
      if (this.state.event === id) this.detail = { event: null, problem: /** @type {Error} */ (error) };
    }
    this.changed();
  }

  /** The neighbours of an event in the order of the log. */
  async lookAround() {
    const { around, same } = this.state;
    if (!around) {
      this.around = null;
      return;
    }
    this.around = { before: [], event: null, after: [], earlier: "", later: "", problem: null, loading: true, centred: false };
    await this.extendAround(`event/${around}/context`, { before: "20", after: "20", same: same.join(",") }, "both");
  }

  /** @param {string} path @param {Record<string, string>} query @param {"both"|"earlier"|"later"} side */
  async extendAround(path, query, side) {
    const shown = this.around;
    if (!shown) return;
    try {
      const { body, headers } = await this.api.read(path, query);
      const link = (/** @type {string} */ rel) => new RegExp(`<([^>]*)>;\\s*rel="${rel}"`).exec(headers.get("Link") ?? "")?.[1]?.replace(/^\//, "") ?? "";
      if (side !== "later") Object.assign(shown, { before: [...body.before, ...shown.before], earlier: link("prev") });
      if (side !== "earlier") Object.assign(shown, { after: [...shown.after, ...body.after], later: link("next") });
      if (side === "both") shown.event = body.event;
    } catch (error) {
      shown.problem = /** @type {Error} */ (error);
    }
    shown.loading = false;
    this.changed();
  }

  /** Move to a row, and show its event if one is open. @param {number} row */
  select(row) {
    if (!this.pages.length) return;
    this.row = Math.max(0, Math.min(row, this.pages.length - 1));
    const event = this.pages.at(this.row);
    if (this.state.event && event) this.set({ event: event.id }, true);
    this.changed();
  }
}
