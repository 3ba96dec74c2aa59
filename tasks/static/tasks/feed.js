/** Keeps the entries up to date: by the server's events, and by its list where there are none. */

import { ask } from "./ask.js";
import { MOST } from "./entries.js";

const PAUSE = 4000;
// A stream that is closed sooner was refused: the server has too many of them.
const SETTLED = 250;

export class Feed {
  #entries;
  #told;
  #source = null;
  #settling = 0;
  #later = 0;
  #isLive = false;
  #isFresh = true;
  #isQueued = false;
  #turn = Promise.resolve();
  #next = null;

  /** Whether the list was here at least once. */
  hasLoaded = false;

  /** `told(state, why)` hears how it stands: "connecting", "live", "polling" or "offline". */
  constructor(entries, told) {
    this.#entries = entries;
    this.#told = told;
    // A hidden page gives its connection to others: a browser has six for a server, and the server has a limit too.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.#open()));
    if (!document.hidden) this.#open();
  }

  /** Whether `older()` has something to bring. */
  get hasOlder() {
    return this.#next !== null && !this.isFull;
  }

  /** Whether the page keeps as much as it does, and may lack older entries. */
  get isFull() {
    return this.#entries.cut || this.#entries.size >= MOST;
  }

  /** Load the list anew, as far down as it is kept. */
  load() {
    if (this.#isQueued) return;
    this.#isQueued = true;
    this.#turn = this.#turn.then(() => {
      this.#isQueued = false;
      return this.#loadNow();
    });
  }

  /** Load the next page of older entries. Throws Problem. */
  older() {
    const loaded = this.#turn.then(async () => {
      if (!this.hasOlder) return;
      const { results, next } = await ask(this.#next);
      this.#next = next && relative(next);
      results.forEach((entry) => this.#entries.put(entry));
    });
    this.#turn = loaded.catch(() => {});
    return loaded;
  }

  async #loadNow() {
    try {
      await this.#entries.replace(() => this.#list());
      this.hasLoaded = true;
      if (!this.#isLive && !this.#settling && !this.#isFresh) this.#told("polling");
    } catch (problem) {
      this.#told("offline", problem.message);
    }
    this.#isFresh = false;
    if (!this.#isLive) this.#loadIn(PAUSE);
  }

  #loadIn(milliseconds) {
    clearTimeout(this.#later);
    if (!document.hidden) this.#later = setTimeout(() => this.load(), milliseconds);
  }

  async #list() {
    const deep = this.#entries.size;
    const listed = [];
    let address = `tasks${query(this.#entries.filters)}`;
    do {
      const { results, next } = await ask(address);
      listed.push(...results);
      address = next && relative(next);
    } while (address && listed.length < deep);
    this.#next = address;
    return listed;
  }

  #open() {
    if (this.#source) return;
    this.#isFresh = true;
    this.load();
    this.#source = new EventSource("tasks");
    this.#source.addEventListener("open", () => {
      // Only what changes from now on comes as an event.
      this.load();
      this.#settling = setTimeout(() => {
        this.#settling = 0;
        this.#isLive = true;
        clearTimeout(this.#later);
        this.#told("live");
      }, SETTLED);
    });
    this.#source.addEventListener("message", ({ data }) => this.#entries.put(JSON.parse(data)));
    this.#source.addEventListener("reload", () => this.load());
    this.#source.addEventListener("error", () => this.#lost());
  }

  #lost() {
    clearTimeout(this.#settling);
    this.#settling = 0;
    this.#isFresh = false;
    if (this.#isLive) this.#told("connecting");
    this.#isLive = false;
    this.#loadIn(SETTLED);
    if (this.#source.readyState === EventSource.CLOSED) {
      // A browser does not come back to a stream that was refused with an error.
      this.#source = null;
      setTimeout(() => document.hidden || this.#open(), PAUSE);
    }
  }

  #close() {
    clearTimeout(this.#settling);
    clearTimeout(this.#later);
    this.#settling = 0;
    this.#isLive = false;
    this.#source?.close();
    this.#source = null;
    this.#told("connecting");
  }
}

function query({ kind, status }) {
  const asked = new URLSearchParams();
  if (kind) asked.set("kind", kind);
  if (status) asked.set("status", ["waiting", "running"].includes(status) ? "pending" : status);
  return asked.size ? `?${asked}` : "";
}

/** A server behind another one may not know by which address it is reached; the query alone is what counts. */
function relative(address) {
  return `tasks${new URL(address, location).search}`;
}
