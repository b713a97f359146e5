"""How long the server needs for each thing that a person does in the app, at 50,000 images.

    python -m benchmarks.ui [--count 50000] [--home FOLDER] [--repeats 5] [--only review]

Runs every page without a browser, by Streamlit's AppTest, on a made-up store (benchmarks/synthetic.py). Each row is one
kind of interaction, done once with cold caches ("first") and then ``repeats`` times, each time with other values where
that makes a difference. Printed is the time of a whole run of the page as the user waits for it, and the CPU time of
the process, which other work on the machine hardly lengthens; the limit is 0.3 s. What takes longer the first time
shows a spinner.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from starlette.requests import Request
from streamlit.testing.v1 import AppTest

import pvu.ui.gallery
import pvu.ui.pointmap
from benchmarks.synthetic import synthetic_store
from pvu.export import export_table, table_bytes
from pvu.store import EmbeddedDataset
from pvu.ui import serving
from pvu.ui.state import PAGES

APP = Path(__file__).parents[1] / "pages" / "navigation.py"
LIMIT = 0.3

Step = Callable[["Screen", int], None]
"""Does something on the screen for the i-th time, without running the page."""


class Component:
    """Stands in for a component of the browser: takes what it is given, and says what the user did there."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}

    def __call__(self, *, data: dict[str, Any], key: str, **callbacks: Callable[[], None]) -> dict[str, Any]:
        self.shown[key] = data
        events = self.events.pop(key, {})
        for name in [name for name in events if name != "clicked"]:
            # As in the browser: the callback first, then a run that sees what it did.
            st.session_state[key] = {name: events.pop(name)}
            callbacks[f"on_{name}_change"]()
            st.rerun()
        return events


