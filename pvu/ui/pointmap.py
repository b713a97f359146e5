"""The map component: the browser fetches points and colours as binary columns, and draws them with plotly.js."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import plotly.colors
import streamlit as st

from pvu.coloring import SCALE, coloring, drawn_count, grid, map_rows
from pvu.selection import in_box, in_polygon
from pvu.store import EmbeddedDataset
from pvu.ui.serving import address, plotly_address

_HERE = Path(__file__).parent
# Not isolated: plotly.js puts its own style sheet into the page's head.
_component = st.components.v2.component(
    "pvu_map",
    html=(_HERE / "map.html").read_text(encoding="utf-8"),
    css=(_HERE / "map.css").read_text(encoding="utf-8"),
    js=(_HERE / "map.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Drawn:
    """What was drawn on the map.

    Args:
        kind: "lasso", "box" or "clear".
        x: the lasso's vertices, or the box's two ends.
        y: the same.
        add: whether the images are added to those selected before.
    """

    kind: str
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    add: bool = False

    def rows(self, coords: np.ndarray, shown: np.ndarray, before: np.ndarray) -> np.ndarray:
        """The images it means, tested against all (N, 2) points, whatever number of them the browser draws.

        Args:
            coords: (N, 2) float.
            shown: (N,) bool, which pass the map's filters.
            before: (s,) int rows selected before.

        Returns:
            (s,) int64 rows, ascending.
        """
        if self.kind == "clear":
            return np.empty(0, np.int64)
        if self.kind == "box":
            hit = in_box(coords, (self.x[0], self.x[-1]), (self.y[0], self.y[-1]))
        else:
            hit = in_polygon(coords, np.array(self.x), np.array(self.y))
        hit &= shown
        if self.add:
            hit[before] = True
        return np.flatnonzero(hit)


def drawn(event: Any) -> Drawn | None:
    """What the browser says was drawn; None if it says nothing that makes sense."""
    if not isinstance(event, dict) or event.get("kind") not in ("lasso", "box", "clear"):
        return None
    try:
        x, y = (tuple(float(value) for value in event.get(axis, ())) for axis in ("x", "y"))
    except (TypeError, ValueError):
        return None
    enough = {"lasso": 3, "box": 2, "clear": 0}[event["kind"]]
    if len(x) != len(y) or len(x) < enough or not np.isfinite([*x, *y]).all():
        return None
    return Drawn(event["kind"], x, y, bool(event.get("add")))


def point_map(
    dataset: EmbeddedDataset,
    *,
    key: str,
    color_by: str,
    color_title: str,
    color_version: str = "",
    shown: np.ndarray,
    selected: np.ndarray,
    ring: tuple[int, ...] = (),
    size_by_uncertainty: bool = False,
    on_drawn: Any = None,
) -> int | None:
    """Show the map.

    Args:
        dataset: any.
        key: unique on the page.
        color_by: one of ``pvu.coloring.color_choices``.
        color_title: what to write at the legend.
        color_version: changes when the column's values do, where they can (tags).
        shown: (N,) bool, which images pass the filters.
        selected: (s,) int rows; the others fade. None fades if it is empty.
        ring: rows to point at.
        size_by_uncertainty: uncertain images large and faint, certain ones small and solid.
        on_drawn: called before the next run once something was drawn, with a :class:`Drawn`.

    Returns:
        The row that was clicked in this run, else None.
    """

    def drew() -> None:
        shape = drawn(st.session_state[key]["drawn"])
        if shape is not None and on_drawn is not None:
            on_drawn(shape)

    base = address(dataset)
    data = {
        "version": dataset.version,
        "plotly": plotly_address(),
        "address": base,
        "points": f"{base}/points",
        "rows": f"{base}/rows" if drawn_count(len(dataset)) < len(dataset) else None,
        "frame": _frame(dataset),
        "percentiles": f"{base}/percentiles" if dataset.has_uncertainty else None,
        "color": _color(dataset, base, color_by, color_title, color_version),
        "shown": None if shown.all() else pack_rows(shown),
        "selected": pack_rows(_mask(len(dataset), selected)) if len(selected) else None,
        # With its place: where a sample is drawn, the image may not be in it.
        "ring": [[int(row), *dataset.coords[row].tolist()] for row in ring if row < len(dataset)],
        "size": size_by_uncertainty and dataset.has_uncertainty,
    }
    result = _component(data=data, key=key, on_clicked_change=lambda: None, on_drawn_change=drew)
    clicked = result.get("clicked")
    return int(clicked) if clicked is not None and 0 <= int(clicked) < len(dataset) else None


def pack_rows(mask: np.ndarray) -> str:
    """A (N,) bool mask as base64 of one bit a row, the lowest bit first."""
    return base64.b64encode(np.packbits(mask, bitorder="little").tobytes()).decode()


def _mask(count: int, rows: np.ndarray) -> np.ndarray:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask


@st.cache_data(max_entries=16, show_spinner=False)
def _frame_of(version: str, _dataset: EmbeddedDataset) -> list[list[float]]:
    del version  # the key
    frame: list[list[float]] = grid(_dataset.coords[map_rows(len(_dataset))])[1].tolist()
    return frame


def _frame(dataset: EmbeddedDataset) -> list[list[float]]:
    return _frame_of(dataset.version, dataset)


def _color(dataset: EmbeddedDataset, base: str, name: str, title: str, version: str) -> dict[str, Any]:
    query = urlencode({"by": name, **({"v": version} if version else {})})
    return {"address": f"{base}/color?{query}", "title": title, **_legend(dataset.version, name, version, dataset)}


@st.cache_data(max_entries=32, show_spinner=False)
def _legend(data_version: str, name: str, version: str, _dataset: EmbeddedDataset) -> dict[str, Any]:
    del data_version, version  # the key
    made = coloring(_dataset, name)
    return {
        "low": made.low,
        "high": made.high,
        "ticks": [list(tick) for tick in made.ticks],
        "legend": [list(entry) for entry in made.legend],
        "colors": plotly.colors.get_colorscale(SCALE.lower()),
    }
