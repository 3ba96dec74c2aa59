/** Keeps the entries up to date: by server-sent events, or by polling the list while there is no stream. */

import { requestJson } from "./api.js";
import { MAX_ENTRIES } from "./entries.js";

// The interval of polls of the list, and the delay before a refused stream is opened again.
const RETRY_MS = 4000;
// The server closes a stream that exceeds its limit immediately. A stream that stays open this long is live.
const SETTLE_MS = 250;

export class Feed {
  #entries;
  #onState;
  #source = null;
  #settleTimer = 0;
  #reloadTimer = 0;
  #isLive = false;
  #isConnecting = true;
  #isReloadQueued = false;
  #requests = Promise.resolve();
  #nextPage = null;

  /** Whether the list was loaded at least once. */
  hasLoaded = false;

  /** `onState(state, reason)` receives the state: "connecting", "live", "polling" or "offline". */
  constructor(entries, onState) {
    this.#entries = entries;
    this.#onState = onState;
    // A hidden page closes its stream, since the browser and the server both limit the number of streams.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.#open()));
    if (!document.hidden) this.#open();
  }

  /** Whether `loadOlder()` would load more entries. */
  get hasOlder() {
    return this.#nextPage !== null && !this.isFull;
  }

  /** Whether the page has as many entries as it keeps, so that older entries may be missing. */
  get isFull() {
    return this.#entries.isTruncated || this.#entries.size >= MAX_ENTRIES;
  }

  /** Reload the list, with as many entries as the page has. */
  reload() {
    if (this.#isReloadQueued) return;
    this.#isReloadQueued = true;
    this.#requests = this.#requests.then(() => {
      this.#isReloadQueued = false;
      return this.#reloadNow();
    });
  }

  /** Load the next page of older entries. Throws ApiError. */
  loadOlder() {
    const loaded = this.#requests.then(async () => {
      if (!this.hasOlder) return;
      const { results, next } = await requestJson(this.#nextPage);
      this.#nextPage = next && relativeUrl(next);
      results.forEach((entry) => this.#entries.put(entry));
    });
    this.#requests = loaded.catch(() => {});
    return loaded;
  }

  async #reloadNow() {
    try {
      await this.#entries.replace(() => this.#fetchList());
      this.hasLoaded = true;
      if (!this.#isLive && !this.#settleTimer && !this.#isConnecting) this.#onState("polling");
    } catch (error) {
      this.#onState("offline", error.message);
    }
    this.#isConnecting = false;
    if (!this.#isLive) this.#reloadAfter(RETRY_MS);
  }

  #reloadAfter(milliseconds) {
    clearTimeout(this.#reloadTimer);
    if (!document.hidden) this.#reloadTimer = setTimeout(() => this.reload(), milliseconds);
  }

  async #fetchList() {
    const count = this.#entries.size;
    const listed = [];
    let url = listUrl(this.#entries.filters);
    do {
      const { results, next } = await requestJson(url);
      listed.push(...results);
      url = next && relativeUrl(next);
    } while (url && listed.length < count);
    this.#nextPage = url;
    return listed;
  }

  #open() {
    if (this.#source) return;
    this.#isConnecting = true;
    this.reload();
    this.#source = new EventSource("tasks");
    this.#source.addEventListener("open", () => {
      // The stream sends only changes from now on, so the list is loaded again.
      this.reload();
      this.#settleTimer = setTimeout(() => {
        this.#settleTimer = 0;
        this.#isLive = true;
        clearTimeout(this.#reloadTimer);
        this.#onState("live");
      }, SETTLE_MS);
    });
    this.#source.addEventListener("message", ({ data }) => this.#entries.put(JSON.parse(data)));
    this.#source.addEventListener("reload", () => this.reload());
    this.#source.addEventListener("error", () => this.#onStreamError());
  }

  #onStreamError() {
    clearTimeout(this.#settleTimer);
    this.#settleTimer = 0;
    this.#isConnecting = false;
    if (this.#isLive) this.#onState("connecting");
    this.#isLive = false;
    this.#reloadAfter(SETTLE_MS);
    if (this.#source.readyState === EventSource.CLOSED) {
      // A browser does not reconnect after an error response.
      this.#source = null;
      setTimeout(() => document.hidden || this.#open(), RETRY_MS);
    }
  }

  #close() {
    clearTimeout(this.#settleTimer);
    clearTimeout(this.#reloadTimer);
    this.#settleTimer = 0;
    this.#isLive = false;
    this.#source?.close();
    this.#source = null;
    this.#onState("connecting");
  }
}

function listUrl({ kind, status }) {
  const query = new URLSearchParams();
  if (kind) query.set("kind", kind);
  if (status) query.set("status", ["waiting", "running"].includes(status) ? "pending" : status);
  return query.size ? `tasks?${query}` : "tasks";
}

/** Return the relative URL with this URL's query. Behind a proxy, the host and the path of the URL may be wrong. */
function relativeUrl(url) {
  return `tasks${new URL(url, location).search}`;
}
