"""The page of the tasks, in a real browser and from a real server."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from selenium.webdriver import ActionChains, Chrome, Keys

from tests.browser import Page, chromium
from tests.helpers import BROWSER, PROJECT, Api, assert_stands_alone, wait_for
from tests.helpers import Page as Html
from tests.servers import RUNSERVER, SERVE, Connection, Server, running

WAITERS = 4
SETTINGS = {
    "TASK_KINDS": ",".join(f"tests.page_kinds.{name}" for name in ("REPORT", "IMPORT", "BACKUP", "NOTE")),
    "TASK_STEP_SECONDS": "0.2",
    "TASK_PROCESSES": "1",
    "TASK_DRAIN_SECONDS": "0",
    "TASK_MAX_WAITERS": str(WAITERS),
    "COVERAGE_PROCESS_CONFIG": "",
}
StartBackup = Callable[[Server, str], Path]
# The timeouts of the page are a tenth of their normal length.
SHORT_TIMEOUTS = "const original = setTimeout; window.setTimeout = (call, delay) => original(call, delay / 10);"
CODE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("page"), *SERVE, **SETTINGS) as server:
        yield server
    assert "A request crashed" not in server.log


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser: Chrome, server: Server) -> Iterator[Page]:
    page = Page(browser, server.port)
    page.emulate()
    page.leave()
    yield page
    assert page.log() == []
    assert [url for url in page.loaded_urls() if not url.startswith(page.origin)] == []


@pytest.fixture
def back_up(tmp_path: Path) -> Iterator[StartBackup]:
    """Return a function that starts a backup on a server and returns the file with its progress."""
    progress_files: list[Path] = []

    def start(server: Server, name: str) -> Path:
        progress_file = tmp_path / name
        progress_file.write_text("5 looking for changes")
        progress_files.append(progress_file)
        server.create("backup", name=name, progress_file=str(progress_file))
        return progress_file

    yield start
    for progress_file in progress_files:
        progress_file.write_text("100 done")


def tasks(server: Server, kind: str) -> list[Any]:
    """Return the newest tasks of the kind."""
    entries: list[Any] = server.ask("GET", f"/tasks?kind={kind}").json["results"]
    return entries


def test_the_page_refers_to_no_other_server_and_its_policy_forbids_them(api: Api, client: Client) -> None:
    response = api.get("/", Accept=BROWSER)
    assert response.status_code == 200
    assert_stands_alone(Html(response.content.decode()), client)
    policy = dict(part.split(" ", 1) for part in response["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


def test_a_task_of_another_client_appears_and_completes_without_a_reload(page: Page, server: Server) -> None:
    page.open()
    server.create("task", name="quarterly figures")
    row = page.wait_for_row("quarterly figures", state="Running", kind="task")
    assert row["waited"].startswith("waited ")
    row = page.wait_for_row("quarterly figures", state="Completed")
    assert row["ran"].startswith("ran ")
    assert "cancel" not in row
    assert page.names()[0] == "quarterly figures"


def test_progress_is_updated_and_the_focus_stays(page: Page, server: Server, back_up: StartBackup) -> None:
    page.open()
    progress_file = back_up(server, "backup of the mail")
    page.wait_for_row("backup of the mail", progress=5, percent="5 %", message="looking for changes")
    button = page.button("Cancel backup of the mail")
    page.run("arguments[0].focus()", button)
    server.create("note", name="a newer one")
    progress_file.write_text("62 744 of 1,200 files copied")
    page.wait_for_row("backup of the mail", progress=62, percent="62 %", message="744 of 1,200 files copied")
    page.wait_for_row("a newer one", state="Completed", result="noted: a newer one")
    assert page.browser.switch_to.active_element == button
    # The duration is updated without an event.
    page.wait_for_row("backup of the mail", ran="running for 1 s")
    progress_file.write_text("100 done")
    page.wait_for_row("backup of the mail", state="Completed", result="files: 1200")
    assert page.run("return document.activeElement.matches('.task')")


def test_a_task_can_be_cancelled_with_the_keyboard(page: Page, server: Server, back_up: StartBackup) -> None:
    page.open()
    back_up(server, "backup of the archive")
    page.wait_for_row("backup of the archive", state="Running")
    page.press(Keys.TAB)
    assert page.focused() == "Skip to the tasks"
    page.press(Keys.ENTER, Keys.TAB, Keys.TAB, Keys.TAB)
    assert page.focused() == "Cancel backup of the archive"
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press(Keys.ENTER)
    assert "cancel" not in page.wait_for_row("backup of the archive", state="Cancelled")
    # The button is hidden, and the focus is still in the row.
    assert page.run("return document.activeElement.matches('.task')")
    page.press(Keys.TAB)
    assert page.focused() == "Details of backup of the archive"
    page.press(Keys.ENTER)
    assert "Expires" in page.wait_for_row("backup of the archive")["facts"]
    assert tasks(server, "backup")[0]["status"] == "cancelled"


def test_a_failed_task_shows_its_error(page: Page, server: Server) -> None:
    page.open()
    server.create("import", name="customers", text="Row 17 has no number.\nRow 18 neither.")
    row = page.wait_for_row("customers", state="Failed")
    assert row["error-code"] == "exception"
    assert row["error-detail"] == "ValueError: Row 17 has no number.\nRow 18 neither."


def test_a_link_opens_the_result_file_of_a_task(page: Page, server: Server) -> None:
    server.create("report", name="report with a file", month="2026-03-01")
    page.open()
    page.wait_for_row("report with a file", state="Completed", result="pages: 12, total: 48,210.50")
    page.find(".task a").click()
    assert "Report for 2026-03-01" in page.text("body")
    assert "/files/report_" in page.browser.current_url


def test_the_form_of_each_kind_has_the_fields_of_its_schema(page: Page, server: Server) -> None:
    page.open()
    schema = server.ask("GET", "/schema", Accept="application/json").json
    kinds = page.text("#form-kind").split()
    assert sorted(kinds) == ["backup", "import", "note", "prime-count", "report", "task"]
    for kind in kinds:
        page.choose("#form-kind", kind)
        reference = schema["paths"][f"/create-{kind}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        payload = schema["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
        assert page.attributes("#form-fields [name]", "name") == list(payload["properties"])
        assert set(page.attributes("#form-fields [aria-required=true]", "name")) == set(payload["required"])
        field_ids = [f"field-{name}" for name in payload["properties"]]
        assert page.attributes("#form label", "for") == ["form-kind", *field_ids]


def test_the_form_sends_all_fields_and_a_double_click_starts_one_task(page: Page, server: Server) -> None:
    page.open()
    page.choose("#form-kind", "report")
    assert page.text("#field-layout").splitlines() == ["A4, upright", "A4, across"]
    page.fill(name="report by form", copies="3", recipients='["a@example.org", "b@example.org"]')
    page.run("document.getElementById('field-month').value = '2026-03-01'")
    page.choose("#field-layout", "A4, across")
    page.find("#field-draft").click()
    ActionChains(page.browser).double_click(page.find("#form button")).perform()
    page.wait_for_row("report by form", state="Completed")
    page.wait_for_text("#form-status", "Started “report by form”.")
    # A slow second click comes after the form is reset, and submits nothing either.
    second_click = "new MouseEvent('click', { detail: 2, cancelable: true })"
    assert page.run(f"return document.querySelector('#form button').dispatchEvent({second_click})") is False
    assert [entry["input"] for entry in tasks(server, "report") if entry["name"] == "report by form"] == [
        {
            "month": "2026-03-01",
            "layout": "wide",
            "copies": 3,
            "draft": True,
            "recipients": ["a@example.org", "b@example.org"],
        }
    ]
    assert page.run("return ['name', 'copies'].map((name) => document.getElementsByName(name)[0].value)") == ["", "1"]


def test_a_create_that_is_sent_again_after_a_failed_response_starts_one_task(page: Page, server: Server) -> None:
    page.open()
    page.choose("#form-kind", "note")
    page.fill(name="sent again")
    page.run(
        "const real = fetch; fetch = async (...request) => { fetch = real; await real(...request); throw Error(); }"
    )
    page.submit()
    page.wait_for_text("#form-status", "The server does not respond. Send it again.")
    page.submit()
    page.wait_for_text("#form-status", "Started “sent again”.")
    assert [entry["name"] for entry in tasks(server, "note")].count("sent again") == 1


def test_the_errors_of_the_server_are_shown_at_their_fields(page: Page) -> None:
    page.open()
    page.choose("#form-kind", "prime-count")
    assert page.text("#field-limit-hint") == "Count the primes up to this. From 0 to 10,000,000."
    page.fill(name="primes", limit="-1")
    page.submit()
    page.wait_for_text("#field-limit-error", "Ensure this value is greater than or equal to 0.")
    assert page.focused() == "field-limit"
    assert page.attributes("[aria-invalid=true]", "name") == ["limit"]
    (logged,) = page.log()
    assert "/create-prime-count" in logged
    assert "400" in logged
    page.fill(limit="1000")
    page.submit()
    page.wait_for_row("primes", state="Completed", result="count: 168")
    assert page.attributes("[aria-invalid=true]", "name") == []


def test_a_list_is_entered_as_json_and_its_errors_are_shown_at_its_field(page: Page) -> None:
    page.open()
    page.choose("#form-kind", "report")
    page.fill(name="report to nobody", recipients="a@example.org")
    page.submit()
    page.wait_for_text("#field-recipients-error", 'Enter JSON, as in ["one", "two"].')
    assert page.focused() == "field-recipients"
    assert page.log() == []
    page.fill(recipients='["a@example.org", "nobody"]')
    page.submit()
    page.wait_for_text("#field-recipients-error", "1: Enter a valid email address.")
    assert "400" in page.log().pop()
    assert page.row("report to nobody") is None


def test_filters_apply_to_the_list_and_survive_a_reload(page: Page, server: Server) -> None:
    server.create("note", name="a note before")
    server.create("import", name="an import before", text="x")
    page.open()
    page.wait_for_row("an import before", state="Failed")
    page.choose("#filters [name=kind]", "note")
    server.create("import", name="an import after", text="x")
    server.create("note", name="a note after")
    page.wait_for_row("a note after", state="Completed")
    assert {"an import before", "an import after"}.isdisjoint(page.names())
    page.choose("#filters [name=status]", "Completed")
    page.open(page.browser.current_url.removeprefix(page.origin))
    page.wait_for_row("a note before")
    assert {"an import before", "an import after"}.isdisjoint(page.names())
    page.choose("#filters [name=status]", "Failed")
    page.wait_for_text("#empty", "No task matches the filters.")
    page.find("#show-all").click()
    page.wait_for_row("an import after", state="Failed")


def test_a_button_loads_older_tasks_up_to_the_limit_of_the_page(page: Page, server: Server) -> None:
    def create_notes(*numbers: int) -> None:
        with Connection(server.port) as connection:
            for number in numbers:
                assert connection.ask("POST", "/create-note", {"name": f"note {number}"}).status == 201

    create_notes(*range(60))
    page.open("/?kind=note")
    page.wait_for_names(*(f"note {number}" for number in range(59, 9, -1)))
    page.find("#older").click()
    page.wait_for_row("note 0")
    create_notes(*range(60, 560))
    page.wait_for_names(*(f"note {number}" for number in range(559, 59, -1)))
    assert page.text("#list-status") == "The newest 500 tasks are shown. Use the filters to find older ones."


def test_code_in_the_texts_of_a_task_is_shown_as_text_and_never_runs(page: Page, server: Server) -> None:
    server.create("note", name=CODE)
    server.create("import", name="texts", text=CODE)
    page.open()
    page.wait_for_row(CODE, state="Completed", result=f"noted: {CODE}")
    page.wait_for_row("texts", **{"error-detail": f"ValueError: {CODE}"})
    page.button("Details of texts").click()
    assert CODE in page.wait_for_row("texts")["facts"]
    page.choose("#form-kind", "note")
    page.fill(name=CODE)
    page.submit()
    page.wait_for_text("#form-status", f"Started “{CODE}”.")
    assert page.attributes("main :is(img, script)", "src") == []


def test_the_page_polls_the_list_when_the_server_has_no_room_for_its_stream(page: Page, server: Server) -> None:
    with ExitStack() as streams, _script_at_load(page, SHORT_TIMEOUTS):
        for _ in range(WAITERS):
            # The server may still count the stream of the page that was open before.
            wait_for(lambda: _open_stream(server, streams))
        page.open(state="Reconnecting… The list is loaded every few seconds.")
        server.create("note", name="seen without room for a stream")
        page.wait_for_row("seen without room for a stream", state="Completed")


def test_the_page_polls_the_list_when_the_stream_never_opens(page: Page, server: Server) -> None:
    with _script_at_load(page, SHORT_TIMEOUTS + "window.EventSource = class extends EventTarget { close() {} };"):
        page.open(state="Reconnecting… The list is loaded every few seconds.")
        server.create("note", name="seen without events")
        page.wait_for_row("seen without events", state="Completed")


@contextmanager
def _script_at_load(page: Page, script: str) -> Iterator[None]:
    """Run the script at each load of a page within the block, before the scripts of the page."""
    added = page.command("Page.addScriptToEvaluateOnNewDocument", source=script)
    yield
    page.command("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


def _open_stream(server: Server, streams: ExitStack) -> bool:
    """Open one more stream of events, and return whether the server accepted it."""
    stream = streams.enter_context(Connection(server.port))
    stream.request("GET", "/tasks", headers={"Accept": "text/event-stream"})
    return streams.enter_context(stream.getresponse()).readline() == b"retry: 1000\n"


def test_a_hidden_page_closes_its_stream_so_that_another_client_can_open_one(page: Page, server: Server) -> None:
    hide = "Object.defineProperty(document, 'hidden', { value: true, configurable: true })"
    show = "delete document.hidden"
    change = "; document.dispatchEvent(new Event('visibilitychange'))"
    page.open()
    with ExitStack() as streams:
        for _ in range(WAITERS - 1):
            wait_for(lambda: _open_stream(server, streams))
        assert not _open_stream(server, streams)
        page.run(hide + change)
        wait_for(lambda: _open_stream(server, streams))
        server.create("note", name="created while hidden")
    page.run(show + change)
    page.wait_for_row("created while hidden", state="Completed")
    page.wait_for_text("#connection", "Live")


def test_every_text_fits_the_screen_and_has_enough_contrast_in_light_and_dark(
    page: Page, server: Server, back_up: StartBackup
) -> None:
    server.create("note", name="a very" + 60 * "long" + "name")
    page.open()
    _create_tasks_in_every_state(page, server, back_up)
    page.choose("#form-kind", "report")
    page.submit()
    page.wait_for_text("#field-month-error", "This field is required.")
    assert "400" in page.log().pop()
    backgrounds = set()
    for scheme in ("light", "dark"):
        page.emulate(scheme=scheme)
        backgrounds.add(page.run("return getComputedStyle(document.body).backgroundColor"))
        assert page.low_contrast_texts() == []
    assert len(backgrounds) == 2
    page.emulate(width=320)
    page.button("Details of primes up to a million").click()
    assert page.run("return document.documentElement.scrollWidth") == 320
    assert page.run("return [...document.querySelectorAll('.task *')].filter((part) => part.scrollWidth > 320)") == []
    page.open()
    page.wait_for_row("nightly backup")
    # On a narrow page the form is closed, since it would fill the screen.
    assert not page.find("#form").is_displayed()


def test_an_empty_page_explains_itself_and_reconnects_to_a_restarted_server(
    tmp_path: Path, browser: Chrome, back_up: StartBackup
) -> None:
    with running(tmp_path / "first", *RUNSERVER, **SETTINGS) as server:
        page = Page(browser, server.port)
        page.emulate()
        page.open()
        page.wait_for_text("#empty", "No tasks yet. Start one under “New task”")
        _create_tasks_in_every_state(page, server, back_up)
        _take_screenshot(page, tmp_path / "page.png")
        assert page.log() == []
    page.wait_for_text("#connection", "Reconnecting… The server does not respond.")
    page.choose("#form-kind", "note")
    page.fill(name="sent twice")
    page.submit()
    page.wait_for_text("#form-status", "Send it again.")
    second = {**SETTINGS, "TASK_RETENTION_SECONDS": "0.5"}
    with running(tmp_path / "second", *RUNSERVER, at_port=str(server.port), **second):
        page.wait_for_text("#connection", "Live")
        # Tasks that the server no longer has are removed from the page.
        assert page.names() == []
        page.submit()
        page.wait_for_row("sent twice", state="Completed")
        page.wait_for_text("#empty", "No tasks yet.")
    assert [logged for logged in page.log() if "net::ERR_" not in logged] == []


def _create_tasks_in_every_state(page: Page, server: Server, back_up: StartBackup) -> None:
    """Create a task in every state, and wait until the page shows them."""
    server.create("prime-count", name="primes up to a million", limit=1_000_000)
    server.create("import", name="customers of the northern branch", text="row 17 has no customer number")
    server.create("task", name="stock list")
    server.create("report", name="March report", month="2026-03-01")
    progress_file = back_up(server, "nightly backup")
    progress_file.write_text("62 744 of 1,200 files copied")
    page.wait_for_row("nightly backup", progress=62)
    back_up(server, "backup of the archive")
    server.ask("DELETE", server.create("backup", name="backup by mistake", progress_file=str(progress_file)))
    page.wait_for_row("primes up to a million", state="Completed")
    page.wait_for_row("customers of the northern branch", state="Failed")
    page.wait_for_row("stock list", state="Completed")
    page.wait_for_row("March report", state="Completed")
    page.wait_for_row("backup of the archive", state="Waiting")
    page.wait_for_row("backup by mistake", state="Cancelled")


def _take_screenshot(page: Page, path: Path) -> None:
    """Check that a screenshot can be taken; with WRITE_SCREENSHOT=1 it is written into the docs."""
    page.choose("#form-kind", "report")
    page.fill(copies="2", name="April report")
    assert page.browser.save_screenshot(str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000
    if os.environ.get("WRITE_SCREENSHOT") == "1":
        assert path.stat().st_size < 150_000
        shutil.copy(path, PROJECT / "docs" / "page.png")
