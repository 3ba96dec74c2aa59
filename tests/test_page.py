"""The page that shows the tasks, in a real browser and from a real server."""

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
# The pauses of the page are a tenth of what they are.
HASTE = "const wait = setTimeout; window.setTimeout = (call, pause) => wait(call, pause / 10);"
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
    page.look()
    page.leave()
    yield page
    assert page.complaints() == []
    assert [address for address in page.loaded() if not address.startswith(page.origin)] == []


@pytest.fixture
def back_up(tmp_path: Path) -> Iterator[StartBackup]:
    """Start a backup on that server, and return the file that says how far it is."""
    started: list[Path] = []

    def start(server: Server, name: str) -> Path:
        follow = tmp_path / name
        follow.write_text("5 looking for what is new")
        started.append(follow)
        server.create("backup", name=name, follow=str(follow))
        return follow

    yield start
    for follow in started:
        follow.write_text("100 done")


def tasks(server: Server, kind: str) -> list[Any]:
    """The newest tasks of the kind."""
    entries: list[Any] = server.ask("GET", f"/tasks?kind={kind}").json["results"]
    return entries


def test_the_page_names_no_other_server_and_its_policy_forbids_them(api: Api, client: Client) -> None:
    answer = api.get("/", Accept=BROWSER)
    assert answer.status_code == 200
    assert_stands_alone(Html(answer.content.decode()), client)
    policy = dict(part.split(" ", 1) for part in answer["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


def test_a_task_of_another_client_appears_and_completes_by_itself(page: Page, server: Server) -> None:
    page.open()
    server.create("task", name="quarterly figures")
    row = page.wait_for_row("quarterly figures", state="Running", kind="task")
    assert row["waited"].startswith("waited ")
    row = page.wait_for_row("quarterly figures", state="Completed")
    assert row["ran"].startswith("ran ")
    assert "cancel" not in row
    assert page.names()[0] == "quarterly figures"


def test_progress_moves_and_takes_the_focus_from_nobody(page: Page, server: Server, back_up: StartBackup) -> None:
    page.open()
    follow = back_up(server, "backup of the mail")
    page.wait_for_row("backup of the mail", progress=5, percent="5 %", message="looking for what is new")
    button = page.button("Cancel backup of the mail")
    page.ask("arguments[0].focus()", button)
    server.create("note", name="a newer one")
    follow.write_text("62 744 of 1,200 files copied")
    page.wait_for_row("backup of the mail", progress=62, percent="62 %", message="744 of 1,200 files copied")
    page.wait_for_row("a newer one", state="Completed", result="noted: a newer one")
    assert page.browser.switch_to.active_element == button
    # The time goes on without news.
    page.wait_for_row("backup of the mail", ran="runs for 1 s")
    follow.write_text("100 done")
    page.wait_for_row("backup of the mail", state="Completed", result="files: 1200")
    assert page.ask("return document.activeElement.matches('.task')")


def test_a_task_is_cancelled_by_keyboard_alone(page: Page, server: Server, back_up: StartBackup) -> None:
    page.open()
    back_up(server, "backup of the archive")
    page.wait_for_row("backup of the archive", state="Running")
    page.press(Keys.TAB)
    assert page.focused() == "Skip to the tasks"
    page.press(Keys.ENTER, Keys.TAB, Keys.TAB, Keys.TAB)
    assert page.focused() == "Cancel backup of the archive"
    assert page.ask("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press(Keys.ENTER)
    assert "cancel" not in page.wait_for_row("backup of the archive", state="Cancelled")
    # The button is gone, and the focus is still in the row.
    assert page.ask("return document.activeElement.matches('.task')")
    page.press(Keys.TAB)
    assert page.focused() == "Details of backup of the archive"
    page.press(Keys.ENTER)
    assert "Kept until" in page.wait_for_row("backup of the archive")["facts"]
    assert tasks(server, "backup")[0]["status"] == "cancelled"


def test_a_failed_task_shows_its_error(page: Page, server: Server) -> None:
    page.open()
    server.create("import", name="customers", text="Row 17 has no number.\nRow 18 neither.")
    row = page.wait_for_row("customers", state="Failed")
    assert row["error-code"] == "exception"
    assert row["error-detail"] == "ValueError: Row 17 has no number.\nRow 18 neither."


def test_the_result_file_of_a_task_is_one_click_away(page: Page, server: Server) -> None:
    server.create("report", name="report to read", month="2026-03-01")
    page.open()
    page.wait_for_row("report to read", state="Completed", result="pages: 12, total: 48,210.50")
    page.one(".task a").click()
    assert "Report for 2026-03-01" in page.text("body")
    assert "/files/report_" in page.browser.current_url


def test_each_kind_has_a_form_with_the_fields_of_its_schema(page: Page, server: Server) -> None:
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
        labelled = [f"field-{name}" for name in payload["properties"]]
        assert page.attributes("#form label", "for") == ["form-kind", *labelled]


def test_the_form_starts_a_task_with_all_its_fields_and_a_double_click_starts_one(page: Page, server: Server) -> None:
    page.open()
    page.choose("#form-kind", "report")
    assert page.text("#field-layout").splitlines() == ["A4, upright", "A4, across"]
    page.fill(name="report by form", copies="3", recipients='["a@example.org", "b@example.org"]')
    page.ask("document.getElementById('field-month').value = '2026-03-01'")
    page.choose("#field-layout", "A4, across")
    page.one("#field-draft").click()
    ActionChains(page.browser).double_click(page.one("#form button")).perform()
    page.wait_for_row("report by form", state="Completed")
    page.wait_for_text("#form-told", "Started “report by form”.")
    # A slower second click of the two is for the empty form, and does nothing either.
    second = "new MouseEvent('click', { detail: 2, cancelable: true })"
    assert page.ask(f"return document.querySelector('#form button').dispatchEvent({second})") is False
    assert [entry["input"] for entry in tasks(server, "report") if entry["name"] == "report by form"] == [
        {
            "month": "2026-03-01",
            "layout": "wide",
            "copies": 3,
            "draft": True,
            "recipients": ["a@example.org", "b@example.org"],
        }
    ]
    assert page.ask("return ['name', 'copies'].map((name) => document.getElementsByName(name)[0].value)") == ["", "1"]


def test_what_is_sent_again_after_a_lost_answer_starts_once(page: Page, server: Server) -> None:
    page.open()
    page.choose("#form-kind", "note")
    page.fill(name="sent again")
    page.ask("const real = fetch; fetch = async (...sent) => { fetch = real; await real(...sent); throw Error(); }")
    page.start()
    page.wait_for_text("#form-told", "The server does not answer. Send it again")
    page.start()
    page.wait_for_text("#form-told", "Started “sent again”.")
    assert [entry["name"] for entry in tasks(server, "note")].count("sent again") == 1


def test_what_is_wrong_in_a_form_stands_beside_its_field(page: Page) -> None:
    page.open()
    page.choose("#form-kind", "prime-count")
    assert page.text("#field-limit-hint") == "Count the primes up to this. From 0 to 10,000,000."
    page.fill(name="primes", limit="-1")
    page.start()
    page.wait_for_text("#field-limit-wrong", "Ensure this value is greater than or equal to 0.")
    assert page.focused() == "field-limit"
    assert page.attributes("[aria-invalid=true]", "name") == ["limit"]
    (complaint,) = page.complaints()
    assert "/create-prime-count" in complaint
    assert "400" in complaint
    page.fill(limit="1000")
    page.start()
    page.wait_for_row("primes", state="Completed", result="count: 168")
    assert page.attributes("[aria-invalid=true]", "name") == []


def test_a_list_is_written_as_json_and_refused_beside_its_field(page: Page) -> None:
    page.open()
    page.choose("#form-kind", "report")
    page.fill(name="report to nobody", recipients="a@example.org")
    page.start()
    page.wait_for_text("#field-recipients-wrong", 'Enter JSON, as in ["one", "two"].')
    assert page.focused() == "field-recipients"
    assert page.complaints() == []
    page.fill(recipients='["a@example.org", "nobody"]')
    page.start()
    page.wait_for_text("#field-recipients-wrong", "1: Enter a valid email address.")
    assert "400" in page.complaints().pop()
    assert page.row("report to nobody") is None


def test_filters_choose_what_is_shown_and_stay_when_the_page_is_loaded_again(page: Page, server: Server) -> None:
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
    page.wait_for_text("#empty", "No task fits the filters.")
    page.one("#show-all").click()
    page.wait_for_row("an import after", state="Failed")


def test_older_tasks_are_a_click_away_and_the_page_keeps_a_bounded_number(page: Page, server: Server) -> None:
    def write_notes(*numbers: int) -> None:
        with Connection(server.port) as connection:
            for number in numbers:
                assert connection.ask("POST", "/create-note", {"name": f"note {number}"}).status == 201

    write_notes(*range(60))
    page.open("/?kind=note")
    page.wait_for_names(*(f"note {number}" for number in range(59, 9, -1)))
    page.one("#older").click()
    page.wait_for_row("note 0")
    write_notes(*range(60, 560))
    page.wait_for_names(*(f"note {number}" for number in range(559, 59, -1)))
    assert page.text("#end-told") == "The newest 500 are here. Filter to find older ones."


def test_texts_of_a_task_are_shown_as_text_and_run_nothing(page: Page, server: Server) -> None:
    server.create("note", name=CODE)
    server.create("import", name="texts", text=CODE)
    page.open()
    page.wait_for_row(CODE, state="Completed", result=f"noted: {CODE}")
    page.wait_for_row("texts", **{"error-detail": f"ValueError: {CODE}"})
    page.button("Details of texts").click()
    assert CODE in page.wait_for_row("texts")["facts"]
    page.choose("#form-kind", "note")
    page.fill(name=CODE)
    page.start()
    page.wait_for_text("#form-told", f"Started “{CODE}”.")
    assert page.attributes("main :is(img, script)", "src") == []


def test_without_a_place_in_the_stream_the_page_loads_the_list_again_and_again(page: Page, server: Server) -> None:
    with ExitStack() as streams, _before_the_page(page, HASTE):
        for _ in range(WAITERS):
            # The server may not have missed the page that was here before.
            wait_for(lambda: _take_place(server, streams))
        page.open(state="Reconnecting… The list is loaded every few seconds.")
        server.create("note", name="seen without a place")
        page.wait_for_row("seen without a place", state="Completed")


def test_where_the_stream_is_held_back_the_page_loads_the_list_again_and_again(page: Page, server: Server) -> None:
    with _before_the_page(page, HASTE + "window.EventSource = class extends EventTarget { close() {} };"):
        page.open(state="Reconnecting… The list is loaded every few seconds.")
        server.create("note", name="seen without events")
        page.wait_for_row("seen without events", state="Completed")


@contextmanager
def _before_the_page(page: Page, script: str) -> Iterator[None]:
    """Run the script before those of each page that is loaded until the block ends."""
    added = page.command("Page.addScriptToEvaluateOnNewDocument", source=script)
    yield
    page.command("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


def _take_place(server: Server, streams: ExitStack) -> bool:
    """Follow the events until the streams are closed; False where the server has no place for that."""
    stream = streams.enter_context(Connection(server.port))
    stream.request("GET", "/tasks", headers={"Accept": "text/event-stream"})
    return streams.enter_context(stream.getresponse()).readline() == b"retry: 1000\n"


def test_a_hidden_page_gives_its_place_in_the_stream_to_others(page: Page, server: Server) -> None:
    hide = "Object.defineProperty(document, 'hidden', { value: true, configurable: true })"
    show = "delete document.hidden"
    change = "; document.dispatchEvent(new Event('visibilitychange'))"
    page.open()
    with ExitStack() as streams:
        for _ in range(WAITERS - 1):
            wait_for(lambda: _take_place(server, streams))
        assert not _take_place(server, streams)
        page.ask(hide + change)
        wait_for(lambda: _take_place(server, streams))
        server.create("note", name="while nobody looked")
    page.ask(show + change)
    page.wait_for_row("while nobody looked", state="Completed")
    page.wait_for_text("#connection", "Live")


def test_every_text_is_read_easily_on_any_screen_in_light_and_dark(
    page: Page, server: Server, back_up: StartBackup
) -> None:
    server.create("note", name="a very" + 60 * "long" + "name")
    page.open()
    _work(page, server, back_up)
    page.choose("#form-kind", "report")
    page.start()
    page.wait_for_text("#field-month-wrong", "This field is required.")
    assert "400" in page.complaints().pop()
    grounds = set()
    for scheme in ("light", "dark"):
        page.look(scheme=scheme)
        grounds.add(page.ask("return getComputedStyle(document.body).backgroundColor"))
        assert page.pale_texts() == []
    assert len(grounds) == 2
    page.look(width=320)
    page.button("Details of primes up to a million").click()
    assert page.ask("return document.documentElement.scrollWidth") == 320
    assert page.ask("return [...document.querySelectorAll('.task *')].filter((part) => part.scrollWidth > 320)") == []
    page.open()
    page.wait_for_row("nightly backup")
    # The form would be all that is seen of a narrow page.
    assert not page.one("#form").is_displayed()


def test_an_empty_page_says_what_to_do_and_a_server_that_comes_back_is_found_again(
    tmp_path: Path, browser: Chrome, back_up: StartBackup
) -> None:
    with running(tmp_path / "first", *RUNSERVER, **SETTINGS) as server:
        page = Page(browser, server.port)
        page.look()
        page.open()
        page.wait_for_text("#empty", "No tasks yet. Start one under “New task”")
        _work(page, server, back_up)
        _take_picture(page, tmp_path / "page.png")
        assert page.complaints() == []
    page.wait_for_text("#connection", "Reconnecting… The server does not answer.")
    page.choose("#form-kind", "note")
    page.fill(name="sent twice")
    page.start()
    page.wait_for_text("#form-told", "Send it again")
    second = {**SETTINGS, "TASK_RETENTION_SECONDS": "0.5"}
    with running(tmp_path / "second", *RUNSERVER, at_port=str(server.port), **second):
        page.wait_for_text("#connection", "Live")
        # What the server has forgotten is on the page no more.
        assert page.names() == []
        page.start()
        page.wait_for_row("sent twice", state="Completed")
        page.wait_for_text("#empty", "No tasks yet.")
    assert [complaint for complaint in page.complaints() if "net::ERR_" not in complaint] == []


def _work(page: Page, server: Server, back_up: StartBackup) -> None:
    """Have a task of every state on the page, as on a usual day."""
    server.create("prime-count", name="primes up to a million", limit=1_000_000)
    server.create("import", name="customers of the northern branch", text="row 17 has no customer number")
    server.create("task", name="stock list")
    server.create("report", name="March report", month="2026-03-01")
    follow = back_up(server, "nightly backup")
    follow.write_text("62 744 of 1,200 files copied")
    page.wait_for_row("nightly backup", progress=62)
    back_up(server, "backup of the archive")
    server.ask("DELETE", server.create("backup", name="backup by mistake", follow=str(follow)))
    page.wait_for_row("primes up to a million", state="Completed")
    page.wait_for_row("customers of the northern branch", state="Failed")
    page.wait_for_row("stock list", state="Completed")
    page.wait_for_row("March report", state="Completed")
    page.wait_for_row("backup of the archive", state="Waiting")
    page.wait_for_row("backup by mistake", state="Cancelled")


def _take_picture(page: Page, path: Path) -> None:
    """Check that the page can be photographed; with WRITE_SCREENSHOT=1 the photograph goes into the docs."""
    page.choose("#form-kind", "report")
    page.fill(copies="2", name="April report")
    assert page.browser.save_screenshot(str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000
    if os.environ.get("WRITE_SCREENSHOT") == "1":
        assert path.stat().st_size < 150_000
        shutil.copy(path, PROJECT / "docs" / "page.png")
