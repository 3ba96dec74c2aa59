"""The page in a real browser: Chromium without a window, driven by Selenium."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers import lack, needs

needs("selenium")
from selenium.common.exceptions import TimeoutException  # noqa: E402 - what is missing was told before
from selenium.webdriver import ActionChains, Chrome, ChromeOptions  # noqa: E402 - the same
from selenium.webdriver.chrome.service import Service  # noqa: E402 - the same
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402 - the same

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_TIMEOUT = 20

# The browser looks itself, since each look from here would take longer than what is waited for.
_WAIT = """
const [call, given] = [arguments[arguments.length - 1], [...arguments].slice(0, -1)];
function look() { %s }
(function again() {
  const seen = look(...given);
  if (seen) call(seen);
  else setTimeout(again, 10);
})();
"""
# The texts of the parts of a row that are shown, by what they are; null unless they are what is wanted.
_ROW = """
const [name, wanted] = arguments;
const row = [...document.querySelectorAll(".task")].find((task) => task.querySelector("h3").textContent === name);
if (!row) return null;
const parts = [...row.querySelectorAll("[data-is]")].filter((part) => !part.closest("[hidden]"));
const shown = Object.fromEntries(parts.map((part) => [part.dataset.is, part.value || part.textContent]));
return Object.keys(wanted).every((part) => shown[part] === wanted[part]) && shown;
"""
_NAMES = 'return [...document.querySelectorAll(".task h3")].map((name) => name.textContent)'
_ARE_NAMES = _NAMES + '.join("\\n") === arguments[0]'
_TEXT = "return document.querySelector(arguments[0]).innerText"
_SHOWS_TEXT = """
const holder = document.querySelector(arguments[0]);
return holder?.checkVisibility() && holder.innerText.includes(arguments[1]);
"""
_ATTRIBUTES = "return [...document.querySelectorAll(arguments[0])].map((one) => one.getAttribute(arguments[1]))"
_CHOOSE = """
const select = document.querySelector(arguments[0]);
select.selectedIndex = [...select.options].findIndex((option) => option.text === arguments[1]);
select.dispatchEvent(new Event("change", { bubbles: true }));
"""
_FOCUSED = "const at = document.activeElement; return at.ariaLabel || at.id || at.textContent.trim()"
_LOADED = "return [location.href, ...performance.getEntriesByType('resource').map((resource) => resource.name)]"
# Each text that is seen, with its colour and that of the ground behind it.
_TEXTS = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = [];
while (texts.nextNode()) {
  const holder = texts.currentNode.parentElement;
  if (!texts.currentNode.textContent.trim() || !holder.checkVisibility()) continue;
  let ground = holder;
  while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
  const colours = [getComputedStyle(holder).color, getComputedStyle(ground).backgroundColor];
  seen.push([texts.currentNode.textContent.trim(), ...colours.map((colour) => colour.match(/[0-9.]+/g).map(Number))]);
}
return seen;
"""


@contextmanager
def chromium(directory: Path) -> Iterator[Chrome]:
    """A browser with an empty profile. Without one the test is skipped; with REQUIRE_SERVICES=1 it fails."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        lack("There is no Chromium here: install it and its driver, as by `apt-get install chromium chromium-driver`.")
    options = ChromeOptions()
    # Both paths are given, so that Selenium looks for no download.
    options.binary_location, driver = map(str, programs)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={directory}"):
        options.add_argument(flag)
    browser = Chrome(options, Service(driver))
    try:
        browser.set_script_timeout(_TIMEOUT)
        yield browser
    finally:
        browser.quit()


class Page:
    """What a person sees of the page, and does with it."""

    def __init__(self, browser: Chrome, port: int) -> None:
        self.browser = browser
        self.origin = f"http://127.0.0.1:{port}"

    def open(self, path: str = "/", state: str = "Live") -> None:
        """Load the page, and wait until it is connected and has its form."""
        self.browser.get(self.origin + path)
        self.wait_for_text("#connection", state)
        self.wait_for("return document.querySelector('#form-kind option')")

    def leave(self) -> None:
        """Close the page, and forget what the browser complained about."""
        self.browser.get("about:blank")
        self.complaints()

    def look(self, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Have a screen of that size, and a person who prefers that scheme of colours."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **screen)
        preferred = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in preferred.items()]
        self.command("Emulation.setEmulatedMedia", features=features)

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the Chrome DevTools protocol."""
        return self.browser.execute_cdp_cmd(name, parameters)

    def ask(self, script: str, *arguments: Any) -> Any:
        """What the script returns in the page."""
        return self.browser.execute_script(script, *arguments)

    def wait_for(self, script: str, *arguments: Any) -> Any:
        """Wait until the script returns something true in the page, and return that."""
        try:
            return self.browser.execute_async_script(_WAIT % script, *arguments)
        except TimeoutException as error:
            raise AssertionError(f"It did not come: {arguments or script}") from error

    def text(self, selector: str) -> str:
        text: str = self.ask(_TEXT, selector)
        return text

    def wait_for_text(self, selector: str, text: str) -> None:
        self.wait_for(_SHOWS_TEXT, selector, text)

    def attributes(self, selector: str, name: str) -> list[str | None]:
        """The attribute of each element that the selector finds."""
        values: list[str | None] = self.ask(_ATTRIBUTES, selector, name)
        return values

    def names(self) -> list[str]:
        """The names of the tasks that are shown, from the top."""
        names: list[str] = self.ask(_NAMES)
        return names

    def wait_for_names(self, *names: str) -> None:
        self.wait_for(_ARE_NAMES, "\n".join(names))

    def row(self, name: str) -> dict[str, Any] | None:
        """The parts of the row of the task with that name; None where there is no such row."""
        row: dict[str, Any] | None = self.ask(_ROW, name, {})
        return row

    def wait_for_row(self, name: str, **parts: Any) -> dict[str, Any]:
        """Wait until the row has these parts, and return all that it has."""
        row: dict[str, Any] = self.wait_for(_ROW, name, parts)
        return row

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element("css selector", selector)

    def button(self, label: str) -> WebElement:
        return self.one(f"button[aria-label={json.dumps(label)}]")

    def choose(self, selector: str, text: str) -> None:
        self.ask(_CHOOSE, selector, text)

    def fill(self, **fields: str) -> None:
        for name, text in fields.items():
            control = self.one(f"#field-{name}")
            control.clear()
            control.send_keys(text)

    def start(self) -> None:
        self.one("#form button").click()

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def focused(self) -> str:
        """What the focused element is called."""
        label: str = self.ask(_FOCUSED)
        return label

    def complaints(self) -> list[str]:
        """What the browser complained about since the last call: errors, refused requests, what the policy forbids."""
        log = self.browser.get_log("browser")  # type: ignore[no-untyped-call]  # Selenium types nearly all
        return [entry["message"] for entry in log]

    def loaded(self) -> list[str]:
        """The addresses of all that the page has loaded."""
        addresses: list[str] = self.ask(_LOADED)
        return addresses

    def pale_texts(self) -> list[str]:
        """The texts whose contrast is below 4.5 (WCAG 2.2, 1.4.3)."""
        return [text for text, *colours in self.ask(_TEXTS) if _contrast(*colours) < 4.5]


def _contrast(*colours: list[float]) -> float:
    darker, lighter = sorted(map(_luminance, colours))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: list[float]) -> float:
    parts = [part / 255 for part in colour[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
