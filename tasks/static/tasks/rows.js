/** The list on the page. The row of an entry is changed in place, so that focus and selection stay where they are. */

import { requestJson, serverTime } from "./api.js";
import { createElement, setText } from "./dom.js";
import { stateOf } from "./entries.js";
import { pollPath } from "./paths.js";
import { formatBlock, formatDuration, formatLine, formatTime, formatWholeSeconds } from "./text.js";

const STATE_LABELS = {
  waiting: "Waiting",
  running: "Running",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
};

export class Rows {
  #list;
  #heading;
  #createRow;
  #rows = new Map();

  /** `onEntry(entry)` receives the entry of each response to a button of a row. */
  constructor(list, heading, template, onEntry) {
    this.#list = list;
    this.#heading = heading;
    this.#createRow = () => new Row(template.content.firstElementChild.cloneNode(true), onEntry);
  }

  /** Show these entries in this order. */
  show(entries) {
    const ids = new Set(entries.map((entry) => entry.id));
    for (const [id, row] of this.#rows) if (!ids.has(id)) this.#remove(id, row.node);
    let next = this.#list.firstElementChild;
    for (const entry of entries) {
      const row = this.#rows.get(entry.id) ?? this.#createRow();
      this.#rows.set(entry.id, row);
      row.show(entry);
      // The order of entries never changes, so a row is never moved. A move would take the focus from it.
      if (row.node === next) next = next.nextElementSibling;
      else this.#list.insertBefore(row.node, next);
    }
  }

  /** Update the durations of all rows. */
  tick() {
    for (const row of this.#rows.values()) row.tick();
  }

  #remove(id, node) {
    if (node.contains(document.activeElement)) {
      (node.nextElementSibling ?? node.previousElementSibling ?? this.#heading).focus({ preventScroll: true });
    }
    node.remove();
    this.#rows.delete(id);
  }
}

class Row {
  #parts;
  #facts = new Map();
  #entry = null;
  #onEntry;

  constructor(node, onEntry) {
    this.node = node;
    this.#onEntry = onEntry;
    this.#parts = Object.fromEntries([...node.querySelectorAll("[data-is]")].map((part) => [part.dataset.is, part]));
    this.#parts.cancel.addEventListener("click", () => this.#cancel());
    this.#parts.more.addEventListener("click", () => this.#toggleFacts());
  }

  show(entry) {
    if (entry.version === this.#entry?.version) return;
    this.#entry = entry;
    const state = stateOf(entry);
    const parts = this.#parts;
    this.node.dataset.state = state;
    setText(parts.state, STATE_LABELS[state]);
    parts.icon.setAttribute("href", `#${state}`);
    setText(parts.name, entry.name);
    setText(parts.kind, entry.kind);
    setText(parts.created, formatTime(entry.created_at));
    parts.created.dateTime = entry.created_at;
    setText(parts.attempt, attemptText(entry, state));
    this.#showProgress(state);
    this.#showOutcome();
    parts.cancel.ariaLabel = `Cancel ${entry.name}`;
    parts.more.ariaLabel = `Details of ${entry.name}`;
    if (entry.status !== "pending") this.#hideCancelButton();
    this.tick();
    this.#showFacts();
  }

  /** Update the durations. */
  tick() {
    const { created_at, started_at, finished_at } = this.#entry;
    const [created, started, finished] = [created_at, started_at, finished_at].map((time) => time && Date.parse(time));
    const waitEnd = started ?? finished;
    const waited = waitEnd
      ? `waited ${formatDuration(created, waitEnd)}`
      : `waiting for ${formatWholeSeconds(created, serverTime())}`;
    const ran = finished
      ? `ran ${formatDuration(started, finished)}`
      : `running for ${formatWholeSeconds(started, serverTime())}`;
    setText(this.#parts.waited, waited);
    setText(this.#parts.ran, started ? ran : "");
  }

  #showProgress(state) {
    const { progress, message } = this.#entry;
    const parts = this.#parts;
    parts.doing.hidden = state !== "running";
    parts.progress.value = progress;
    setText(parts.percent, `${progress} %`);
    setText(parts.message, message);
  }

  #showOutcome() {
    const { error, result, file_path: filePath } = this.#entry;
    const parts = this.#parts;
    parts.error.hidden = !error;
    setText(parts["error-code"], error?.code ?? "");
    setText(parts["error-detail"], error?.detail ?? "");
    setText(parts.result, formatLine(result));
    parts.file.hidden = !filePath;
    if (filePath) parts.file.href = filePath;
    parts.outcome.hidden = result === null && !filePath;
  }

  #toggleFacts() {
    const { facts, more } = this.#parts;
    facts.hidden = !facts.hidden;
    more.ariaExpanded = String(!facts.hidden);
    this.#showFacts();
  }

  #showFacts() {
    if (this.#parts.facts.hidden) return;
    const entry = this.#entry;
    const { input, message, result } = entry;
    this.#showFact("Id", "a", entry.id).href = pollPath(entry);
    this.#showFact("Created", "span", formatTime(entry.created_at));
    this.#showFact("Started", "span", entry.started_at && formatTime(entry.started_at));
    this.#showFact("Ended", "span", entry.finished_at && formatTime(entry.finished_at));
    this.#showFact("Expires", "span", entry.expires_at && formatTime(entry.expires_at));
    this.#showFact("Attempts", "span", entry.attempt);
    this.#showFact("Progress", "bdi", `${entry.progress} %${message && `, ${message}`}`);
    this.#showFact("Input", "code", Object.keys(input).length > 0 && formatBlock(input));
    this.#showFact("Result", "code", result !== null && formatBlock(result));
  }

  /** Show the text under the label, or hide the fact if the text is null or false. Returns the element of the text. */
  #showFact(label, tag, text) {
    if (!this.#facts.has(label)) {
      const [term, definition] = [createElement("dt", { textContent: label }), createElement("dd")];
      const content = createElement(tag);
      definition.append(content);
      this.#parts.facts.append(term, definition);
      this.#facts.set(label, { term, definition, content });
    }
    const { term, definition, content } = this.#facts.get(label);
    term.hidden = definition.hidden = text === null || text === false;
    setText(content, String(text));
    return content;
  }

  async #cancel() {
    const path = pollPath(this.#entry);
    const { cancel, refusal } = this.#parts;
    // The button is not disabled, since a disabled button would lose the focus.
    if (cancel.ariaDisabled === "true") return;
    cancel.ariaDisabled = "true";
    setText(refusal, "");
    try {
      this.#onEntry(await requestJson(path, { method: "DELETE" }));
    } catch (error) {
      setText(refusal, error.message);
      if (error.status === 409) requestJson(path).then(this.#onEntry, () => {});
    } finally {
      cancel.ariaDisabled = null;
    }
  }

  #hideCancelButton() {
    const { cancel } = this.#parts;
    if (document.activeElement === cancel) this.node.focus({ preventScroll: true });
    cancel.hidden = true;
  }
}

function attemptText({ attempt }, state) {
  if (state === "waiting" && attempt > 0) return `attempt ${attempt} failed`;
  return attempt > 1 ? `attempt ${attempt}` : "";
}
