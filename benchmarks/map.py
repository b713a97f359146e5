"""What the map costs: bytes, server time and time to paint, against st.plotly_chart with the same points.

    python -m benchmarks.map --count 300000

One run, one machine, one browser: first the app's map page, then a page with the same points in st.plotly_chart, once
with what the app's map knows on hover (label and percentile) and once bare. Bytes are those of the web socket and of
the map's own addresses as they arrive, compressed where they are; plotly.js, which both load once, is not counted.
Needs Chromium and Playwright (see tests/browser/conftest.py). Targets: payload at most a quarter, recolouring at most a
tenth.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import playwright.sync_api as playwright
from streamlit.testing.v1 import AppTest

from benchmarks.synthetic import synthetic_store
from tests.browser.conftest import FLAGS, chromium, serve

ROOT = Path(__file__).parents[1]
REFERENCE = Path(__file__).parent / "map_reference.py"
DRAWN = {
    "map": "() => document.querySelector('.pvu-map')?.dataset.drawn ?? null",
    "chart": "() => document.querySelector('.js-plotly-plot')?._fullData?.[0]?.marker.color[0]?.toString() ?? null",
}


@dataclass(frozen=True)
class Cost:
    """What one view costs.

    Args:
        first: bytes until the map is there.
        recolor: bytes of another colour.
        paint: seconds from the address to the first picture.
        repaint: seconds from the choice of a colour to the new picture.
        server: seconds of the page's script, warm.
    """

    first: int
    recolor: int
    paint: float
    repaint: float
    server: float


class Meter:
    """Bytes that a page receives for its data."""

    def __init__(self, page: playwright.Page) -> None:
        self.total = 0
        self._ours: set[str] = set()
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        network.on("Network.webSocketFrameReceived", self._frame)
        network.on("Network.requestWillBeSent", self._request)
        network.on("Network.loadingFinished", self._finished)

    def _frame(self, event: dict[str, dict[str, object]]) -> None:
        data = str(event["response"]["payloadData"])
        self.total += len(data) * 3 // 4 if event["response"]["opcode"] == 2 else len(data)

    def _request(self, event: dict[str, object]) -> None:
        url = str(event["request"]["url"])  # type: ignore[index]
        if "/pvu/" in url and "plotly" not in url and "/thumb/" not in url:
            self._ours.add(str(event["requestId"]))

    def _finished(self, event: dict[str, object]) -> None:
        if event["requestId"] in self._ours:
            self.total += int(event["encodedDataLength"])  # type: ignore[call-overload]


def measure(page: playwright.Page, address: str, kind: str, server: Callable[[], float]) -> Cost:
    """Open a view, choose another colour, and count."""
    meter = Meter(page)
    start = time.perf_counter()
    page.goto(address)
    before = _wait(page, DRAWN[kind], None)
    paint = time.perf_counter() - start
    page.wait_for_timeout(3000)  # what comes late counts as well
    first = meter.total
    page.locator("[data-testid=stSelectbox]").filter(has_text="Colour by").locator("input").click()
    start = time.perf_counter()
    page.get_by_role("option", name="label", exact=True).click()
    _wait(page, DRAWN[kind], before)
    repaint = time.perf_counter() - start
    page.wait_for_timeout(3000)
    return Cost(first, meter.total - first, paint, repaint, server())


def _wait(page: playwright.Page, script: str, before: str | None) -> str:
    """Wait until a view has another sign than before, and for the frame that shows it."""
    for _ in range(1200):
        now: str | None = page.evaluate(script)
        if now is not None and now != before:
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            return now
        page.wait_for_timeout(50)
    raise TimeoutError("The map was not drawn within a minute.")


def server_seconds(script: Path, page: str | None, name: str) -> float:
    """The time of a warm run of a page's script without a browser: the median of five."""
    test = AppTest.from_file(script, default_timeout=120)
    test.query_params["dataset"] = name
    test.run()
    if page is not None:
        test.switch_page(page).run()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        test.run()
        times.append(time.perf_counter() - start)
    return sorted(times)[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300_000)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "pvu-benchmark")
    options = parser.parse_args()
    store = synthetic_store(options.home, options.count)
    os.environ["PVU_HOME"] = str(options.home)
    navigation = ROOT / "pages" / "navigation.py"
    views = {
        "the app's map": ("app.py", f"map?dataset={store.name}", "map", navigation, "map.py"),
        "st.plotly_chart, same hover": (str(REFERENCE), f"?dataset={store.name}", "chart", REFERENCE, None),
        "st.plotly_chart, bare": (str(REFERENCE), f"?dataset={store.name}&bare=1", "chart", REFERENCE, None),
    }
    costs: dict[str, Cost] = {}
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
        for name, (script, path, kind, tested, page_file) in views.items():
            with serve(options.home, options.home, script=script) as server:
                page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
                page.set_default_timeout(120_000)
                warm = lambda tested=tested, page_file=page_file: server_seconds(tested, page_file, store.name)  # noqa: E731
                costs[name] = measure(page, f"{server.url}/{path}", kind, warm)
                page.context.close()
        browser.close()
    report(options.count, costs)


def report(count: int, costs: dict[str, Cost]) -> None:
    """Print the table, and our share of each reference."""
    print(f"{count:,} points")
    print(f"{'':30}{'first MB':>10}{'recolour MB':>13}{'paint s':>9}{'repaint s':>11}{'server s':>10}")
    for name, cost in costs.items():
        print(
            f"{name:30}{cost.first / 1e6:10.2f}{cost.recolor / 1e6:13.2f}{cost.paint:9.1f}{cost.repaint:11.1f}"
            f"{cost.server:10.3f}"
        )
    ours, *others = costs.items()
    for name, cost in others:
        first, again = ours[1].first / cost.first, ours[1].recolor / cost.recolor
        print(f"payload {first:.3f} (target .25), recolour {again:.3f} (target .1) of {name}")


if __name__ == "__main__":
    main()
