"""From what was drawn on the map to rows of the data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from pvu.selection import in_box, in_polygon


def selected_rows(event: dict[str, Any], coords: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The rows that a Plotly selection means.

    A lasso or a box is tested against all points that pass the filter, not only against those drawn; a click counts by
    the row in the point's custom data.

    Args:
        event: Streamlit's Plotly state, with ``selection.lasso``, ``.box`` and ``.points``.
        coords: (N, 2) float, all points.
        shown: (N,) bool, which pass the map's filter.

    Returns:
        (s,) int64 rows, ascending.
    """
    selection = event.get("selection", {})
    hit = np.zeros(len(coords), bool)
    for lasso in selection.get("lasso", []):
        hit |= in_polygon(coords, lasso["x"], lasso["y"])
    for box in selection.get("box", []):
        hit |= in_box(coords, tuple(box["x"]), tuple(box["y"]))
    hit &= shown
    if not selection.get("lasso") and not selection.get("box"):
        clicked = [_row(point.get("customdata")) for point in selection.get("points", [])]
        hit[[row for row in clicked if row is not None and 0 <= row < len(coords)]] = True
    return np.flatnonzero(hit)


def _row(customdata: Any) -> int | None:
    if isinstance(customdata, list | tuple):
        customdata = customdata[0] if customdata else None
    return int(customdata) if customdata is not None else None