@dataclass
class Timing:
    """Seconds of one kind of interaction, by the wall clock and of CPU; the first one had cold caches."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Screen:
    """One person in the app.

    Args:
        store: the open data set's.
        repeats: how often each interaction is timed after the first.
    """

    def __init__(self, store: Path, repeats: int) -> None:
        self.repeats = repeats
        self.dataset = EmbeddedDataset(store)
        self.timings: dict[str, Timing] = {}
        self.galleries, self.maps = Component(), Component()
        pvu.ui.gallery._component = self.galleries  # type: ignore[assignment]
        pvu.ui.pointmap._component = self.maps  # type: ignore[assignment]
        self.app = AppTest.from_file(APP, default_timeout=120)
        self.app.query_params["dataset"] = store.name
        self._presses = 0

    def run(self) -> None:
        """Run the page; an error on it ends the benchmark."""
        self.app.run()
        problems = [element.message for element in self.app.exception] + [element.value for element in self.app.error]
        assert not problems, problems

    def go(self, page: str) -> None:
        self.app.switch_page(PAGES[page])

    def time(self, name: str, step: Step, *, run: Callable[[int], object] | None = None) -> None:
        """Do something, and time the run of the page that answers it, or another function."""
        timing = self.timings.setdefault(name, Timing())
        for number in range(1 + self.repeats):
            step(self, number)
            wall, cpu = time.perf_counter(), time.process_time()
            self.run() if run is None else run(number)
            timing.wall.append(time.perf_counter() - wall)
            timing.cpu.append(time.process_time() - cpu)

    def press(self, gallery: str, key: str, rows: list[int]) -> None:
        """Press a key in a gallery, about some images."""
        self._presses += 1
        self.galleries.events[gallery] = {"pressed": [{"number": self._presses, "key": key, "rows": rows}]}

    def draw(self, kind: str, share: float) -> None:
        """Draw a box or a lasso around a share of the map's width and height."""
        low, high = self.dataset.coords.min(axis=0), self.dataset.coords.max(axis=0)
        middle, half = (low + high) / 2, (high - low) / 2 * share
        angles = np.linspace(0, 2 * np.pi, 60)
        around = middle + half * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points = np.stack([middle - half, middle + half]) if kind == "box" else around
        self.maps.events["map"] = {
            "drawn": {"kind": kind, "x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "add": False}
        }

    def click(self, gallery: str, number: int) -> None:
        """Click an image of a gallery: the panel opens."""
        cards = self.galleries.shown[gallery]["cards"]
        self.galleries.events[gallery] = {"clicked": cards[number % len(cards)]["row"]}

    def button(self, key: str) -> None:
        self.app.button(key=key).click()

    def labelled(self, label: str) -> Any:
        """The choice with a label, where it has no key."""
        return next(box for box in self.app.selectbox if box.label == label)

    def page_of(self, key: str, number: int) -> None:
        """Another page of a gallery."""
        pages: Any = next(each for each in self.app.get("pagination") if getattr(each, "key", None) == key)
        pages.set_value(2 + number)


def choose(kind: str, key: str, *values: Any) -> Step:
    """A widget is set to one value after the other."""

    def step(screen: Screen, number: int) -> None:
        getattr(screen.app, kind)(key=key).set_value(values[number % len(values)])

    return step


def on_map(screen: Screen) -> None:
    screen.time("map: open", lambda s, i: s.go("map"))
    colours = screen.app.selectbox(key="color_by").options
    names = {"width (pixels)": "width", "height (pixels)": "height", "duplicate group": "duplicates"}
    screen.time("map: colour", choose("selectbox", "color_by", *(names.get(name, name) for name in colours)))
    screen.time("map: size by uncertainty", choose("toggle", "sized", True, False))
    screen.time("map: filter by percentile", choose("slider", "range", *((start, 90) for start in range(10, 80, 10))))
    screen.time("map: find text", choose("text_input", "map_find", *(f"label 0{number}" for number in range(10, 20))))
    screen.time("map: no filter", _without_filters)
    screen.time("map: lasso", lambda s, i: s.draw("lasso", 0.3 + 0.1 * i))
    screen.time("map: box", lambda s, i: s.draw("box", 0.3 + 0.1 * i))
    screen.time("map: next page of the gallery", lambda s, i: s.page_of("map_gallery_page", i))
    screen.time("map: order", choose("segmented_control", "order", "certain first", "uncertain first"))
    screen.time("map: select nothing", lambda s, i: s.draw("clear", 0))
    screen.time("map: click a point", lambda s, i: s.maps.events.update(map={"clicked": 100 * i}))


def _without_filters(screen: Screen, number: int) -> None:
    screen.app.text_input(key="map_find").set_value("" if number % 2 == 0 else ".jpg")
    screen.app.slider(key="range").set_value((0, 100))


def retrieval(screen: Screen) -> None:
    screen.time("retrieval: choose a query", lambda s, i: s.go("retrieval"))
    screen.time("retrieval: search", _search)
    screen.time("retrieval: hide the uncertain", choose("slider", "hide", *range(20, 80, 10)))
    screen.time("retrieval: more results", choose("slider", "k", 24, 16, 20, 8, 28, 12))
    screen.time("retrieval: least similarity", choose("slider", "similarity", 0.1, 0.2, 0.3, 0.15, 0.25, 0.05))
    screen.time("retrieval: hide by risk", choose("segmented_control", "hide_by", "risk", "u", "percentile"))
    screen.time("retrieval: open an image", lambda s, i: s.click("all", i))


def _search(screen: Screen, number: int) -> None:
    screen.app.session_state["query_row"] = 997 * (number + 1)


def review(screen: Screen) -> None:
    screen.time("review: open", lambda s, i: s.go("review"))
    lists = ("mislabelled", "duplicates", "outliers", "ambiguous")
    screen.time("review: another list", choose("segmented_control", "review_list", *lists))
    choose("segmented_control", "review_list", "ambiguous")(screen, 0)
    screen.run()
    screen.time("review: next page", lambda s, i: s.page_of("review_ambiguous_page", i))
    screen.time("review: move the cut-off", choose("slider", "cutoff_ambiguous", 80.0, 85.0, 95.0, 90.0, 75.0, 70.0))
    screen.time("review: tag one by key", lambda s, i: s.press("review_ambiguous", "k", [_card(s, i)]))
    screen.time("review: tag a page by button", _tag_page)
    screen.time("review: undo", lambda s, i: s.button("review_ambiguous_undo"))
    screen.time("review: not yet tagged", choose("toggle", "only_untagged", True, False))
    screen.time("review: open an image", lambda s, i: s.click("review_ambiguous", i))
    screen.time("review: pick for labelling", choose("segmented_control", "review_list", "pick", "pick"))


def _card(screen: Screen, number: int) -> int:
    cards = screen.galleries.shown["review_ambiguous"]["cards"]
    return int(cards[number % len(cards)]["row"])


def _tag_page(screen: Screen, number: int) -> None:
    cards = screen.galleries.shown["review_ambiguous"]["cards"]
    screen.press("review_ambiguous", "d" if number % 2 else "u", [int(card["row"]) for card in cards])


def compare(screen: Screen) -> None:
    """With a second data set of a fifth as many images."""
    other = synthetic_store(screen.dataset.path.parents[1], max(2, len(screen.dataset) // 5), seed=1)
    screen.go("compare")
    screen.run()
    screen.time("compare: choose the other", lambda s, i: s.labelled("Compare with").set_value(other.name))
    screen.time("compare: next page of the farthest", lambda s, i: s.page_of("farthest_page", i))
    screen.time("compare: open one of them", lambda s, i: s.click("farthest_cards", i))


def others(screen: Screen) -> None:
    """The pages on which little is done."""
    for page in ("dataset", "evaluation", "training", "export"):
        screen.time(f"{page}: open", lambda s, i, page=page: s.go(page))  # type: ignore[misc]
    screen.time("export: format", choose("segmented_control", "export_format", "Parquet", "List of paths", "CSV"))


def calls(screen: Screen) -> None:
    """What the browser fetches beside the pages, and what a download's button calls."""
    secret = serving.address(screen.dataset).rsplit("/", 1)[1]
    rows = np.random.default_rng(0).integers(len(screen.dataset), size=1 + screen.repeats)
    asked: dict[str, Callable[[int], object]] = {
        "route: thumbnail": lambda i: _ask(serving._row_response, "", secret=secret, what="thumb", row=int(rows[i])),
        "route: full picture": lambda i: _ask(serving._row_response, "", secret=secret, what="image", row=int(rows[i])),
        "route: on hover": lambda i: _ask(serving._row_response, "", secret=secret, what="about", row=int(rows[i])),
        "route: points": lambda i: _ask(serving._column_response, "", secret=secret, what="points"),
        "route: colours": lambda i: _ask(
            serving._column_response, f"by={('label', 'cluster', 'brightness')[i % 3]}", secret=secret, what="color"
        ),
    }
    every = np.arange(len(screen.dataset))
    for suffix in (".csv", ".parquet", ".txt"):
        asked[f"download: all rows as {suffix}"] = lambda i, suffix=suffix: table_bytes(  # type: ignore[misc]
            export_table(screen.dataset, every), suffix
        )
    for name, ask in asked.items():
        screen.time(name, lambda s, i: None, run=ask)


def _ask(answer: Callable[[Request], Any], query: str, **params: Any) -> None:
    scope = {"type": "http", "path_params": params, "query_string": query.encode(), "headers": [], "path": "/"}
    response = answer(Request(scope))
    assert response.status_code == 200, params


PARTS: dict[str, Callable[[Screen], None]] = {
    "map": on_map,
    "retrieval": retrieval,
    "review": review,
    "compare": compare,
    "others": others,
    "calls": calls,
}


def lines(timings: dict[str, Timing]) -> Iterator[str]:
    yield f"{'':36}{'as the user waits':^24}{'CPU':^24}"
    yield f"{'seconds':36}" + f"{'first':>8}{'median':>8}{'worst':>8}" * 2
    for name, timing in timings.items():
        numbers = "".join(
            f"{seconds[0]:8.3f}{statistics.median(seconds[1:]):8.3f}{max(seconds[1:]):8.3f}"
            for seconds in (timing.wall, timing.cpu)
        )
        over = "   over the limit" if statistics.median(timing.cpu[1:]) > LIMIT else ""
        yield f"{name:36}{numbers}{over}"
    numbers = ""
    for what in ("wall", "cpu"):
        every = [seconds for timing in timings.values() for seconds in getattr(timing, what)[1:]]
        numbers += f"{'':8}{statistics.median(every):8.3f}{max(every):8.3f}"
    yield f"{'all but the first':36}{numbers}   limit {LIMIT}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--home", type=Path, help="a PVU_HOME for the made-up store; default: a temporary one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=list(PARTS))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # Streamlit's, of running without a server
    with tempfile.TemporaryDirectory() as temporary:
        home = (arguments.home or Path(temporary)).resolve()
        os.environ["PVU_HOME"] = os.environ["PVU_ROOTS"] = str(home)
        screen = Screen(synthetic_store(home, arguments.count, originals=True), arguments.repeats)
        screen.run()
        for part in arguments.only:
            PARTS[part](screen)
    print(f"{arguments.count:,} images, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("\n".join(lines(screen.timings)))


if __name__ == "__main__":
    main()
