// The events of an answer, read a page at a time. Only the pages near the screen are in memory. A dropped page is
// requested again by its cursor, so memory does not grow while the user scrolls.

/** @typedef {import("./api.js").LogEvent} LogEvent */
/** @typedef {{events: LogEvent[], next: string}} Page */
/** @typedef {{cursor: string, start: number, size: number, events: LogEvent[]|null, loading: boolean}} Held */

/** The number of events of a page, and of the first page, which is small so that it appears quickly. */
export const PAGE = 1000, FIRST = 200;
const KEPT = 8;
const MOST_FRESH = 5000;

export class Pages {
  /** @param {(cursor: string) => Promise<Page>} load @param {() => void} changed @param {(error: unknown) => void} failed */
  constructor(load, changed, failed) {
    this.load = load;
    this.changed = changed;
    this.failed = failed;
    /** @type {Held[]} */
    this.held = [];
    /** Live events, newest first; they lie above the pages. @type {LogEvent[]} */
    this.fresh = [];
    this.next = "";
    this.loading = false;
    this.started = false;
    /** Whether events of the live stream have replaced older events in the list. */
    this.cut = false;
  }

  get length() {
    const last = this.held[this.held.length - 1];
    return this.fresh.length + (last ? last.start + last.size : 0);
  }

  get complete() {
    return this.started && !this.next;
  }

  /** @param {number} index @returns {LogEvent|undefined} undefined while its page is being fetched */
  at(index) {
    if (index < this.fresh.length) return this.fresh[index];
    const held = this.find(index - this.fresh.length);
    return held?.events?.[index - this.fresh.length - held.start];
  }

  /** @param {number} index among the pages */
  find(index) {
    // All pages but the first and the last are full, so the guess is right or close.
    let at = Math.min(Math.floor(index / PAGE), this.held.length - 1);
    while (at >= 0 && this.held[at].start > index) at -= 1;
    while (at >= 0 && at < this.held.length - 1 && this.held[at + 1].start <= index) at += 1;
    return this.held[at];
  }

  async first() {
    const page = await this.load("");
    this.held = [{ cursor: "", start: 0, size: page.events.length, events: page.events, loading: false }];
    this.next = page.next;
    this.started = true;
  }

  /** Request the missing pages of the visible rows, and drop the events of pages far from them. @param {number} from @param {number} to */
  show(from, to) {
    if (!this.started) return;
    if (to >= this.length - Math.min(this.length, PAGE) / 2 && this.next && !this.loading) void this.more();
    const [first, last] = [from, to].map((index) => this.held.indexOf(/** @type {Held} */ (this.find(Math.max(0, index - this.fresh.length)))));
    for (let at = Math.max(0, first); at <= last; at += 1) if (!this.held[at].events) void this.again(this.held[at]);
    this.held.forEach((held, at) => {
      if (at < first - KEPT / 2 || at > last + KEPT / 2) held.events = null;
    });
  }

  async more() {
    this.loading = true;
    const cursor = this.next;
    try {
      const page = await this.load(cursor);
      const last = this.held[this.held.length - 1];
      this.held.push({ cursor, start: last.start + last.size, size: page.events.length, events: page.events, loading: false });
      this.next = page.next;
    } catch (error) {
      this.failed(error);
    } finally {
      this.loading = false;
      this.changed();
    }
  }

  /** @param {Held} held */
  async again(held) {
    if (held.loading) return;
    held.loading = true;
    try {
      held.events = (await this.load(held.cursor)).events;
    } catch (error) {
      this.failed(error);
    } finally {
      held.loading = false;
      this.changed();
    }
  }

  /** Add events of the live stream that the list does not have yet. @param {LogEvent[]} events oldest first @returns {number} how many were added */
  prepend(events) {
    const known = new Set([...(this.held[0]?.events ?? []), ...this.fresh.slice(0, PAGE)].map((event) => event.id));
    const taken = events.filter((event) => !known.has(event.id)).reverse();
    this.fresh = [...taken, ...this.fresh];
    if (this.fresh.length > MOST_FRESH) this.cutOff();
    return taken.length;
  }

  cutOff() {
    this.fresh.length = MOST_FRESH;
    this.held = [];
    this.next = "";
    this.cut = true;
  }
}
