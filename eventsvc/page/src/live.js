// New events as they are stored. The stream is read by fetch, not EventSource: fetch can send the key as a header, and
// tells a refusal from a service that is away.

import { Problem } from "./api.js";
import { readJson } from "./json.js";
import { later, zoneName } from "./time.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./api.js").LogEvent} LogEvent */

const RATE_OVER = 10_000;
const MOST_WAITING = 5000;
const RETRIES = [500, 1000, 2000, 4000];
const RECOUNT_EVERY = 5000;

export class Live {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    this.on = false;
    this.paused = false;
    /** "connecting", "live", "lost" or "refused" @type {string} */
    this.status = "";
    this.note = "";
    this.last = "";
    /** Events that wait because the list is paused or is not ready yet, oldest first. @type {LogEvent[]} */
    this.waiting = [];
    this.dropped = 0;
    /** Events of the last 50 ms, which are shown together. @type {LogEvent[]} */
    this.queued = [];
    this.held = false;
    this.opened = () => {};
    /** When events came, for the rate. @type {{at: number, count: number}[]} */
    this.arrivals = [];
    this.stopping = new AbortController();
    this.arrived = (/** @type {number} */ _count) => {};
    this.counted = 0;
  }

  /** The events a second, over the last ten seconds. */
  get rate() {
    const since = Date.now() - RATE_OVER;
    this.arrivals = this.arrivals.filter(({ at }) => at > since);
    return this.arrivals.reduce((sum, { count }) => sum + count, 0) / (RATE_OVER / 1000);
  }

  /** Follow the query of the model, and hold events back until `release`. @returns {Promise<void>} resolved when the stream has begun or has failed */
  begin() {
    this.end();
    this.on = this.held = true;
    this.status = "connecting";
    const stopping = new AbortController();
    this.stopping = stopping;
    return new Promise((resolve) => {
      this.opened = resolve;
      void this.follow(stopping.signal).finally(resolve);
    });
  }

  /** Hand held events to the list, which is ready now. */
  release() {
    this.held = false;
    if (!this.paused) this.goOn();
  }

  end() {
    this.stopping.abort();
    this.on = this.paused = this.held = false;
    this.last = this.status = this.note = "";
    this.waiting = [];
    this.queued = [];
    this.dropped = 0;
  }

  goOn() {
    this.take(this.waiting);
    this.waiting = [];
  }

  pause() {
    this.paused = !this.paused;
    if (!this.paused) this.goOn();
    this.model.changed();
  }

  /** @param {AbortSignal} signal */
  async follow(signal) {
    for (let tries = 0; !signal.aborted; tries += 1) {
      const since = Date.now();
      try {
        await this.listen(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem && error.status < 500) {
          this.status = "refused";
          this.note = error.message;
          this.model.changed();
          return;
        }
      }
      if (signal.aborted) return;
      this.opened();
      if (Date.now() - since > 5000) tries = 0;
      this.status = "lost";
      this.model.changed();
      await later(RETRIES[Math.min(tries, RETRIES.length - 1)]);
    }
  }

  /** @param {AbortSignal} signal */
  async listen(signal) {
    const { state, api } = this.model;
    const resumed = this.last !== "";
    let missed = 0, caughtUp = !resumed;
    let id = "", data = "", kind = "";
    const query = { q: state.q.trim(), tz: zoneName(state.tz), lastEventId: this.last };
    for await (const line of api.lines("event/stream", query, "text/event-stream", signal)) {
      if (line.startsWith("id: ")) id = line.slice(4);
      else if (line.startsWith("data: ")) data = line.slice(6);
      else if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith(": live")) {
        caughtUp = true;
        this.note = resumed ? `resumed, ${missed} caught up, 0 missed` : "";
        this.status = "live";
        this.model.changed();
      } else if (line === "") {
        if (kind === "error") throw new Error(data);
        if (id) this.last = id;
        this.opened();
        if (data) this.queue(readJson(data));
        if (data && !caughtUp) missed += 1;
        id = data = kind = "";
      }
    }
  }

  /** Collect events for 50 ms, so that the list is drawn once for all of them. @param {LogEvent} event */
  queue(event) {
    this.queued.push(event);
    if (this.queued.length > 1) return;
    setTimeout(() => this.arrive(this.queued.splice(0)), 50);
  }

  /** @param {LogEvent[]} events */
  arrive(events) {
    this.arrivals.push({ at: Date.now(), count: events.length });
    if (this.paused || this.held) {
      this.waiting.push(...events);
      this.dropped += Math.max(0, this.waiting.length - MOST_WAITING);
      this.waiting = this.waiting.slice(-MOST_WAITING);
    } else {
      this.take(events);
    }
    this.model.changed();
  }

  /** @param {LogEvent[]} events */
  take(events) {
    const { model } = this;
    if (!events.length) return;
    const taken = model.pages.prepend(events);
    if (model.row >= 0) model.row += taken;
    this.arrived(taken);
    if (Date.now() - this.counted > RECOUNT_EVERY) {
      this.counted = Date.now();
      void model.refreshCounts();
    }
  }
}
