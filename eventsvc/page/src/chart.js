// The histogram: events over time, stacked by a field; drag to zoom. Drawn by uPlot.

import uPlot from "uplot";
import { axisTime, count, pointTime } from "./time.js";

/** @typedef {import("./model.js").Counts} Counts */
/** @typedef {{name: string, values: number[], colour: number}} Series colour: the number of a colour of the style sheet */

const HEIGHT = 112, OTHER = 7;
/** The colours of levels, by their names in usual loggers and by the numbers of pino. Red means an error. */
const LEVELS = /** @type {[RegExp, number][]} */ ([
  [/^(?:fatal|crit|critical|panic|alert|emerg|emergency|60)$/i, 3],
  [/^(?:err|error|severe|50)$/i, 5],
  [/^(?:warn|warning|40)$/i, 1],
  [/^(?:info|information|informational|notice|30)$/i, 0],
  [/^(?:debug|trace|verbose|fine|finer|finest|20|10)$/i, 4],
]);

export class TimeChart extends HTMLElement {
  constructor() {
    super();
    this.zoom = (/** @type {number} */ _from, /** @type {number} */ _to) => {};
    /** @type {Counts|null} */
    this.counts = null;
    this.tz = this.theme = "";
    /** @type {uPlot|null} */
    this.plot = null;
    this.tip = document.createElement("div");
    this.tip.className = "chart-tip";
    this.tip.hidden = true;
    this.resized = new ResizeObserver(() => this.plot?.setSize({ width: this.clientWidth, height: HEIGHT }));
  }

  connectedCallback() {
    this.resized.observe(this);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", () => this.draw());
  }

  disconnectedCallback() {
    this.resized.disconnect();
  }

  /** @param {Counts|null} counts @param {string} tz @param {string} theme */
  show(counts, tz, theme) {
    if (counts === this.counts && tz === this.tz && theme === this.theme) return;
    [this.counts, this.tz, this.theme] = [counts, tz, theme];
    this.draw();
  }

  draw() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.counts) return;
    const { times, series } = stacks(this.counts);
    this.series = series;
    this.times = times;
    this.setAttribute("role", "img");
    this.setAttribute("aria-label", description(this.counts, this.tz));
    this.plot = new uPlot(this.options(this.counts, series), [times.map((t) => t / 1000), ...summed(series)], this);
    this.plot.over.append(this.tip);
  }

  /** @param {Counts} counts @param {Series[]} series @returns {uPlot.Options} */
  options(counts, series) {
    const style = getComputedStyle(this);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    const text = resolved(this, "--muted"), grid = resolved(this, "--line");
    const span = counts.to - counts.from;
    const font = `11px ${colour("--sans")}`;
    return {
      width: this.clientWidth || 600, height: HEIGHT, padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
      // A bar is drawn from the start of its interval. The last bar may reach past `to`.
      scales: { x: { time: true, range: [Math.min(counts.from, this.times?.[0] ?? counts.from) / 1000, Math.max(counts.to, counts.from + 1) / 1000] }, y: { range: (_, __, max) => [0, Math.max(max, 1) * 1.05] } },
      axes: [
        { stroke: text, font, size: 26, gap: 4, grid: { show: false }, ticks: { stroke: grid, size: 4 }, space: 80, values: (_, splits) => splits.map((s) => axisTime(s * 1000, this.tz, span)) },
        { stroke: text, font, size: 48, gap: 4, grid: { stroke: grid, width: 1 }, ticks: { show: false }, space: 28, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8], values: (_, splits) => splits.map(short) },
      ],
      series: [{}, ...series.map(({ colour }) => this.bars(counts, colour)).reverse()],
      hooks: { setSelect: [(plot) => this.selected(plot)], setCursor: [(plot) => this.hover(plot)] },
    };
  }

  /** @param {Counts} counts @param {number} number @returns {uPlot.Series} */
  bars(counts, number) {
    const fill = resolved(this, `--series-${number}`);
    const paths = /** @type {NonNullable<typeof uPlot.paths.bars>} */ (uPlot.paths.bars)({ size: [0.88, 60], align: 1, gap: 0 });
    return { fill, stroke: fill, width: 0, paths, points: { show: false }, show: counts.count > 0 };
  }

  /** @param {uPlot} plot */
  selected(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const from = plot.posToVal(left, "x") * 1000, to = plot.posToVal(left + width, "x") * 1000;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    const step = this.counts?.step ?? 1;
    // Select whole bars, unless the selection lies within one bar.
    const [start, end] = to - from > step ? [Math.floor(from / step) * step, Math.ceil(to / step) * step] : [from, to];
    this.zoom(Math.round(start), Math.round(Math.max(end, start + 1)));
  }

  /** @param {uPlot} plot */
  hover(plot) {
    const { left = -1 } = plot.cursor;
    const at = this.times && left >= 0 ? barAt(this.times, plot.posToVal(left, "x") * 1000) : -1;
    this.tip.hidden = at < 0;
    if (at < 0 || !this.times || !this.series || !this.counts) return;
    const start = this.times[at], end = start + this.counts.step;
    const rows = this.series.map(({ name, values, colour }) => ({ name, value: values[at], colour })).filter(({ value }) => value > 0);
    const total = rows.reduce((sum, { value }) => sum + value, 0);
    const pending = end > Date.now() ? " (still counting)" : "";
    this.tip.replaceChildren(
      element("b", `${pointTime(start, this.tz)} – ${pointTime(end, this.tz)}`),
      element("span", `${count(total)} event${total === 1 ? "" : "s"}${pending}`),
      ...(rows.length > 1 || rows[0]?.name ? rows.map(({ name, value, colour: number }) => element("span", `${name}  ${count(value)}`, `swatch series-${number}`)) : []),
    );
    const right = left > plot.over.clientWidth / 2;
    this.tip.style.left = right ? "auto" : `${left + 14}px`;
    this.tip.style.right = right ? `${plot.over.clientWidth - left + 14}px` : "auto";
  }
}

