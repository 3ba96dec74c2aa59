/** The page: connects the entries, the feed that updates them, the form, the filters and the rows. */

import { serverTime } from "./api.js";
import { setText } from "./dom.js";
import { Entries, MAX_ENTRIES } from "./entries.js";
import { Feed } from "./feed.js";
import { Form } from "./form.js";
import { Rows } from "./rows.js";

const CONNECTION_TEXTS = {
  connecting: () => "Connecting…",
  live: () => "Live",
  polling: () => "Reconnecting… The list is loaded every few seconds.",
  offline: (reason) => `Reconnecting… ${reason}`,
};

const byId = (id) => document.getElementById(id);
const { kind, status } = byId("filters").elements;

// On a narrow page an open form would fill the first screen.
byId("create").open = matchMedia("(min-width: 60rem)").matches;

let isRenderScheduled = false;
let olderError = "";
const entries = new Entries(scheduleRender);
const putEntry = (entry) => entries.put(entry);
const rows = new Rows(byId("list"), byId("tasks"), byId("row"), putEntry);
const form = new Form(byId("form"), putEntry);
readFiltersFromUrl();
const feed = new Feed(entries, showConnection);
loadKinds();

/** Render once before the next frame, however many changes there are until then. */
function scheduleRender() {
  if (isRenderScheduled) return;
  isRenderScheduled = true;
  requestAnimationFrame(() => {
    isRenderScheduled = false;
    render();
  });
}

function render() {
  const newest = entries.newest();
  rows.show(newest);
  byId("list").hidden = newest.length === 0;
  showEmpty(feed.hasLoaded && newest.length === 0);
  byId("older").hidden = !feed.hasOlder;
  const full = `The newest ${MAX_ENTRIES} tasks are shown. Use the filters to find older ones.`;
  setText(byId("list-status"), feed.isFull ? full : olderError);
}

function showEmpty(isEmpty) {
  const isFiltered = kind.value !== "" || status.value !== "";
  byId("empty").hidden = !isEmpty;
  byId("show-all").hidden = !isFiltered;
  const invitation = "No tasks yet. Start one under “New task” and follow its progress here.";
  setText(byId("empty-text"), isFiltered ? "No task matches the filters." : invitation);
}

function showConnection(state, reason) {
  const connection = byId("connection");
  connection.dataset.state = state;
  setText(connection, CONNECTION_TEXTS[state](reason));
  if (state === "live" || state === "polling") loadKinds();
}

/** Fill the form and the filter of kinds, unless they are filled. */
async function loadKinds() {
  const kinds = await form.loadKinds();
  kinds.forEach(addKindOption);
  if (kinds.length === 0 || kind.value === "" || kinds.includes(kind.value)) return;
  // An old URL may name a kind that no longer exists.
  kind.options[kind.selectedIndex].remove();
  applyFilters();
}

/** Add the kind to the filter of kinds, unless it is there. */
function addKindOption(name) {
  if (![...kind.options].some((option) => option.value === name)) kind.append(new Option(name));
}

function applyFilters() {
  const query = new URLSearchParams([...new FormData(byId("filters"))].filter(([, value]) => value));
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  entries.filters = { kind: kind.value, status: status.value };
  feed.reload();
}

/** Set the filters from the URL, which keeps them when the page is loaded again. */
function readFiltersFromUrl() {
  const query = new URLSearchParams(location.search);
  const [kindName, state] = [query.get("kind") ?? "", query.get("status") ?? ""];
  addKindOption(kindName);
  kind.value = kindName;
  if ([...status.options].some((option) => option.value === state)) status.value = state;
  entries.filters = { kind: kind.value, status: status.value };
}

byId("filters").addEventListener("change", applyFilters);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("show-all").addEventListener("click", () => {
  kind.value = status.value = "";
  applyFilters();
  byId("tasks").focus();
});
byId("older").addEventListener("click", async () => {
  const lastRow = byId("list").lastElementChild;
  olderError = await feed.loadOlder().then(
    () => "",
    (error) => error.message,
  );
  scheduleRender();
  requestAnimationFrame(() => {
    // After the last page the button is hidden and loses the focus.
    if (byId("older").hidden) (lastRow?.nextElementSibling ?? byId("tasks")).focus({ preventScroll: true });
  });
});
setInterval(() => {
  entries.expire(serverTime());
  rows.tick();
}, 1000);
