// Ranges of time, the intervals of the histogram, and the format of times.

const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

/** Ranges that end now. */
export const LASTS = /** @type {Record<string, {name: string, ms: number}>} */ ({
  "15m": { name: "Last 15 minutes", ms: 15 * MINUTE },
  "1h": { name: "Last hour", ms: HOUR },
  "4h": { name: "Last 4 hours", ms: 4 * HOUR },
  "24h": { name: "Last 24 hours", ms: DAY },
  "7d": { name: "Last 7 days", ms: 7 * DAY },
  "30d": { name: "Last 30 days", ms: 30 * DAY },
  "90d": { name: "Last 90 days", ms: 90 * DAY },
  all: { name: "All time", ms: 0 },
});

/** The intervals of GET /event/stats. */
const INTERVALS = /** @type {[string, number][]} */ ([
  ["1m", MINUTE], ["5m", 5 * MINUTE], ["15m", 15 * MINUTE], ["1h", HOUR], ["1d", DAY], ["1w", 7 * DAY],
]);
// Seven days have 168 hours.
const BARS = 170;

/** The shortest interval that gives a readable number of bars. @param {number} from @param {number} to @returns {[string, number]} */
export function intervalFor(from, to) {
  return INTERVALS.find(([, ms]) => (to - from) / ms <= BARS) ?? INTERVALS[INTERVALS.length - 1];
}

/** @type {Map<string, Intl.DateTimeFormat>} */
const formats = new Map();

/** @param {string} tz "utc" or "local" @param {Intl.DateTimeFormatOptions} options */
function formatter(tz, options) {
  const key = tz + JSON.stringify(options);
  let format = formats.get(key);
  if (!format) {
    format = new Intl.DateTimeFormat("en-GB", { ...options, timeZone: tz === "utc" ? "UTC" : undefined });
    formats.set(key, format);
  }
  return format;
}

const CLOCK = /** @type {Intl.DateTimeFormatOptions} */ ({ hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
const DATE = /** @type {Intl.DateTimeFormatOptions} */ ({ day: "2-digit", month: "short" });
const YEAR = /** @type {Intl.DateTimeFormatOptions} */ ({ ...DATE, year: "numeric" });

/** A time of the list: the date is short, and without the year if that is this year. @param {string|number} when @param {string} tz */
export function shortTime(when, tz) {
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return String(when);
  const thisYear = date.getUTCFullYear() === new Date().getUTCFullYear();
  return `${formatter(tz, thisYear ? DATE : YEAR).format(date)} ${formatter(tz, CLOCK).format(date).replace(",", ".")}`;
}

/** All there is to say of a time. @param {string|number} when @param {string} tz */
export function longTime(when, tz) {
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return String(when);
  return formatter(tz, { ...CLOCK, weekday: "short", ...YEAR, timeZoneName: "short" }).format(date);
}

/** A time of the range or the histogram. @param {number} when @param {string} tz @param {number} [span] of what is shown, ms */
export function axisTime(when, tz, span = DAY) {
  const date = new Date(when);
  const clock = formatter(tz, { hour: "2-digit", minute: "2-digit", ...(span < 10 * MINUTE ? { second: "2-digit" } : {}), hourCycle: "h23" });
  if (span <= 1.5 * DAY) return clock.format(date);
  const day = formatter(tz, span > 400 * DAY ? { month: "short", year: "numeric" } : DATE).format(date);
  return span > 12 * DAY ? day : `${day} ${clock.format(date)}`;
}

/** @param {number} when @param {string} tz */
export function pointTime(when, tz) {
  const seconds = when % MINUTE === 0 ? {} : { second: /** @type {const} */ ("2-digit") };
  return formatter(tz, { ...DATE, hour: "2-digit", minute: "2-digit", ...seconds, hourCycle: "h23" }).format(when);
}

/** How long ago, in words. @param {number} ms */
export function ago(ms) {
  const units = /** @type {[number, string][]} */ ([[DAY, "day"], [HOUR, "hour"], [MINUTE, "minute"], [SECOND, "second"]]);
  for (const [size, name] of units) {
    const n = Math.floor(ms / size);
    if (n >= 1) return `${n} ${name}${n > 1 ? "s" : ""}`;
  }
  return "a moment";
}

/** A gap between two events, short. @param {number} ms */
export function gap(ms) {
  if (ms < SECOND) return `${ms} ms`;
  if (ms < MINUTE) return `${(ms / SECOND).toFixed(1)} s`;
  if (ms < HOUR) return `${Math.round(ms / MINUTE)} min`;
  return ms < 2 * DAY ? `${Math.round(ms / HOUR)} h` : `${Math.round(ms / DAY)} days`;
}

/** The value of an <input type="datetime-local">. @param {number} when @param {string} tz */
export function toInput(when, tz) {
  const date = new Date(when);
  const shifted = tz === "utc" ? date : new Date(when - date.getTimezoneOffset() * MINUTE);
  return shifted.toISOString().slice(0, 19);
}

/** @param {string} value of an <input type="datetime-local"> @param {string} tz @returns {number} NaN if it is none */
export function fromInput(value, tz) {
  return value ? new Date(tz === "utc" ? `${value}Z` : value).getTime() : NaN;
}

/** The viewer's zone, as the service wants it. @param {string} tz */
export function zoneName(tz) {
  return tz === "utc" ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

/** @param {number} n */
export function count(n) {
  return n.toLocaleString("en-GB").replace(/\u00a0/g, " ");
}

/** @param {number} ms @returns {Promise<void>} */
export function later(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
