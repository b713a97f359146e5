"""A real Chromium against a real server. Tests here are skipped, with the reason, where no Chromium is installed.

Set PVU_CHROMIUM to a browser's path if it is not found, and PVU_SCREENSHOTS to a folder to keep the screenshots.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pvu.jobs import DEMO
from pvu.store import EmbeddedDataset

try:
    import playwright.sync_api as playwright
except ImportError:
    playwright = None  # type: ignore[assignment]

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL without a graphics card
]
# Streamlit looks for its own server at two addresses when a page is opened by its address; one of them answers.
OWN_PROBES = re.compile(r"/_stcore/(health|host-config)$")


def chromium() -> str | None:
    """The browser's path, or None."""
    named = os.environ.get("PVU_CHROMIUM")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them where there is no Chromium or no Playwright."""
    reason = "no Chromium found: install the package chromium, or set PVU_CHROMIUM to its path"
    if playwright is None:
        reason = "the Python package playwright is not installed: make test installs it"
    skip = pytest.mark.skip(reason=reason)
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")
            if playwright is None or chromium() is None:
                item.add_marker(skip)


@dataclass(frozen=True)
class Server:
    """A running app.

    Args:
        url: where it listens.
        home: its PVU_HOME.
        root: the only folder that it may read.
    """

    url: str
    home: Path
    root: Path


@contextmanager
def serve(home: Path, root: Path, *, script: str = "app.py") -> Iterator[Server]:
    """Start the app, or another script, in a process of its own, as ``make app`` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", script, f"--server.port={port}", "--server.headless=true"]
    environment = {**os.environ, "PVU_HOME": str(home), "PVU_ROOTS": str(root)}
    with (home.parent / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        _wait_until_it_answers(url, process, home.parent / "server.log")
        yield Server(url, home, root)
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=2).close()  # noqa: S310 (our own server)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"The app does not answer at {url}: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One app for all browser tests, with nothing in it at first."""
    base = tmp_path_factory.mktemp("browser")
    (base / "pictures").mkdir()
    with serve(base / "home", base / "pictures") as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    named = os.environ.get("PVU_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass
class Tab:
    """A page in the browser, with everything that went wrong in it.

    Args:
        page: Playwright's page.
        url: the app.
        shots: where screenshots go.
        errors: errors on the console and exceptions of scripts.
        strangers: requests to other machines.
    """

    page: playwright.Page
    url: str
    shots: Path
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._check(request.url))
        self.page.on("websocket", lambda socket: self._check(socket.url))

    def _note(self, message: playwright.ConsoleMessage) -> None:
        if message.type == "error" and not OWN_PROBES.search(message.location["url"]):
            self.errors.append(f"{message.text} ({message.location['url']})")

    def _check(self, address: str) -> None:
        own = (self.url + "/", self.url.replace("http", "ws") + "/", "data:", f"blob:{self.url}/")
        if not address.startswith(own):
            self.strangers.append(address)

    def open(self, path: str = "") -> None:
        self.page.goto(f"{self.url}/{path}")
        self.page.wait_for_selector("h1")
        self.settle()

    def settle(self) -> None:
        """Wait until the server has nothing more to say."""
        self.page.wait_for_timeout(300)
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)
        self.page.wait_for_timeout(300)

    def see(self, text: str, *, seconds: float = 30) -> None:
        """Wait for a text on the page."""
        self.page.get_by_text(text).first.wait_for(timeout=1000 * seconds)

    def shoot(self, name: str) -> None:
        """Keep a screenshot, once the pictures and charts are drawn."""
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=self.shots / f"{name}.png")

    def headings(self, level: int = 3) -> list[str]:
        return self.page.locator(f"[data-testid=stMain] h{level}").all_inner_texts()

    def alerts(self) -> list[str]:
        return self.page.locator("[data-testid=stAlertContainer]").all_inner_texts()

    def cards(self, gallery: int = 0) -> list[int]:
        """The rows that the n-th visible gallery shows."""
        visible = self.page.locator(".gallery:visible").nth(gallery)
        visible.locator("button.card").first.wait_for()
        return [int(row) for row in visible.locator("button.card").evaluate_all("all => all.map(c => c.dataset.row)")]

    def menu(self, name: str) -> None:
        """Go to a page by the menu."""
        self.page.locator("[data-testid=stSidebarNavLink]").filter(has_text=name).click()
        self.settle()


NewTab = Callable[..., Tab]


@pytest.fixture
def new_tab(browser: playwright.Browser, shots: Path) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, each a visitor of its own. At the end none may have seen an error or asked another machine."""
    tabs: list[Tab] = []

    def make(server: Server, *, width: int = 1400, height: int = 1000) -> Tab:
        context = browser.new_context(viewport={"width": width, "height": height})
        tab = Tab(context.new_page(), server.url, shots)
        tab.page.set_default_timeout(30_000)
        tab.watch()
        tabs.append(tab)
        return tab

    yield make
    for tab in tabs:
        tab.page.context.close()
    assert [error for tab in tabs for error in tab.errors] == []
    assert [address for tab in tabs for address in tab.strangers] == []


def stores(server: Server, name: str) -> list[EmbeddedDataset]:
    return [EmbeddedDataset(path.parent) for path in server.home.glob(f"stores/{name}-*/manifest.json")]


@pytest.fixture(scope="session")
def demo(server: Server, browser: playwright.Browser, shots: Path) -> EmbeddedDataset:
    """The demo data set, made by its button: every other test begins where this ends."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    tab = Tab(context.new_page(), server.url, shots)
    tab.watch()
    tab.open()
    assert tab.headings(1) == ["Which of your images are uncertain?"]
    tab.shoot("1-empty")
    tab.page.get_by_role("button", name="Try the demo").click()
    bar = tab.page.locator("[data-testid=stProgress]")
    bar.wait_for()
    assert tab.headings(1) == ["Looking at your images"]
    tab.see("images/s", seconds=120)
    tab.shoot("2-running")
    tab.see("The most certain and the most uncertain", seconds=200)
    tab.settle()
    tab.shoot("3-overview")
    assert tab.headings(1) == [DEMO]
    assert bar.count() == 0
    context.close()
    assert (tab.errors, tab.strangers) == ([], [])
    (dataset,) = stores(server, DEMO)
    return dataset


@pytest.fixture
def tab(server: Server, new_tab: NewTab) -> Tab:
    return new_tab(server)


def link(page: str, dataset: EmbeddedDataset, **params: object) -> str:
    return f"{page}?dataset={dataset.path.name}" + "".join(f"&{name}={value}" for name, value in params.items())
