// The entry point: makes the model and the screen, and handles keyboard shortcuts.

import { Api } from "./api.js";
import { App } from "./app.js";
import "./chart.js";
import "./editor.js";
import "./list.js";
import { Model } from "./model.js";

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
/** @type {App|null} */
let app = null;
const model = new Model(new Api(), () => app?.changed());
app = new App(model, root);
root.replaceChildren();
app.draw();
addEventListener("keydown", pressed);
void model.start().then(() => app?.fault(model.fault));

/** @param {KeyboardEvent} event */
function pressed(event) {
  if (!app || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = /** @type {Element} */ (event.composedPath()[0]);
  if (event.key === "Escape" && !target.matches("input, .cm-content")) return leave();
  if (target.matches("input, textarea, select, [contenteditable=true]")) return;
  const act = keys[event.key];
  if (!act || (event.key === "Enter" && target.matches("button, a, summary"))) return;
  event.preventDefault();
  act(app);
}

/** @type {Record<string, (app: App) => void>} */
const keys = {
  "/": (on) => on.editor?.focus(),
  j: (on) => move(on, 1),
  ArrowDown: (on) => move(on, 1),
  k: (on) => move(on, -1),
  ArrowUp: (on) => move(on, -1),
  Enter: (on) => on.openRow(Math.max(0, model.row)),
  c: () => around(),
  l: (on) => on.toggleLive(),
  t: () => chooseRange(),
  "?": (on) => on.dialog("help").showModal(),
};

function chooseRange() {
  /** @type {HTMLElement|null} */ (document.querySelector("button.range"))?.click();
  const pop = document.querySelector("#range:popover-open");
  /** @type {HTMLElement|null|undefined} */ (pop?.querySelector(".lasts [aria-pressed=true]") ?? pop?.querySelector("button"))?.focus();
}

/** @param {App} on @param {number} step */
function move(on, step) {
  model.select(model.row < 0 ? 0 : model.row + step);
  on.list?.reveal(model.row);
}

function around() {
  const id = model.state.event || model.pages.at(model.row)?.id;
  if (id) model.set({ around: id, event: "" });
}

function leave() {
  if (document.querySelector("[popover]:popover-open")) return;
  if (model.state.event) model.set({ event: "" }, true);
  else if (model.state.around) model.set({ around: "", same: [] });
}
