/** The entries on the page: the newest version of each entry that matches the filters. */

/** The most entries that are kept. Beyond that limit the oldest are dropped. */
export const MAX_ENTRIES = 500;

// The page remembers the versions of entries that it dropped, so that an older response does not bring them back.
const MAX_DROPPED_VERSIONS = 5000;

/** Return the state of a task as people name it: a pending task is either waiting or running. */
export function stateOf(entry) {
  if (entry.status !== "pending") return entry.status;
  return entry.started_at ? "running" : "waiting";
}

export class Entries {
  #entries = new Map();
  #droppedVersions = new Map();
  #receivedIds = null;
  #filters = { kind: "", status: "" };
  #onChange;

  /** Whether older entries were dropped because of the limit. */
  isTruncated = false;

  /** `onChange()` is called after each change. */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  get size() {
    return this.#entries.size;
  }

  get filters() {
    return this.#filters;
  }

  set filters(filters) {
    this.#filters = filters;
    for (const entry of this.#entries.values()) if (!this.#matches(entry)) this.#drop(entry);
    this.#onChange();
  }

  /** Store an entry, unless a newer version of it was received before. */
  put(entry) {
    this.#receivedIds?.add(entry.id);
    const version = this.#entries.get(entry.id)?.version ?? this.#droppedVersions.get(entry.id) ?? 0;
    if (entry.version < version) return;
    this.#droppedVersions.delete(entry.id);
    if (this.#matches(entry)) this.#entries.set(entry.id, entry);
    else this.#drop(entry);
    // The entries are cut to the limit when they are rendered, and a page in the background renders nothing.
    if (this.size > 2 * MAX_ENTRIES) this.newest();
    this.#onChange();
  }

  /** Replace all entries with those that `load()` returns. Entries that arrive in the meantime stay. */
  async replace(load) {
    this.#receivedIds = new Set();
    try {
      const listed = await load();
      listed.forEach((entry) => this.put(entry));
      this.isTruncated = false;
      for (const id of this.#entries.keys()) if (!this.#receivedIds.has(id)) this.#entries.delete(id);
    } finally {
      this.#receivedIds = null;
    }
    this.#onChange();
  }

  /** Remove the entries that have expired on the server. */
  expire(now) {
    const sizeBefore = this.size;
    for (const { id, expires_at } of this.#entries.values()) {
      if (expires_at && Date.parse(expires_at) <= now) this.#entries.delete(id);
    }
    if (this.size < sizeBefore) this.#onChange();
  }

  /** Return the entries, newest first. Entries beyond the limit are dropped. */
  newest() {
    const sorted = [...this.#entries.values()].sort((one, other) => (isOlder(one, other) ? 1 : -1));
    for (const { id } of sorted.splice(MAX_ENTRIES)) {
      this.#entries.delete(id);
      this.isTruncated = true;
    }
    return sorted;
  }

  #matches(entry) {
    const { kind, status } = this.#filters;
    return (!kind || kind === entry.kind) && (!status || status === stateOf(entry));
  }

  #drop({ id, version }) {
    this.#entries.delete(id);
    this.#droppedVersions.set(id, version);
    if (this.#droppedVersions.size > MAX_DROPPED_VERSIONS) {
      this.#droppedVersions.delete(this.#droppedVersions.keys().next().value);
    }
  }
}

function isOlder(one, other) {
  // Without the Z, timestamps compare as text whether or not they have a fraction.
  const [a, b] = [one, other].map((entry) => entry.created_at.slice(0, -1));
  return a === b ? one.id < other.id : a < b;
}
