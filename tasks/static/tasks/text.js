/** Times and JSON values as people read them. */

const MAX_LINE_LENGTH = 80;
const MAX_BLOCK_LENGTH = 20_000;

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** Return the time between two moments: "340 ms", "12 s", "3 min 5 s", "2 h 10 min", "4 d 3 h". */
export function formatDuration(from, to) {
  const milliseconds = Math.max(0, Math.round(to - from));
  const seconds = Math.floor(milliseconds / 1000);
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  if (minutes) return `${minutes} min ${seconds % 60} s`;
  return seconds ? `${seconds < 10 ? (milliseconds / 1000).toFixed(1) : seconds} s` : `${milliseconds} ms`;
}

/** Return the time between two moments in whole seconds, for a duration that is updated every second. */
export function formatWholeSeconds(from, to) {
  const whole = Math.floor((to - from) / 1000) * 1000;
  return whole < 10_000 ? `${Math.max(0, whole / 1000)} s` : formatDuration(0, whole);
}

/** Return the time, with its date unless that is today. */
export function formatTime(time) {
  const date = new Date(time);
  return (date.toDateString() === new Date().toDateString() ? clock : calendar).format(date);
}

/** Return a JSON value as one line. The end of a long value is cut off. */
export function formatLine(value) {
  if (value === null || value === undefined) return "";
  const text = isFlatObject(value)
    ? Object.entries(value)
        .map(([name, part]) => `${name}: ${plainOrJson(part)}`)
        .join(", ")
    : plainOrJson(value);
  return text.length <= MAX_LINE_LENGTH ? text : `${text.slice(0, MAX_LINE_LENGTH)}…`;
}

/** Return a JSON value as indented lines. The end of a very long value is cut off. */
export function formatBlock(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  if (text.length <= MAX_BLOCK_LENGTH) return text;
  return `${text.slice(0, MAX_BLOCK_LENGTH)}\n… and ${text.length - MAX_BLOCK_LENGTH} more characters`;
}

const plainOrJson = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function isFlatObject(value) {
  return (
    typeof value === "object" &&
    !Array.isArray(value) &&
    Object.values(value).every((part) => part === null || typeof part !== "object")
  );
}
