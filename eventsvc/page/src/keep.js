// What this browser stores: saved views, the history of queries, the light or dark theme.

const VIEWS = "eventsvc.views", QUERIES = "eventsvc.queries", THEME = "eventsvc.theme";
const MOST_QUERIES = 50;

/** @typedef {{name: string, address: string}} View */

/** @param {string} name @returns {any} */
function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name) ?? "null");
  } catch {
    return null;
  }
}

/** @param {string} name @param {unknown} value */
function write(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // The browser stores nothing, for instance in a private window. The page works without this.
  }
}

export const keep = {
  /** @returns {View[]} */
  get views() {
    const found = read(VIEWS);
    return Array.isArray(found) ? found.filter((one) => typeof one?.name === "string" && typeof one?.address === "string") : [];
  },

  /** Save a view. A view of the same name is replaced. @param {View} view */
  saveView(view) {
    write(VIEWS, [...this.views.filter(({ name }) => name !== view.name), view].sort((a, b) => a.name.localeCompare(b.name)));
  },

  /** @param {string} name */
  dropView(name) {
    write(VIEWS, this.views.filter((one) => one.name !== name));
  },

  /** The queries that were run, the latest first. @returns {string[]} */
  get queries() {
    const found = read(QUERIES);
    return Array.isArray(found) ? found.filter((one) => typeof one === "string") : [];
  },

  /** @param {string} q */
  ranQuery(q) {
    if (q.trim()) write(QUERIES, [q, ...this.queries.filter((one) => one !== q)].slice(0, MOST_QUERIES));
  },

  forgetQueries() {
    write(QUERIES, []);
  },

  /** "light", "dark", or "" for the theme of the system. @returns {string} */
  get theme() {
    const found = read(THEME);
    return found === "light" || found === "dark" ? found : "";
  },

  set theme(value) {
    write(THEME, value);
  },
};
