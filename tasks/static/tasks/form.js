/** The form for a new task: the kind, then the fields of the kind's payload, built from the OpenAPI schema. */

import { requestJson } from "./api.js";
import { Field, OMITTED, resolveSchema } from "./fields.js";
import { createPath, kindOfCreatePath } from "./paths.js";

const FIX_FIELDS = "Fix the marked fields, then start the task.";

export class Form {
  #form;
  #kind;
  #fieldList;
  #status;
  #onEntry;
  #document = null;
  #loading = null;
  #payloadSchemas = new Map();
  #fields = [];
  #isSending = false;
  #unconfirmed = { content: null, key: "" };

  /** `onEntry(entry)` receives the entry of each task that the form creates. */
  constructor(form, onEntry) {
    this.#form = form;
    this.#kind = form.querySelector("#form-kind");
    this.#fieldList = form.querySelector("#form-fields");
    this.#status = form.querySelector("#form-status");
    this.#onEntry = onEntry;
    this.#kind.addEventListener("change", () => this.#buildFields());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    // The second click of a double click may come after the response to the first, so it never submits.
    form.querySelector("button").addEventListener("click", (event) => event.detail > 1 && event.preventDefault());
  }

  /** Load the kinds, unless they are loaded, and return their names. */
  async loadKinds() {
    this.#loading ??= requestJson("schema")
      .then((document) => this.#useDocument(document))
      .catch((error) => {
        this.#loading = null;
        this.#showStatus(`The kinds of task could not be loaded. ${error.message}`, true);
      });
    await this.#loading;
    return [...this.#payloadSchemas.keys()];
  }

  #useDocument(document) {
    this.#document = document;
    for (const [path, { post }] of Object.entries(document.paths)) {
      const kind = kindOfCreatePath(path);
      if (kind) this.#payloadSchemas.set(kind, post.requestBody.content["application/json"].schema);
    }
    this.#kind.replaceChildren(...[...this.#payloadSchemas.keys()].map((kind) => new Option(kind)));
    this.#buildFields();
  }

  #buildFields() {
    const payload = this.#payloadSchemas.get(this.#kind.value);
    const { properties, required = [] } = resolveSchema(payload, this.#document);
    this.#fields = Object.entries(properties)
      .map(([name, schema]) => [name, resolveSchema(schema, this.#document)])
      .filter(([, schema]) => !schema.readOnly)
      .map(([name, schema]) => new Field(name, schema, required.includes(name)));
    const name = this.#fieldList.querySelector("[name=name]")?.value ?? "";
    this.#fieldList.replaceChildren(...this.#fields.map((field) => field.node));
    this.#fieldList.querySelector("[name=name]").value = name;
    this.#showStatus("");
  }

  async #submit() {
    if (this.#isSending || this.#payloadSchemas.size === 0) return;
    const payload = this.#readPayload();
    if (!payload) return;
    const [kind, body] = [this.#kind.value, JSON.stringify(payload)];
    const content = `${kind} ${body}`;
    // After a failure, the same content is sent with the same key, so that the server creates only one task.
    if (this.#unconfirmed.content !== content) this.#unconfirmed = { content, key: randomKey() };
    this.#isSending = true;
    this.#showStatus("Sending…");
    try {
      const headers = { "Content-Type": "application/json", "Idempotency-Key": `"${this.#unconfirmed.key}"` };
      const entry = await requestJson(createPath(kind), { method: "POST", body, headers });
      this.#unconfirmed = { content: null, key: "" };
      this.#onEntry(entry);
      this.#form.reset();
      this.#kind.value = kind;
      this.#showStatus(`Started “${entry.name}”.`);
    } catch (error) {
      this.#showError(error);
    } finally {
      this.#isSending = false;
    }
  }

  /** Return the payload, or null if the input of a field is invalid. */
  #readPayload() {
    const payload = {};
    const messages = {};
    for (const field of this.#fields) {
      try {
        const value = field.read();
        if (value !== OMITTED) payload[field.name] = value;
      } catch (error) {
        messages[field.name] = [error.message];
      }
    }
    const isInvalid = Object.keys(messages).length > 0;
    this.#showFieldErrors(messages);
    if (isInvalid) this.#showStatus(FIX_FIELDS, true);
    return isInvalid ? null : payload;
  }

  #showError(error) {
    const messages = Object.fromEntries(
      Object.entries(error.fields).map(([name, errors]) => [name, flatMessages(errors)]),
    );
    const otherNames = Object.keys(messages).filter((name) => !this.#fields.some((field) => field.name === name));
    const isFieldMarked = Object.keys(messages).length > otherNames.length;
    const sentences = [isFieldMarked ? FIX_FIELDS : error.message, ...otherNames.flatMap((name) => messages[name])];
    if (!error.status) sentences.push("Send it again. The task starts only once, even if this request arrived.");
    this.#showStatus(sentences.join(" "), true);
    this.#showFieldErrors(messages);
  }

  #showFieldErrors(messages) {
    for (const field of this.#fields) field.showErrors(messages[field.name]);
    this.#fields.find((field) => field.name in messages)?.focus();
  }

  #showStatus(text, isError = false) {
    this.#status.textContent = text;
    this.#status.classList.toggle("wrong", isError);
    this.#status.scrollIntoView({ block: "nearest" });
  }
}

/** Return all messages of a field and of the parts of its value. */
function flatMessages(errors, part = "") {
  if (typeof errors === "string") return [part ? `${part}: ${errors}` : errors];
  if (Array.isArray(errors)) return errors.flatMap((each) => flatMessages(each, part));
  return Object.entries(errors).flatMap(([name, each]) => flatMessages(each, name));
}

/** Return a random key. crypto.randomUUID() would need https. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
