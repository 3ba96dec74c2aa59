/** A field of a form, from the JSON schema of a value. */

import { make } from "./dom.js";

const INPUTS = {
  date: "date",
  time: "time",
  "date-time": "datetime-local",
  email: "email",
  uri: "url",
  password: "password",
};
const CHOICE = /^\* `(.*)` - (.*)$/gm;
// What is longer than this may have several lines.
const ONE_LINE = 255;

/** What a form does not send. */
export const NOTHING = Symbol("nothing");

/** The schema with all that it refers to in it, and without null. */
export function resolved(schema, document) {
  const { $ref, allOf = [], oneOf = [], anyOf = [], ...own } = schema;
  const referred = $ref?.slice(2).split("/").reduce((part, key) => part[key], document);
  const [parts, all] = [[referred, ...allOf].filter(Boolean), [...oneOf, ...anyOf]].map((schemas) =>
    schemas.map((part) => resolved(part, document)),
  );
  const choices = all.filter((choice) => choice.type !== "null");
  if (choices.length === 1) parts.push(choices[0]);
  else if (choices.length > 1 && choices.every((choice) => choice.enum)) {
    parts.push({ enum: choices.flatMap((choice) => choice.enum) });
  }
  const merged = Object.assign({}, ...parts, own);
  const types = [merged.type ?? []].flat();
  const others = types.filter((type) => type !== "null");
  const type = others.length === 1 ? others[0] : types.length === 1 ? "null" : undefined;
  return { ...merged, type, enum: merged.enum?.filter((choice) => choice !== null) };
}

export class Field {
  #schema;
  #control;
  #wrong = make("p", { className: "wrong", hidden: true });
  #isRequired;

  /** `schema` is a resolved one. */
  constructor(name, schema, isRequired) {
    this.name = name;
    this.#schema = schema;
    this.#isRequired = isRequired;
    this.#control = this.#makeControl();
    const id = `field-${name}`;
    const label = make("label", { htmlFor: id, textContent: words(name) });
    if (!isRequired && this.#control.type !== "checkbox") {
      label.append(" ", make("span", { className: "optional", textContent: "optional" }));
    }
    const hint = make("p", { className: "hint", id: `${id}-hint`, textContent: this.#hint() });
    this.#wrong.id = `${id}-wrong`;
    Object.assign(this.#control, { id, name, autocomplete: "off" });
    this.#control.setAttribute("aria-describedby", `${hint.id} ${this.#wrong.id}`);
    if (isRequired) this.#control.ariaRequired = "true";
    const isTicked = this.#control.type === "checkbox";
    this.node = make("div", { className: isTicked ? "field ticked" : "field" });
    this.node.append(...(isTicked ? [this.#control, label] : [label, this.#control]), hint, this.#wrong);
    hint.hidden = !hint.textContent;
  }

  /** The value to send, or NOTHING. Throws Error with a message for what the control holds and nobody can send. */
  read() {
    const { type, enum: choices } = this.#schema;
    const { value, checked, validity } = this.#control;
    if (this.#control.type === "checkbox") return checked;
    if (validity.badInput) throw new Error(type === "integer" ? "Enter a whole number." : "Enter a value in full.");
    if (value === "") return this.#isRequired && this.#isText() && !this.#schema.format ? "" : NOTHING;
    if (choices) return choices[Number(value)];
    if (type === "boolean") return value === "true";
    // A larger number would be rounded here; as text it arrives as it was entered.
    if (this.#isNumber()) return Math.abs(Number(value)) > Number.MAX_SAFE_INTEGER ? value : Number(value);
    if (this.#control.type === "datetime-local") return new Date(value).toISOString();
    if (this.#isText()) return value;
    try {
      return JSON.parse(value);
    } catch {
      throw new Error(`Enter JSON, as in ${this.#example()}.`);
    }
  }

  /** Show what is wrong beside the field; without messages, that nothing is. */
  refuse(messages = []) {
    this.#wrong.textContent = messages.join(" ");
    this.#wrong.hidden = messages.length === 0;
    this.#control.ariaInvalid = messages.length > 0 ? "true" : null;
  }

  focus() {
    this.#control.focus();
  }

  #makeControl() {
    const { type, format, enum: choices, default: preset, minimum, maximum, maxLength } = this.#schema;
    if (choices) {
      const options = choices.map((choice, index) => [index, this.#label(choice)]);
      return this.#select(options, choices.indexOf(preset));
    }
    if (type === "boolean") {
      // What may be left out has a third state.
      const isSure = this.#isRequired || typeof preset === "boolean";
      const options = Object.entries({ true: "Yes", false: "No" });
      return isSure ? make("input", { type: "checkbox", defaultChecked: preset }) : this.#select(options);
    }
    if (this.#isNumber()) {
      const [min, max, step] = [minimum ?? "", maximum ?? "", type === "integer" ? 1 : "any"];
      return make("input", { type: "number", min, max, step, defaultValue: preset ?? "" });
    }
    if (this.#isJson()) {
      const text = preset === undefined ? "" : JSON.stringify(preset);
      return make("textarea", { rows: 2, spellcheck: false, className: "code", defaultValue: text });
    }
    if (format in INPUTS) return make("input", { type: INPUTS[format], defaultValue: preset ?? "" });
    if (format === "decimal") return make("input", { type: "text", inputMode: "decimal", defaultValue: preset ?? "" });
    if (maxLength <= ONE_LINE) return make("input", { type: "text", defaultValue: preset ?? "" });
    return make("textarea", { rows: 1, defaultValue: preset ?? "" });
  }

  #select(options, chosen = -1) {
    const select = make("select");
    if (!this.#isRequired && chosen < 0) select.append(new Option("–", ""));
    for (const [index, [value, text]] of options.entries()) {
      select.append(new Option(text, value, index === chosen, index === chosen));
    }
    return select;
  }

  #label(choice) {
    const labels = [...(this.#schema.description ?? "").matchAll(CHOICE)];
    return labels.find(([, value]) => value === String(choice))?.[2] ?? String(choice);
  }

  #hint() {
    const { description = "", minimum, maximum } = this.#schema;
    const sentences = [description.replace(CHOICE, "").trim()];
    if (minimum !== undefined && maximum !== undefined) {
      sentences.push(`From ${grouped(minimum)} to ${grouped(maximum)}.`);
    } else if (minimum !== undefined) sentences.push(`${grouped(minimum)} or more.`);
    else if (maximum !== undefined) sentences.push(`${grouped(maximum)} or less.`);
    if (this.#isJson()) sentences.push(`JSON, as in ${this.#example()}.`);
    return sentences.filter(Boolean).join(" ");
  }

  #example() {
    if (this.#schema.type === "object") return '{"key": "value"}';
    const item = { integer: "1, 2", number: "1.5, 2" }[this.#schema.items?.type] ?? '"one", "two"';
    return `[${item}]`;
  }

  #isJson() {
    return !(this.#schema.enum || this.#schema.type === "boolean" || this.#isText() || this.#isNumber());
  }

  #isText() {
    return this.#schema.type === "string" && !this.#schema.enum;
  }

  #isNumber() {
    return ["integer", "number"].includes(this.#schema.type) && !this.#schema.enum;
  }
}

const grouped = (number) => number.toLocaleString("en");

function words(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}
