/** What the page knows of the tasks: the newest version of each entry that the filters let through. */

/** How many entries are kept; past that the oldest go. */
export const MOST = 500;

// The versions of entries that were heard of and not kept, so that an older answer does not bring them back.
const MOST_PASSED = 5000;

/** How people call the state of a task; what is pending either waits or runs. */
export function stateOf(entry) {
  if (entry.status !== "pending") return entry.status;
  return entry.started_at ? "running" : "waiting";
}

export class Entries {
  #kept = new Map();
  #passed = new Map();
  #heard = null;
  #filters = { kind: "", status: "" };
  #changed;

  /** Whether older entries went because there were too many. */
  cut = false;

  /** `changed()` is called after each change. */
  constructor(changed) {
    this.#changed = changed;
  }

  get size() {
    return this.#kept.size;
  }

  get filters() {
    return this.#filters;
  }

  set filters(filters) {
    this.#filters = filters;
    for (const entry of this.#kept.values()) if (!this.#fits(entry)) this.#pass(entry);
    this.#changed();
  }

  /** Take an entry in, unless a newer version of it was here. */
  put(entry) {
    this.#heard?.add(entry.id);
    const known = this.#kept.get(entry.id)?.version ?? this.#passed.get(entry.id) ?? 0;
    if (entry.version < known) return;
    this.#passed.delete(entry.id);
    if (this.#fits(entry)) this.#kept.set(entry.id, entry);
    else this.#pass(entry);
    // A page in the background draws nothing for a long time, and drawing is what cuts.
    if (this.size > 2 * MOST) this.newest();
    this.#changed();
  }

  /** Hand over what `load()` lists; entries that it lacks go, but for those that came meanwhile. */
  async replace(load) {
    this.#heard = new Set();
    try {
      const listed = await load();
      listed.forEach((entry) => this.put(entry));
      this.cut = false;
      for (const id of this.#kept.keys()) if (!this.#heard.has(id)) this.#kept.delete(id);
    } finally {
      this.#heard = null;
    }
    this.#changed();
  }

  /** Drop what the server has forgotten by now. */
  expire(now) {
    const before = this.size;
    for (const { id, expires_at } of this.#kept.values()) {
      if (expires_at && Date.parse(expires_at) <= now) this.#kept.delete(id);
    }
    if (this.size < before) this.#changed();
  }

  /** The entries, newest first, and no more than are kept. */
  newest() {
    const sorted = [...this.#kept.values()].sort((one, other) => (isOlder(one, other) ? 1 : -1));
    for (const { id } of sorted.splice(MOST)) {
      this.#kept.delete(id);
      this.cut = true;
    }
    return sorted;
  }

  #fits(entry) {
    const { kind, status } = this.#filters;
    return (!kind || kind === entry.kind) && (!status || status === stateOf(entry));
  }

  #pass({ id, version }) {
    this.#kept.delete(id);
    this.#passed.set(id, version);
    if (this.#passed.size > MOST_PASSED) this.#passed.delete(this.#passed.keys().next().value);
  }
}

function isOlder(one, other) {
  // Without its Z, a time compares as text whether it has a fraction or not.
  const [a, b] = [one, other].map((entry) => entry.created_at.slice(0, -1));
  return a === b ? one.id < other.id : a < b;
}
