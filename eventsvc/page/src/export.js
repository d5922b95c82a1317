// Exports all matching events to a file: NDJSON, or CSV of the columns. Shows the progress, and can be stopped.

import { readJson, writeJson } from "./json.js";
import { textOf } from "./list.js";
import { zoneName } from "./time.js";

/** @typedef {import("./model.js").Model} Model */

export class Exporter {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {{done: number, total: number, error: string, finished: boolean, name: string}|null} */
    this.job = null;
    this.stopping = new AbortController();
  }

  /** @param {"ndjson"|"csv"} form */
  async start(form) {
    const { model } = this;
    const name = `events-${new Date().toISOString().slice(0, 19).replace(/[T:]/g, "-")}.${form}`;
    this.stopping = new AbortController();
    this.job = { done: 0, total: model.counts?.count ?? 0, error: "", finished: false, name };
    model.changed();
    try {
      const blob = await this.gather(form, this.job);
      save(blob, name);
      this.job.finished = true;
    } catch (error) {
      if (this.stopping.signal.aborted) this.job = null;
      else this.job.error = /** @type {Error} */ (error).message;
    }
    model.changed();
  }

  stop() {
    this.stopping.abort();
    this.job = null;
    this.model.changed();
  }

  /** @param {"ndjson"|"csv"} form @param {NonNullable<Exporter["job"]>} job */
  async gather(form, job) {
    const { model } = this;
    const columns = ["createdAt", "id", ...model.state.cols.filter((name) => name !== "createdAt" && name !== "id")];
    const query = { q: model.query, asOf: model.state.asOf, tz: zoneName(model.state.tz), order: model.state.order, trailer: "true", ...model.orderBy() };
    // The browser keeps large blobs on disk. Strings would fill the memory of the page.
    let parts = form === "csv" ? [`${columns.map(quoted).join(",")}\r\n`] : [], whole = new Blob(), complete = false;
    for await (const line of model.api.lines("event", query, "application/x-ndjson", this.stopping.signal)) {
      if (/^\{"(?:count|error)":/.test(line)) {
        const last = JSON.parse(line);
        if (last.error) throw new Error(last.error.detail);
        complete = last.count === job.done;
        continue;
      }
      if (!line) continue;
      parts.push(form === "csv" ? `${csv(readJson(line), columns)}\r\n` : `${line}\n`);
      job.done += 1;
      if (parts.length < 5000) continue;
      whole = new Blob([whole, ...parts]);
      parts = [];
      model.changed();
    }
    if (!complete) throw new Error("The answer broke off: the file would not be whole.");
    return new Blob([whole, ...parts], { type: form === "csv" ? "text/csv" : "application/x-ndjson" });
  }
}

/** @param {any} event @param {string[]} columns */
function csv(event, columns) {
  return columns.map((name) => quoted(name === "data" ? writeJson(event.data, "") : textOf(event, name))).join(",");
}

// SECURITY: a spreadsheet runs a text with such a beginning as a formula. The list is DANGEROUS of eventsvc/api/csv.py; a test compares.
const DANGEROUS = "=+-@\t\r\n＝＋－＠";

/** Write a cell of CSV. A text that a spreadsheet would run as a formula gets an apostrophe. @param {string} text */
function quoted(text) {
  const safe = text && DANGEROUS.includes(text[0]) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

/** @param {Blob} blob @param {string} name */
function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
