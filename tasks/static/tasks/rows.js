/** The list on the page: a row for each entry, changed in place, so that focus and selection stay where they are. */

import { ask, now } from "./ask.js";
import { make, write } from "./dom.js";
import { stateOf } from "./entries.js";
import { block, line, moment, span, ticking } from "./text.js";

const WORDS = {
  waiting: "Waiting",
  running: "Running",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
};

export class Rows {
  #list;
  #heading;
  #template;
  #rows = new Map();

  /** `put(entry)` takes the entries that answers to a row's buttons bring. */
  constructor(list, heading, template, put) {
    this.#list = list;
    this.#heading = heading;
    this.#template = () => new Row(template.content.firstElementChild.cloneNode(true), put);
  }

  /** Make the rows show these entries, in this order. */
  show(entries) {
    const ids = new Set(entries.map((entry) => entry.id));
    for (const [id, row] of this.#rows) if (!ids.has(id)) this.#remove(id, row.node);
    let place = this.#list.firstElementChild;
    for (const entry of entries) {
      const row = this.#rows.get(entry.id) ?? this.#template();
      this.#rows.set(entry.id, row);
      row.show(entry);
      // The order never changes, so that a row that is here never moves, which would take its focus.
      if (row.node === place) place = place.nextElementSibling;
      else this.#list.insertBefore(row.node, place);
    }
  }

  /** Let the times go on. */
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
  #put;

  constructor(node, put) {
    this.node = node;
    this.#put = put;
    this.#parts = Object.fromEntries([...node.querySelectorAll("[data-is]")].map((part) => [part.dataset.is, part]));
    this.#parts.cancel.addEventListener("click", () => this.#cancel());
    this.#parts.more.addEventListener("click", () => this.#toggle());
  }

  show(entry) {
    if (entry.version === this.#entry?.version) return;
    this.#entry = entry;
    const state = stateOf(entry);
    const is = this.#parts;
    this.node.dataset.state = state;
    write(is.state, WORDS[state]);
    is.icon.setAttribute("href", `#${state}`);
    write(is.name, entry.name);
    write(is.kind, entry.kind);
    write(is.created, moment(entry.created_at));
    is.created.dateTime = entry.created_at;
    const again = state === "waiting" && entry.attempt > 0;
    write(is.attempt, again ? `attempt ${entry.attempt} failed` : entry.attempt > 1 ? `attempt ${entry.attempt}` : "");
    this.#showWork(state);
    this.#showEnd();
    is.cancel.ariaLabel = `Cancel ${entry.name}`;
    is.more.ariaLabel = `Details of ${entry.name}`;
    if (entry.status !== "pending") this.#loseButton();
    this.tick();
    this.#showFacts();
  }

  tick() {
    const { created_at, started_at, finished_at } = this.#entry;
    const [created, started, finished] = [created_at, started_at, finished_at].map((time) => time && Date.parse(time));
    const begun = started ?? finished;
    write(this.#parts.waited, begun ? `waited ${span(created, begun)}` : `waits for ${ticking(created, now())}`);
    const ran = finished ? `ran ${span(started, finished)}` : `runs for ${ticking(started, now())}`;
    write(this.#parts.ran, started ? ran : "");
  }

  #showWork(state) {
    const { progress, message } = this.#entry;
    const is = this.#parts;
    is.doing.hidden = state !== "running";
    is.progress.value = progress;
    write(is.percent, `${progress} %`);
    write(is.message, message);
  }

  #showEnd() {
    const { error, result, file_path: path } = this.#entry;
    const is = this.#parts;
    is.error.hidden = !error;
    write(is["error-code"], error?.code ?? "");
    write(is["error-detail"], error?.detail ?? "");
    write(is.result, line(result));
    is.file.hidden = !path;
    if (path) is.file.href = path;
    is.outcome.hidden = result === null && !path;
  }

  #toggle() {
    const { facts, more } = this.#parts;
    facts.hidden = !facts.hidden;
    more.ariaExpanded = String(!facts.hidden);
    this.#showFacts();
  }

  #showFacts() {
    if (this.#parts.facts.hidden) return;
    const { id, kind, input, message, result, progress, attempt, created_at, started_at, finished_at, expires_at } =
      this.#entry;
    this.#showFact("Id", "a", id).href = `poll-${kind}/${id}`;
    this.#showFact("Created", "span", moment(created_at));
    this.#showFact("Started", "span", started_at && moment(started_at));
    this.#showFact("Ended", "span", finished_at && moment(finished_at));
    this.#showFact("Kept until", "span", expires_at && moment(expires_at));
    this.#showFact("Attempts", "span", attempt);
    this.#showFact("Progress", "bdi", `${progress} %${message && `, ${message}`}`);
    this.#showFact("Input", "code", Object.keys(input).length > 0 && block(input));
    this.#showFact("Result", "code", result !== null && block(result));
  }

  /** Show the text under that name, unless it is null or false; return the element that holds it. */
  #showFact(name, tag, text) {
    if (!this.#facts.has(name)) {
      const [term, definition, holder] = [make("dt", { textContent: name }), make("dd"), make(tag)];
      definition.append(holder);
      this.#parts.facts.append(term, definition);
      this.#facts.set(name, { term, definition, holder });
    }
    const { term, definition, holder } = this.#facts.get(name);
    term.hidden = definition.hidden = text === null || text === false;
    write(holder, String(text));
    return holder;
  }

  async #cancel() {
    const { id, kind } = this.#entry;
    const { cancel, refusal } = this.#parts;
    const address = `poll-${kind}/${id}`;
    // A button that is disabled would lose the focus.
    if (cancel.ariaDisabled === "true") return;
    cancel.ariaDisabled = "true";
    write(refusal, "");
    try {
      this.#put(await ask(address, { method: "DELETE" }));
    } catch (problem) {
      write(refusal, problem.message);
      if (problem.status === 409) ask(address).then(this.#put, () => {});
    } finally {
      cancel.ariaDisabled = null;
    }
  }

  #loseButton() {
    const { cancel } = this.#parts;
    if (document.activeElement === cancel) this.node.focus({ preventScroll: true });
    cancel.hidden = true;
  }
}
