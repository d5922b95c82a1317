// The client of the public API. The page uses nothing else of the service.

import { readJson } from "./json.js";

/** @typedef {{id: string, createdAt: string, occurredAt?: string, email: string, environment: string, component: string, message: string, data: any}} LogEvent */

const STORED_KEY = "eventsvc.key";

/** An answer that is a problem (RFC 9457). */
export class Problem extends Error {
  /** @param {Record<string, any>} body */
  constructor(body) {
    super(body.detail || body.title || "The service refused the request.");
    this.status = Number(body.status);
    this.title = String(body.title ?? "");
    this.type = String(body.type ?? "");
    /** @type {Record<string, any>} */
    this.body = body;
  }
}

/** The service did not answer. */
export class Away extends Error {}

/** The headers of an answer that tell which stores gave it, and the time it took in ms. @typedef {{source: string, reason: string, lag: number|null, watermark: number|null, took: number}} Source */

export class Api {
  constructor() {
    /** Asks the user for a key; gives "" if there will be none. @type {(rejected: boolean) => Promise<string>} */
    this.askForKey = async () => "";
    /** @type {Promise<string>|null} */
    this.asking = null;
  }

  /** The key lies in sessionStorage, so the browser forgets it with the tab, and no other site can make the browser send
   *  it (no CSRF). The Content-Security-Policy of the page keeps out scripts that could read it. */
  get key() {
    return sessionStorage.getItem(STORED_KEY) ?? "";
  }

  set key(value) {
    if (value) sessionStorage.setItem(STORED_KEY, value);
    else sessionStorage.removeItem(STORED_KEY);
  }

  /**
   * @param {string} path relative to the page @param {Record<string, string>} [query] empty values are left out
   * @param {RequestInit} [init]
   * @returns {Promise<Response>} of a success
   */
  async fetch(path, query = {}, init = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== "");
    const target = given.length ? `${path}?${new URLSearchParams(given)}` : path;
    for (;;) {
      const key = this.key;
      const response = await this.once(target, init, key);
      if (response.ok) return response;
      const problem = await readProblem(response);
      if (problem.status !== 401 || !(await this.anotherKey(key))) throw problem;
    }
  }

  /** @param {string} target @param {RequestInit} init @param {string} key */
  async once(target, init, key) {
    const headers = new Headers(init.headers);
    if (key) headers.set("Authorization", `Bearer ${key}`);
    try {
      return await fetch(target, { ...init, headers, credentials: "same-origin" });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new Away("The service does not answer.");
    }
  }

  /** Ask the user for another key. Requests that fail at the same time share one question. @param {string} used the key that was refused */
  async anotherKey(used) {
    if (this.key !== used) return true;
    this.asking ??= this.askForKey(used !== "").finally(() => (this.asking = null));
    const key = await this.asking;
    if (key) this.key = key;
    return key !== "";
  }

  /** @param {string} path @param {Record<string, string>} [query] @param {AbortSignal} [signal] @returns {Promise<{body: any, headers: Headers, source: Source}>} */
  async read(path, query, signal) {
    const began = performance.now();
    const response = await this.fetch(path, query, { signal });
    const text = await withoutBreak(response.text());
    return { body: readJson(text), headers: response.headers, source: sourceOf(response.headers, performance.now() - began) };
  }

  /** @param {string} path @param {unknown} body */
  async post(path, body) {
    const response = await this.fetch(path, {}, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return response.json();
  }

  /** The lines of a body as they come. @param {string} path @param {Record<string, string>} query @param {string} accept @param {AbortSignal} signal */
  async *lines(path, query, accept, signal) {
    const response = await this.fetch(path, query, { signal, headers: { Accept: accept } });
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await withoutBreak(reader.read());
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = /** @type {string} */ (lines.pop());
      yield* lines;
    }
    if (rest) yield rest;
  }
}

/** A body that breaks off is a service that went away. @template T @param {Promise<T>} reading */
async function withoutBreak(reading) {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Away("The answer broke off.");
  }
}

/** @param {Response} response */
async function readProblem(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem({ status: response.status, title: response.statusText, ...body });
}

/** @param {Headers} headers @param {number} took @returns {Source} */
function sourceOf(headers, took) {
  const number = (/** @type {string} */ name) => (headers.has(name) ? Number(headers.get(name)) : null);
  return {
    source: headers.get("Eventsvc-Source") ?? "", reason: headers.get("Eventsvc-Reason") ?? "",
    lag: number("Eventsvc-Lag"), watermark: number("Eventsvc-Watermark"), took,
  };
}

/** The cursor of the next page. @param {Headers} headers */
export function nextCursor(headers) {
  const next = /<([^>]*)>;\s*rel="next"/.exec(headers.get("Link") ?? "");
  return next ? (new URL(next[1], location.href).searchParams.get("cursor") ?? "") : "";
}

/** Whether a request was refused because of its key (401 or 403). @param {Problem} problem */
export function isForbidden(problem) {
  return problem.status === 401 || problem.status === 403;
}

/** Whether the service is away or is still starting. @param {unknown} error */
export function isAway(error) {
  return error instanceof Away || (error instanceof Problem && [502, 503, 504].includes(error.status));
}
