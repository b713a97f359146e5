"""The app without a browser: Streamlit's AppTest, stores made with the fake encoder, galleries that are recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from pvu import jobs
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, write_pictures

APP = Path(__file__).parents[2] / "app.py"


@dataclass
class Galleries:
    """Stands in for the gallery component: remembers what it was given, and clicks where a test says so."""

    shown: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _clicks: dict[str, int] = field(default_factory=dict)

    def __call__(self, *, data: dict[str, Any], key: str, **_: object) -> dict[str, Any]:
        json.dumps(data)  # it has to reach the browser
        self.shown[key] = data["cards"]
        return {"clicked": self._clicks.pop(key, None)}

    def click(self, key: str, row: int) -> None:
        """The next run sees a click on a card."""
        assert row in self.rows(key)
        self._clicks[key] = row

    def rows(self, key: str) -> list[int]:
        """The rows that a gallery shows."""
        return [card["row"] for card in self.shown[key]]

    def marks(self, key: str) -> list[int]:
        """The rows that carry a mark."""
        return [card["row"] for card in self.shown[key] if card["mark"]]


class App:
    """The running app.

    Args:
        galleries: the recorder.
    """

    def __init__(self, galleries: Galleries) -> None:
        self.galleries = galleries
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
        self.test.switch_page(f"pages/{page}.py")
        return self.run()

    def run(self) -> App:
        self.galleries.shown.clear()
        self.test.run()
        return self.checked()

    def checked(self) -> App:
        assert [element.message for element in self.test.exception] == []
        return self

    def click(self, label: str) -> App:
        """Press a button by its label."""
        (button,) = [button for button in self.test.button if button.label == label]
        self.galleries.shown.clear()
        button.click().run()
        return self.checked()

    def select(self, *, lasso: list[tuple[float, float]] | None = None, clicked: list[int] | None = None) -> App:
        """Draw on the map, as the browser reports it: the chart's state is the JSON of Plotly's selection."""
        selection: dict[str, Any] = {"points": [], "point_indices": [], "box": [], "lasso": []}
        if lasso is not None:
            x, y = zip(*lasso, strict=True)
            selection["lasso"] = [{"xref": "x", "yref": "y", "x": list(x), "y": list(y)}]
        if clicked is not None:
            selection["points"] = [{"customdata": row, "curve_number": 0} for row in clicked]
        states = self.test._tree.get_widget_states()
        states.widgets.append(WidgetState(id=self.chart_id(), string_value=json.dumps({"selection": selection})))
        self.galleries.shown.clear()
        self.test._run(states)
        return self.checked()

    def chart_id(self) -> str:
        (chart,) = [chart for chart in self.charts() if chart.id]
        return str(chart.id)

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
def app(galleries: Galleries, quick_map: None) -> App:
    return App(galleries)


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
