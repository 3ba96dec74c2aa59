"""The page in a real browser: headless Chromium, driven by Selenium."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers import lack, needs

needs("selenium")
from selenium.common.exceptions import TimeoutException  # noqa: E402 - needs() reports a missing package first
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

# The script polls in the browser, since polls from this process would be too slow.
_WAIT = """
const [done, given] = [arguments[arguments.length - 1], [...arguments].slice(0, -1)];
function evaluate() { %s }
(function poll() {
  const result = evaluate(...given);
  if (result) done(result);
  else setTimeout(poll, 10);
})();
"""
# Returns the visible texts of a row by `data-is`: false if they differ from the wanted ones, null without a row.
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
const element = document.querySelector(arguments[0]);
return element?.checkVisibility() && element.innerText.includes(arguments[1]);
"""
_ATTRIBUTES = "return [...document.querySelectorAll(arguments[0])].map((element) => element.getAttribute(arguments[1]))"
_CHOOSE = """
const select = document.querySelector(arguments[0]);
select.selectedIndex = [...select.options].findIndex((option) => option.text === arguments[1]);
select.dispatchEvent(new Event("change", { bubbles: true }));
"""
_FOCUSED = (
    "const focused = document.activeElement; return focused.ariaLabel || focused.id || focused.textContent.trim()"
)
_LOADED = "return [location.href, ...performance.getEntriesByType('resource').map((resource) => resource.name)]"
# Returns each visible text with its colour and its background colour.
_TEXTS = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const visible = [];
while (texts.nextNode()) {
  const parent = texts.currentNode.parentElement;
  const text = texts.currentNode.textContent.trim();
  if (!text || !parent.checkVisibility()) continue;
  let background = parent;
  while (getComputedStyle(background).backgroundColor === "rgba(0, 0, 0, 0)") background = background.parentElement;
  const colours = [getComputedStyle(parent).color, getComputedStyle(background).backgroundColor];
  visible.push([text, ...colours.map((colour) => colour.match(/[0-9.]+/g).map(Number))]);
}
return visible;
"""


@contextmanager
def chromium(directory: Path) -> Iterator[Chrome]:
    """Run a browser with an empty profile. Without Chromium the test is skipped, or fails with REQUIRE_SERVICES=1."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        lack("Chromium is missing. Install it with its driver: `apt-get install chromium chromium-driver`.")
    options = ChromeOptions()
    # Both paths are set, so that Selenium downloads nothing.
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
    """The page, as a person sees and uses it."""

    def __init__(self, browser: Chrome, port: int) -> None:
        self.browser = browser
        self.origin = f"http://127.0.0.1:{port}"

    def open(self, path: str = "/", state: str = "Live") -> None:
        """Load the page, and wait for its connection and its form."""
        self.browser.get(self.origin + path)
        self.wait_for_text("#connection", state)
        self.wait_for("return document.querySelector('#form-kind option')")

    def leave(self) -> None:
        """Close the page, and discard the browser's log."""
        self.browser.get("about:blank")
        self.log()

    def emulate(self, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Set the size of the screen and the preferred colour scheme."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **screen)
        preferences = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in preferences.items()]
        self.command("Emulation.setEmulatedMedia", features=features)

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command of the Chrome DevTools Protocol."""
        return self.browser.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the script in the page, and return its result."""
        return self.browser.execute_script(script, *arguments)

    def wait_for(self, script: str, *arguments: Any) -> Any:
        """Wait until the script returns a true value in the page, and return the value."""
        try:
            return self.browser.execute_async_script(_WAIT % script, *arguments)
        except TimeoutException as error:
            raise AssertionError(f"Timed out: {arguments or script}") from error

    def text(self, selector: str) -> str:
        text: str = self.run(_TEXT, selector)
        return text

    def wait_for_text(self, selector: str, text: str) -> None:
        self.wait_for(_SHOWS_TEXT, selector, text)

    def attributes(self, selector: str, name: str) -> list[str | None]:
        """Return the attribute of each element that matches the selector."""
        values: list[str | None] = self.run(_ATTRIBUTES, selector, name)
        return values

    def names(self) -> list[str]:
        """Return the names of the tasks on the page, from the top."""
        names: list[str] = self.run(_NAMES)
        return names

    def wait_for_names(self, *names: str) -> None:
        self.wait_for(_ARE_NAMES, "\n".join(names))

    def row(self, name: str) -> dict[str, Any] | None:
        """Return the texts in the row of the task with that name, or None without such a row."""
        row: dict[str, Any] | None = self.run(_ROW, name, {})
        return row

    def wait_for_row(self, name: str, **parts: Any) -> dict[str, Any]:
        """Wait until the row has these texts, and return all texts of the row."""
        row: dict[str, Any] = self.wait_for(_ROW, name, parts)
        return row

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element("css selector", selector)

    def button(self, label: str) -> WebElement:
        return self.find(f"button[aria-label={json.dumps(label)}]")

    def choose(self, selector: str, text: str) -> None:
        self.run(_CHOOSE, selector, text)

    def fill(self, **fields: str) -> None:
        for name, text in fields.items():
            control = self.find(f"#field-{name}")
            control.clear()
            control.send_keys(text)

    def submit(self) -> None:
        self.find("#form button").click()

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def focused(self) -> str:
        """Return the label of the focused element."""
        label: str = self.run(_FOCUSED)
        return label

    def log(self) -> list[str]:
        """Return what the browser logged since the last call: errors, refused requests, violations of the policy."""
        entries = self.browser.get_log("browser")  # type: ignore[no-untyped-call]  # not typed by Selenium
        return [entry["message"] for entry in entries]

    def loaded_urls(self) -> list[str]:
        """Return the URLs of the page and of everything that it loaded."""
        urls: list[str] = self.run(_LOADED)
        return urls

    def low_contrast_texts(self) -> list[str]:
        """Return the texts whose contrast is below 4.5 (WCAG 2.2, 1.4.3)."""
        return [text for text, *colours in self.run(_TEXTS) if _contrast(*colours) < 4.5]


def _contrast(*colours: list[float]) -> float:
    darker, lighter = sorted(map(_luminance, colours))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: list[float]) -> float:
    parts = [part / 255 for part in colour[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
