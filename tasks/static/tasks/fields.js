/** Form fields, built from the JSON schema of their values. */

import { createElement } from "./dom.js";

const INPUT_TYPES = {
  date: "date",
  time: "time",
  "date-time": "datetime-local",
  email: "email",
  uri: "url",
  password: "password",
};
// A description has a line for each choice: * `value` - label
const CHOICE_LABEL = /^\* `(.*)` - (.*)$/gm;
// Longer text may have several lines.
const MAX_LINE_LENGTH = 255;

/** The value of a field that the payload leaves out. */
export const OMITTED = Symbol("omitted");

/** Return the schema with its references and parts merged into it, and without null. */
export function resolveSchema(schema, document) {
  const { $ref, allOf = [], oneOf = [], anyOf = [], ...own } = schema;
  const referenced = $ref?.slice(2).split("/").reduce((part, key) => part[key], document);
  const [parts, alternatives] = [[referenced, ...allOf].filter(Boolean), [...oneOf, ...anyOf]].map((schemas) =>
    schemas.map((part) => resolveSchema(part, document)),
  );
  const choices = alternatives.filter((choice) => choice.type !== "null");
  if (choices.length === 1) parts.push(choices[0]);
  else if (choices.length > 1 && choices.every((choice) => choice.enum)) {
    parts.push({ enum: choices.flatMap((choice) => choice.enum) });
  }
  const merged = Object.assign({}, ...parts, own);
  const types = [merged.type ?? []].flat();
  const otherTypes = types.filter((type) => type !== "null");
  const type = otherTypes.length === 1 ? otherTypes[0] : types.length === 1 ? "null" : undefined;
  return { ...merged, type, enum: merged.enum?.filter((choice) => choice !== null) };
}

export class Field {
  #schema;
  #control;
  #error = createElement("p", { className: "wrong", hidden: true });
  #isRequired;

  /** `schema` is the result of `resolveSchema()`. */
  constructor(name, schema, isRequired) {
    this.name = name;
    this.#schema = schema;
    this.#isRequired = isRequired;
    this.#control = this.#makeControl();
    const id = `field-${name}`;
    const isCheckbox = this.#control.type === "checkbox";
    const label = createElement("label", { htmlFor: id, textContent: labelText(name) });
    if (!isRequired && !isCheckbox) {
      label.append(" ", createElement("span", { className: "optional", textContent: "optional" }));
    }
    const hint = createElement("p", { className: "hint", id: `${id}-hint`, textContent: this.#hint() });
    this.#error.id = `${id}-error`;
    Object.assign(this.#control, { id, name, autocomplete: "off" });
    this.#control.setAttribute("aria-describedby", `${hint.id} ${this.#error.id}`);
    if (isRequired) this.#control.ariaRequired = "true";
    this.node = createElement("div", { className: isCheckbox ? "field ticked" : "field" });
    this.node.append(...(isCheckbox ? [this.#control, label] : [label, this.#control]), hint, this.#error);
    hint.hidden = !hint.textContent;
  }

  /** Return the value to send, or OMITTED. Throws Error, with a message for people, if the input is invalid. */
  read() {
    const { type, enum: choices } = this.#schema;
    const { value, checked, validity } = this.#control;
    if (this.#control.type === "checkbox") return checked;
    if (validity.badInput) throw new Error(type === "integer" ? "Enter a whole number." : "Enter a complete value.");
    if (value === "") return this.#isRequired && this.#isText() && !this.#schema.format ? "" : OMITTED;
    if (choices) return choices[Number(value)];
    if (type === "boolean") return value === "true";
    // JavaScript would round a larger number, so it is sent as text.
    if (this.#isNumber()) return Math.abs(Number(value)) > Number.MAX_SAFE_INTEGER ? value : Number(value);
    if (this.#control.type === "datetime-local") return new Date(value).toISOString();
    if (this.#isText()) return value;
    try {
      return JSON.parse(value);
    } catch {
      throw new Error(`Enter JSON, as in ${this.#example()}.`);
    }
  }

  /** Show the messages below the field and mark it as invalid. Without messages the field is valid. */
  showErrors(messages = []) {
    this.#error.textContent = messages.join(" ");
    this.#error.hidden = messages.length === 0;
    this.#control.ariaInvalid = messages.length > 0 ? "true" : null;
  }

  focus() {
    this.#control.focus();
  }

  #makeControl() {
    const { type, format, enum: choices, default: initial, minimum, maximum, maxLength } = this.#schema;
    if (choices) {
      const options = choices.map((choice, index) => [index, this.#choiceLabel(choice)]);
      return this.#select(options, choices.indexOf(initial));
    }
    if (type === "boolean") {
      // A value that can be omitted needs a third choice, so a checkbox cannot represent it.
      const isTwoState = this.#isRequired || typeof initial === "boolean";
      const options = Object.entries({ true: "Yes", false: "No" });
      return isTwoState ? createElement("input", { type: "checkbox", defaultChecked: initial }) : this.#select(options);
    }
    if (this.#isNumber()) {
      const [min, max, step] = [minimum ?? "", maximum ?? "", type === "integer" ? 1 : "any"];
      return createElement("input", { type: "number", min, max, step, defaultValue: initial ?? "" });
    }
    if (this.#isJson()) {
      const text = initial === undefined ? "" : JSON.stringify(initial);
      return createElement("textarea", { rows: 2, spellcheck: false, className: "code", defaultValue: text });
    }
    const defaultValue = initial ?? "";
    if (format in INPUT_TYPES) return createElement("input", { type: INPUT_TYPES[format], defaultValue });
    if (format === "decimal") return createElement("input", { type: "text", inputMode: "decimal", defaultValue });
    if (maxLength <= MAX_LINE_LENGTH) return createElement("input", { type: "text", defaultValue });
    return createElement("textarea", { rows: 1, defaultValue });
  }

  #select(options, selected = -1) {
    const select = createElement("select");
    if (!this.#isRequired && selected < 0) select.append(new Option("–", ""));
    for (const [index, [value, text]] of options.entries()) {
      select.append(new Option(text, value, index === selected, index === selected));
    }
    return select;
  }

  #choiceLabel(choice) {
    const labels = [...(this.#schema.description ?? "").matchAll(CHOICE_LABEL)];
    return labels.find(([, value]) => value === String(choice))?.[2] ?? String(choice);
  }

  #hint() {
    const { description = "", minimum, maximum } = this.#schema;
    const sentences = [description.replace(CHOICE_LABEL, "").trim()];
    if (minimum !== undefined && maximum !== undefined) {
      sentences.push(`From ${formatNumber(minimum)} to ${formatNumber(maximum)}.`);
    } else if (minimum !== undefined) sentences.push(`${formatNumber(minimum)} or more.`);
    else if (maximum !== undefined) sentences.push(`${formatNumber(maximum)} or less.`);
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

const formatNumber = (number) => number.toLocaleString("en");

/** Return the name of a field as a label: "Due date" for `due_date`. */
function labelText(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}
