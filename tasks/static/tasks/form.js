/** The form for a new task: a kind, then the fields that the schema of its create has. */

import { ask } from "./ask.js";
import { Field, NOTHING, resolved } from "./fields.js";

export class Form {
  #form;
  #kind;
  #place;
  #told;
  #put;
  #document = null;
  #loading = null;
  #creates = new Map();
  #fields = [];
  #isBusy = false;
  #sent = { body: null, key: "" };

  /** `put(entry)` takes the entry of each task that is created. */
  constructor(form, put) {
    this.#form = form;
    this.#kind = form.querySelector("#form-kind");
    this.#place = form.querySelector("#form-fields");
    this.#told = form.querySelector("#form-told");
    this.#put = put;
    this.#kind.addEventListener("change", () => this.#build());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    // The second half of a double click may come when the answer to the first is here.
    form.querySelector("button").addEventListener("click", (event) => event.detail > 1 && event.preventDefault());
  }

  /** Load the kinds, unless they are here; return their names. */
  async load() {
    this.#loading ??= ask("schema")
      .then((document) => this.#take(document))
      .catch((problem) => {
        this.#loading = null;
        this.#tell(`The kinds of task are missing. ${problem.message}`, true);
      });
    await this.#loading;
    return [...this.#creates.keys()];
  }

  #take(document) {
    this.#document = document;
    for (const [path, { post }] of Object.entries(document.paths)) {
      const kind = path.match(/\/create-([a-z0-9-]+)$/)?.[1];
      if (kind) this.#creates.set(kind, post.requestBody.content["application/json"].schema);
    }
    this.#kind.replaceChildren(...[...this.#creates.keys()].map((kind) => new Option(kind)));
    this.#build();
  }

  #build() {
    const body = this.#creates.get(this.#kind.value);
    const { properties, required = [] } = resolved(body, this.#document);
    this.#fields = Object.entries(properties)
      .map(([name, schema]) => [name, resolved(schema, this.#document)])
      .filter(([, schema]) => !schema.readOnly)
      .map(([name, schema]) => new Field(name, schema, required.includes(name)));
    const name = this.#place.querySelector("[name=name]")?.value ?? "";
    this.#place.replaceChildren(...this.#fields.map((field) => field.node));
    this.#place.querySelector("[name=name]").value = name;
    this.#tell("");
  }

  async #submit() {
    if (this.#isBusy || this.#creates.size === 0) return;
    const payload = this.#read();
    if (!payload) return;
    const [kind, body] = [this.#kind.value, JSON.stringify(payload)];
    // The same key as before where the same is sent again, as after an answer that got lost: the task is made once.
    if (this.#sent.body !== `${kind} ${body}`) this.#sent = { body: `${kind} ${body}`, key: randomKey() };
    this.#isBusy = true;
    this.#tell("Sending…");
    try {
      const headers = { "Content-Type": "application/json", "Idempotency-Key": `"${this.#sent.key}"` };
      const entry = await ask(`create-${kind}`, { method: "POST", body, headers });
      this.#sent = { body: null, key: "" };
      this.#put(entry);
      this.#form.reset();
      this.#kind.value = kind;
      this.#tell(`Started “${entry.name}”.`);
    } catch (problem) {
      this.#refuse(problem);
    } finally {
      this.#isBusy = false;
    }
  }

  /** The payload, or nothing where a control holds what cannot be sent. */
  #read() {
    const payload = {};
    const wrong = {};
    for (const field of this.#fields) {
      try {
        const value = field.read();
        if (value !== NOTHING) payload[field.name] = value;
      } catch (error) {
        wrong[field.name] = [error.message];
      }
    }
    const isWrong = Object.keys(wrong).length > 0;
    this.#mark(wrong);
    if (isWrong) this.#tell("Mend the fields that are marked.", true);
    return isWrong ? null : payload;
  }

  #refuse(problem) {
    const messages = Object.fromEntries(Object.entries(problem.fields).map(([name, said]) => [name, sentences(said)]));
    const others = Object.keys(messages).filter((name) => !this.#fields.some((field) => field.name === name));
    const isBeside = Object.keys(messages).length > others.length;
    const said = isBeside ? "Mend the fields that are marked." : problem.message;
    const again = problem.status ? [] : ["Send it again: that starts the task once, even if this time it got through."];
    this.#tell([said, ...others.flatMap((name) => messages[name]), ...again].join(" "), true);
    this.#mark(messages);
  }

  #mark(messages) {
    for (const field of this.#fields) field.refuse(messages[field.name]);
    this.#fields.find((field) => field.name in messages)?.focus();
  }

  #tell(text, isWrong = false) {
    this.#told.textContent = text;
    this.#told.classList.toggle("wrong", isWrong);
    this.#told.scrollIntoView({ block: "nearest" });
  }
}

/** All messages of a field, those of its parts among them. */
function sentences(said, of = "") {
  if (typeof said === "string") return [of ? `${of}: ${said}` : said];
  if (Array.isArray(said)) return said.flatMap((each) => sentences(each, of));
  return Object.entries(said).flatMap(([part, each]) => sentences(each, part));
}

/** crypto.randomUUID is there for https alone. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
