// Shows the text of events: terminal colours, marked matches, stack traces. The text only ever becomes text nodes.

import { html, nothing } from "lit-html";

/** @typedef {{text: string, style: string}} Run */

const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const SGR = /\u001b\[([0-9;]*)m/;
// Other control sequences of terminals.
const OTHER = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|.)?/g;

/** Cut a text with ANSI colours into runs of one style each. @param {string} text @returns {Run[]} */
export function runs(text) {
  if (!text.includes("\u001b")) return [{ text, style: "" }];
  /** @type {Run[]} */
  const found = [];
  let style = new Style();
  const parts = text.split(SGR);
  parts.forEach((part, i) => {
    if (i % 2) style = style.after(part);
    else if (part) found.push({ text: part.replace(OTHER, ""), style: style.name });
  });
  return found.filter((run) => run.text);
}

class Style {
  constructor(colour = "", bold = false, underlined = false) {
    this.colour = colour;
    this.bold = bold;
    this.underlined = underlined;
  }

  get name() {
    return [this.colour && `ansi-${this.colour}`, this.bold && "ansi-bold", this.underlined && "ansi-underlined"].filter(Boolean).join(" ");
  }

  /** @param {string} codes @returns {Style} */
  after(codes) {
    let { colour, bold, underlined } = this;
    for (const code of (codes || "0").split(";").map(Number)) {
      if (code === 0) [colour, bold, underlined] = ["", false, false];
      else if (code === 1) bold = true;
      else if (code === 4) underlined = true;
      else if (code === 22) bold = false;
      else if (code === 24) underlined = false;
      else if (code === 39) colour = "";
      else if ((code >= 30 && code < 38) || (code >= 90 && code < 98)) colour = COLOURS[code % 10];
    }
    return new Style(colour, bold, underlined);
  }
}

/** Show a text with its colours, and mark the needles in it. @param {string} text @param {string[]} needles */
export function marked(text, needles) {
  return runs(text).map(({ text: part, style }) => (style ? html`<span class=${style}>${marks(part, needles)}</span>` : marks(part, needles)));
}

/** @param {string} text @param {string[]} needles */
function marks(text, needles) {
  if (!needles.length) return text;
  const pattern = new RegExp(needles.map((needle) => needle.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")).join("|"), "giu");
  /** @type {unknown[]} */
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    parts.push(text.slice(at, match.index), html`<mark>${match[0]}</mark>`);
    at = match.index + match[0].length;
  }
  return parts.length ? [...parts, text.slice(at)] : text;
}

/** One line of a list: line breaks are shown as signs. @param {string} text @param {string[]} needles */
export function line(text, needles) {
  const short = text.length > 2000 ? `${text.slice(0, 2000)}…` : text;
  return marked(short.replace(/\r?\n/g, " ⏎ ").replace(/\t/g, " "), needles);
}

const FRAME = /^\s*(?:at\s|File "|\.{3} \d+ more|[\w.$/]+\.(?:go|rb|py|js|ts|php|rs):\d+)/;
const CAUSE = /^\s*(?:Caused by:|[\w.$]+(?:Error|Exception|Panic)\b|Traceback|panic:)/;

/** Show a text of several lines. The style sheet dims the frames of a stack trace. @param {string} text @param {string[]} needles */
export function block(text, needles) {
  const lines = text.split("\n");
  const trace = lines.length > 2 && lines.some((one) => FRAME.test(one));
  if (!trace) return html`<div class="block" dir="auto">${marked(text, needles)}</div>`;
  return html`<div class="block trace">${lines.map((one) => {
    const kind = CAUSE.test(one) ? "cause" : FRAME.test(one) ? "frame" : "";
    return html`<span class=${kind || nothing}>${marked(one, needles)}\n</span>`;
  })}</div>`;
}

/** Put a text on the clipboard. @param {string} text @returns {Promise<boolean>} false if the browser forbids this */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
