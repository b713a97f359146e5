"""The app without a browser: Streamlit's AppTest, stores made with the fake encoder, galleries that are recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pvu import jobs
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, write_pictures

APP = Path(__file__).parents[2] / "pages" / "navigation.py"


class _Component:
    """A component without a browser: keeps what it was given, and says what a test lets the user do.

    As in the browser, a callback runs before the run that sees its event.
    """

    def __init__(self) -> None:
        self.data: dict[str, dict[str, Any]] = {}
        self.waiting: dict[str, dict[str, Any]] = {}

    def __call__(self, *, data: dict[str, Any], key: str, **callbacks: Callable[[], None]) -> dict[str, Any]:
        json.dumps(data)  # it has to reach the browser
        self.data[key] = data
        events = self.waiting.get(key, {})
        for name in list(events):
            callback = callbacks[f"on_{name}_change"]
            if name != "clicked":
                st.session_state[key] = {name: events.pop(name)}
                callback()
                st.rerun()
        return self.waiting.pop(key, {})

    def does(self, key: str, **events: Any) -> None:
        """The next run hears of this, such as ``clicked=7``."""
        assert key in self.data, sorted(self.data)
        self.waiting[key] = events


class Galleries(_Component):
    """Stands in for the galleries."""

    def __init__(self) -> None:
        super().__init__()
        self._presses = 0

    @property
    def shown(self) -> dict[str, list[dict[str, Any]]]:
        """The cards of each gallery of the page."""
        return {key: data["cards"] for key, data in self.data.items()}

    def click(self, key: str, row: int) -> None:
        """The next run sees a click on a card."""
        assert row in self.rows(key)
        self.does(key, clicked=row)

    def pick(self, key: str, rows: list[int]) -> None:
        """The next run sees these images ticked, and no others."""
        self.does(key, picked=rows)

    def press(self, key: str, letters: str, rows: list[int]) -> None:
        """The next run sees keys pressed, one after the other, about these images."""
        assert set(letters) <= set(self.data[key]["keys"])
        presses = []
        for letter in letters:
            self._presses += 1
            presses.append({"number": self._presses, "key": letter, "rows": rows})
        self.does(key, pressed=presses)

    def rows(self, key: str) -> list[int]:
        """The rows that a gallery shows."""
        return [card["row"] for card in self.shown[key]]

    def marks(self, key: str) -> list[int]:
        """The rows that carry a mark."""
        return [card["row"] for card in self.shown[key] if card["mark"]]


class App:
    """The running app.

    Args:
        galleries: stands in for them.
        maps: stands in for the map.
    """

    def __init__(self, galleries: Galleries, maps: _Component) -> None:
        self.galleries = galleries
        self.maps = maps
        self.test = AppTest.from_file(APP, default_timeout=60)

    def open(self, page: str = "dataset", **params: str) -> App:
        """Go to a page as by its address. A page that ends in an exception fails the test."""
        for name, value in params.items():
            self.test.query_params[name] = value
        self.run()
        if page != "dataset":
            self.go(page)
        return self

    def go(self, page: str) -> App:
        """Go to a page as by the menu."""
        self.test.switch_page(f"{page}.py")
        return self.run()

    def run(self) -> App:
        self._forget()
        self.test.run()
        return self.checked()

    def _forget(self) -> None:
        self.galleries.data.clear()
        self.maps.data.clear()

    def checked(self) -> App:
        assert [element.message for element in self.test.exception] == []
        return self

    def click(self, label: str) -> App:
        """Press a button by its label."""
        (button,) = [button for button in self.test.button if button.label == label]
        self._forget()
        button.click().run()
        return self.checked()

    def draw(self, kind: str, points: list[tuple[float, float]] | None = None, *, add: bool = False) -> App:
        """Draw a "lasso" or a "box" on the map, or "clear" it, as the browser reports it."""
        x, y = zip(*(points or [(), ()]), strict=True) if points else ((), ())
        self.maps.does("map", drawn={"kind": kind, "x": list(x), "y": list(y), "add": add})
        return self.run()

    @property
    def map(self) -> dict[str, Any]:
        """What the map component was given in the last run."""
        return self.maps.data["map"]

    @property
    def ringed(self) -> list[int]:
        """The rows that the map was told to ring."""
        return [row for row, *_ in self.map["ring"]]

    def charts(self) -> list[Any]:
        """The Plotly charts of the page."""
        return [element.proto for element in self.test.get("plotly_chart")]

    def texts(self, kind: str) -> list[str]:
        """The texts of all elements of a kind ("error", "info", "markdown", ...), without Markdown's backslashes."""
        return [re.sub(r"\\([^A-Za-z0-9\s])", r"\1", element.value) for element in self.test.get(kind)]

    def links(self) -> list[str]:
        """Where the page's links lead."""
        return [element.proto.page for element in self.test.get("page_link")]


@pytest.fixture
def galleries(monkeypatch: pytest.MonkeyPatch) -> Galleries:
    recorder = Galleries()
    monkeypatch.setattr("pvu.ui.gallery._component", recorder)
    return recorder


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> _Component:
    recorder = _Component()
    monkeypatch.setattr("pvu.ui.pointmap._component", recorder)
    return recorder


@pytest.fixture
def app(galleries: Galleries, maps: _Component, quick_map: None) -> App:
    return App(galleries, maps)


@pytest.fixture
def make_dataset(tmp_path: Path, quick_map: None) -> Callable[..., EmbeddedDataset]:
    """Embeds pictures with the fake encoder, in the test's PVU_HOME."""

    def make(
        name: str = "pets",
        labels: tuple[str, ...] = ("cat", "dog", "owl"),
        *,
        count: int = 12,
        has_head: bool = True,
        table: str | None = None,
    ) -> EmbeddedDataset:
        names = [f"{label}/{number:02d}.png" for label in labels for number in range(count)]
        write_pictures(tmp_path / name, names or [f"{number:02d}.png" for number in range(count)])
        if table is not None:
            (tmp_path / name / "labels.csv").write_text(table)
        return embed(tmp_path / name, model=FakeEncoder(has_head=has_head), workers=0)

    return make


@pytest.fixture
def job_now(monkeypatch: pytest.MonkeyPatch, quick_map: None) -> list[dict[str, Any]]:
    """Jobs run at once, in this process and with the fake encoder; the list holds what was asked for."""
    asked: list[dict[str, Any]] = []

    def run_now(command: list[str], **_: object) -> None:
        folder = Path(command[-1])
        asked.append(jobs.Job(folder).arguments)
        jobs.run(folder)

    monkeypatch.setattr("pvu.jobs.subprocess.Popen", run_now)
    monkeypatch.setattr("pvu.pipeline._load", lambda _: FakeEncoder())
    monkeypatch.setattr("pvu.pipeline.os.cpu_count", lambda: 0)  # no decoding processes for a handful of pictures
    return asked
