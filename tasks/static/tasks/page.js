/** The page: what is known of the tasks, where it comes from, and where it is shown. */

import { now } from "./ask.js";
import { write } from "./dom.js";
import { Entries, MOST } from "./entries.js";
import { Feed } from "./feed.js";
import { Form } from "./form.js";
import { Rows } from "./rows.js";

const CONNECTION = {
  connecting: () => "Connecting…",
  live: () => "Live",
  polling: () => "Reconnecting… The list is loaded every few seconds.",
  offline: (why) => `Reconnecting… ${why}`,
};

const at = (id) => document.getElementById(id);
const { kind, status } = at("filters").elements;

// On a narrow page the form would be all that is seen at first.
at("create").open = matchMedia("(min-width: 60rem)").matches;

let isDrawing = false;
let refusal = "";
const entries = new Entries(draw);
const put = (entry) => entries.put(entry);
const rows = new Rows(at("list"), at("tasks"), at("row"), put);
const form = new Form(at("form"), put);
readAddress();
const feed = new Feed(entries, tell);
loadKinds();

/** Draw once before the next frame, however much has changed until then. */
function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    const shown = entries.newest();
    rows.show(shown);
    at("list").hidden = shown.length === 0;
    showEmpty(feed.hasLoaded && shown.length === 0);
    at("older").hidden = !feed.hasOlder;
    write(at("end-told"), feed.isFull ? `The newest ${MOST} are here. Filter to find older ones.` : refusal);
  });
}

function showEmpty(isEmpty) {
  const isFiltered = kind.value !== "" || status.value !== "";
  at("empty").hidden = !isEmpty;
  at("show-all").hidden = !isFiltered;
  const invitation = "No tasks yet. Start one under “New task”, and see here how it goes.";
  write(at("empty-told"), isFiltered ? "No task fits the filters." : invitation);
}

function tell(state, why) {
  const connection = at("connection");
  connection.dataset.state = state;
  write(connection, CONNECTION[state](why));
  if (state === "live" || state === "polling") loadKinds();
}

/** Fill the form and the filter, unless that was done. */
async function loadKinds() {
  const kinds = await form.load();
  kinds.forEach(offer);
  if (kinds.length === 0 || kind.value === "" || kinds.includes(kind.value)) return;
  // An old address may name a kind that is no more.
  kind.options[kind.selectedIndex].remove();
  filter();
}

/** Let the reader filter by this kind. */
function offer(name) {
  if (![...kind.options].some((option) => option.value === name)) kind.append(new Option(name));
}

function filter() {
  const asked = new URLSearchParams([...new FormData(at("filters"))].filter(([, value]) => value));
  history.replaceState(null, "", asked.size ? `?${asked}` : location.pathname);
  entries.filters = { kind: kind.value, status: status.value };
  feed.load();
}

/** The filters are in the address, so that they stay when the page is loaded again. */
function readAddress() {
  const asked = new URLSearchParams(location.search);
  const [name, state] = [asked.get("kind") ?? "", asked.get("status") ?? ""];
  offer(name);
  kind.value = name;
  if ([...status.options].some((option) => option.value === state)) status.value = state;
  entries.filters = { kind: kind.value, status: status.value };
}

at("filters").addEventListener("change", filter);
at("filters").addEventListener("submit", (event) => event.preventDefault());
at("show-all").addEventListener("click", () => {
  kind.value = status.value = "";
  filter();
  at("tasks").focus();
});
at("older").addEventListener("click", async () => {
  const last = at("list").lastElementChild;
  refusal = await feed.older().then(
    () => "",
    (problem) => problem.message,
  );
  draw();
  requestAnimationFrame(() => {
    // The button goes with the last page, and would take the focus along.
    if (at("older").hidden) (last?.nextElementSibling ?? at("tasks")).focus({ preventScroll: true });
  });
});
setInterval(() => {
  entries.expire(now());
  rows.tick();
}, 1000);
