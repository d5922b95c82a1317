// The query box: CodeMirror in a shadow root, so that its styles are constructed sheets and the policy of the page needs
// no unsafe-inline.

import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, completionStatus } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { Compartment, EditorState, Prec, StateEffect, StateField } from "@codemirror/state";
import { Decoration, EditorView, keymap, placeholder, ViewPlugin } from "@codemirror/view";
import { tokenize } from "./language.js";
import sheetText from "./editor.css";

/** @typedef {import("@codemirror/autocomplete").CompletionSource} CompletionSource */

/** @type {import("@codemirror/state").StateEffectType<{from: number, to: number}|null>} */
const setFault = StateEffect.define();

const faultField = StateField.define({
  create: () => Decoration.none,
  update(marks, transaction) {
    let next = marks.map(transaction.changes);
    for (const effect of transaction.effects) {
      if (effect.is(setFault)) next = effect.value ? Decoration.set([faultMark(effect.value)]) : Decoration.none;
    }
    return next;
  },
  provide: (field) => EditorView.decorations.from(field),
});

/** @param {{from: number, to: number}} place */
function faultMark({ from, to }) {
  return Decoration.mark({ class: "fault" }).range(from, to);
}

const colours = ViewPlugin.fromClass(
  class {
    /** @param {EditorView} view */
    constructor(view) {
      this.decorations = coloured(view.state.doc.toString());
    }

    /** @param {import("@codemirror/view").ViewUpdate} update */
    update(update) {
      if (update.docChanged) this.decorations = coloured(update.state.doc.toString());
    }
  },
  { decorations: (plugin) => plugin.decorations },
);

/** @param {string} text */
function coloured(text) {
  return Decoration.set(tokenize(text).map(({ kind, from, to }) => Decoration.mark({ class: `t-${kind}` }).range(from, to)));
}

export class QueryEditor extends HTMLElement {
  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(sheetText);
    root.adoptedStyleSheets = [sheet];
    /** @type {CompletionSource} */
    this.complete = () => null;
    this.changed = (/** @type {string} */ _text) => {};
    this.run = () => {};
    this.fix = () => false;
    this.older = (/** @type {number} */ _step) => false;
    this.described = new Compartment();
    this.view = new EditorView({ root, parent: root, state: EditorState.create({ extensions: this.extensions() }) });
  }

  extensions() {
    return [
      history(),
      closeBrackets(),
      colours,
      faultField,
      autocompletion({ override: [(context) => this.complete(context)], icons: false, interactionDelay: 0, activateOnTyping: true, defaultKeymap: false }),
      Prec.highest(keymap.of([
        { key: "Enter", run: (view) => (completionStatus(view.state) === "active" && acceptCompletion(view)) || (this.run(), true) },
        { key: "Mod-Enter", run: () => (this.run(), true) },
        { key: "Tab", run: (view) => acceptCompletion(view) || this.fix() },
        { key: "Alt-Enter", run: () => this.fix() },
        { key: "Alt-ArrowUp", run: () => this.older(1) },
        { key: "Alt-ArrowDown", run: () => this.older(-1) },
        { key: "Escape", run: (view) => completionStatus(view.state) === null && (view.contentDOM.blur(), true) },
      ])),
      keymap.of([...closeBracketsKeymap, ...completionKeymap.filter(({ key }) => key !== "Enter"), ...historyKeymap, ...defaultKeymap]),
      EditorView.lineWrapping,
      placeholder(matchMedia("(max-width: 720px)").matches ? "Words, or a query" : "Words, or a query: component eq 'orders' AND message ct 'paid'"),
      EditorView.contentAttributes.of({ "aria-label": "Query", "aria-multiline": "false", spellcheck: "false", autocapitalize: "off", enterkeyhint: "search" }),
      this.described.of([]),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) this.changed(update.state.doc.toString());
      }),
    ];
  }

  get text() {
    return this.view.state.doc.toString();
  }

  /** @param {string} text */
  set text(text) {
    if (text === this.text) return;
    this.view.dispatch({ changes: { from: 0, to: this.view.state.doc.length, insert: text }, selection: { anchor: text.length } });
  }

  /** @param {number} from @param {number} to @param {string} insert */
  replace(from, to, insert) {
    this.view.dispatch({ changes: { from, to, insert }, selection: { anchor: from + insert.length }, userEvent: "input" });
  }

  /** Underline a place, or nothing. @param {{from: number, to: number}|null} place */
  mark(place) {
    const length = this.view.state.doc.length;
    const inside = place && { from: Math.min(place.from, length - 1), to: Math.min(Math.max(place.to, place.from + 1), length) };
    this.view.dispatch({
      effects: [
        setFault.of(inside && inside.from >= 0 ? inside : null),
        this.described.reconfigure(EditorView.contentAttributes.of({ "aria-invalid": String(Boolean(place)) })),
      ],
    });
  }

  focus() {
    this.view.focus();
  }

  get focused() {
    return this.view.hasFocus;
  }
}

customElements.define("query-editor", QueryEditor);