/** @param {string} name @param {string} text @param {string} [className] */
function element(name, text, className = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** A colour of the style sheet as the canvas takes it. @param {Element} within @param {string} name */
function resolved(within, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  within.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** @param {number[]} times @param {number} at */
function barAt(times, at) {
  let found = -1;
  for (let i = 0; i < times.length && times[i] <= at; i += 1) found = i;
  return found;
}

/** The starts of all intervals, also of empty intervals, and one series for each value. @param {Counts} counts @returns {{times: number[], series: Series[]}} */
export function stacks(counts) {
  const totals = byStart(counts.buckets);
  const times = stretch(counts, [...totals.keys()]);
  const tops = counts.top.filter(({ buckets }) => buckets);
  const parts = tops.map(({ value, buckets }) => ({ name: shown(value), values: filled(times, byStart(buckets ?? [])), colour: colourOf(counts, value) }));
  const rest = filled(times, totals).map((total, i) => total - parts.reduce((sum, { values }) => sum + values[i], 0));
  const series = rest.some((n) => n > 0) || !parts.length ? [...parts, { name: parts.length ? "other" : "", values: rest, colour: parts.length ? OTHER : 0 }] : parts;
  return { times, series };
}

/** The colour of a value by which the histogram is stacked, or -1; levels have colours of their own. @param {Counts|null} counts @param {unknown} value */
export function colourOf(counts, value) {
  const names = (counts?.top ?? []).filter(({ buckets }) => buckets).map((top) => shown(top.value));
  const at = names.indexOf(shown(value));
  return at >= 0 && names.every((name) => levelOf(name) >= 0) ? levelOf(names[at]) : at;
}

/** @param {string} name */
function levelOf(name) {
  return LEVELS.find(([pattern]) => pattern.test(name))?.[1] ?? -1;
}

/** A value as people read it. @param {unknown} value @returns {string} */
export function shown(value) {
  return Array.isArray(value) ? value.map(shown).join(" / ") : value === "" ? "(empty)" : String(value);
}

/** @param {{start: string, count: number}[]} buckets */
function byStart(buckets) {
  return new Map(buckets.map(({ start, count: n }) => [Date.parse(start), n]));
}

/** @param {number[]} times @param {Map<number, number>} counted */
function filled(times, counted) {
  return times.map((time) => counted.get(time) ?? 0);
}

/** @param {Counts} counts @param {number[]} starts */
function stretch({ from, to, step }, starts) {
  // Days and weeks of the calendar differ in length, so the starts that the service gave are kept, and only gaps are filled.
  const known = starts.sort((a, b) => a - b);
  const times = [];
  let next = known.length ? known[0] - Math.max(0, Math.floor((known[0] - from) / step)) * step : Math.floor(from / step) * step;
  for (const start of [...known, to]) {
    for (; next < start - step / 2; next += step) times.push(next);
    if (start < to) times.push(start);
    next = start + step;
  }
  return times;
}

/** Add up the series, as a stack. The largest sum comes first, so uPlot draws it behind the others. @param {Series[]} series @returns {number[][]} */
function summed(series) {
  const sums = series.map(({ values }) => [...values]);
  for (let i = 1; i < sums.length; i += 1) sums[i] = sums[i].map((n, j) => n + sums[i - 1][j]);
  return sums.reverse();
}

/** @param {number} n */
function short(n) {
  return n >= 1e6 ? `${n / 1e6} M` : n >= 1e4 ? `${n / 1e3} k` : String(n);
}

/** @param {Counts} counts @param {string} tz */
function description(counts, tz) {
  const most = counts.buckets.reduce((best, one) => (one.count > best.count ? one : best), { start: "", count: 0 });
  const peak = most.start ? `; most at ${pointTime(Date.parse(most.start), tz)}: ${count(most.count)}` : "";
  return `Events over time: ${count(counts.count)} between ${pointTime(counts.from, tz)} and ${pointTime(counts.to, tz)}${peak}`;
}

customElements.define("time-chart", TimeChart);
