/** Times and values as people read them. */

const SHORT = 80;
const LONGEST = 20_000;

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** How long it is from one moment to another: "340 ms", "12 s", "3 min 5 s", "2 h 10 min", "4 d 3 h". */
export function span(from, to) {
  const milliseconds = Math.max(0, Math.round(to - from));
  const seconds = Math.floor(milliseconds / 1000);
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  if (minutes) return `${minutes} min ${seconds % 60} s`;
  return seconds ? `${seconds < 10 ? (milliseconds / 1000).toFixed(1) : seconds} s` : `${milliseconds} ms`;
}

/** Whole seconds, for what is counted each second. */
export function ticking(from, to) {
  const whole = Math.floor((to - from) / 1000) * 1000;
  return whole < 10_000 ? `${Math.max(0, whole / 1000)} s` : span(0, whole);
}

/** The time of today, and with its date any other. */
export function moment(time) {
  const date = new Date(time);
  return (date.toDateString() === new Date().toDateString() ? clock : calendar).format(date);
}

/** A value of JSON on one line; the end of a long one is left out. */
export function line(value) {
  if (value === null || value === undefined) return "";
  const text = isFlat(value)
    ? Object.entries(value)
        .map(([name, part]) => `${name}: ${word(part)}`)
        .join(", ")
    : word(value);
  return text.length <= SHORT ? text : `${text.slice(0, SHORT)}…`;
}

/** A value of JSON on as many lines as it needs; the end of a huge one is left out. */
export function block(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return text.length <= LONGEST ? text : `${text.slice(0, LONGEST)}\n… and ${text.length - LONGEST} characters more`;
}

const word = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function isFlat(value) {
  return (
    typeof value === "object" &&
    !Array.isArray(value) &&
    Object.values(value).every((part) => part === null || typeof part !== "object")
  );
}
