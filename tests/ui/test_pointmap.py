"""What is drawn on the map, as rows."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from skimage.measure import points_in_poly

from pvu.ui.pointmap import Drawn, drawn, pack_rows

COORDS = np.random.default_rng(0).uniform(-1, 1, size=(500, 2)).astype(np.float32)
ALL = np.ones(500, bool)
NO_ROWS = np.empty(0, np.int64)


def test_a_lasso_holds_the_points_inside_it() -> None:
    x, y = (0.0, 0.9, 0.2, -0.7, -0.1), (-0.8, 0.1, 0.7, 0.3, 0.0)
    inside = points_in_poly(COORDS, np.stack([x, y], axis=1))
    assert 20 < inside.sum() < 400
    assert Drawn("lasso", x, y).rows(COORDS, ALL, NO_ROWS).tolist() == np.flatnonzero(inside).tolist()


def test_a_box_may_be_drawn_from_any_corner() -> None:
    inside = np.flatnonzero((np.abs(COORDS) <= 0.3).all(axis=1)).tolist()
    for x in ((-0.3, 0.3), (0.3, -0.3)):
        assert Drawn("box", x, (0.3, -0.3)).rows(COORDS, ALL, NO_ROWS).tolist() == inside


def test_what_is_filtered_out_cannot_be_selected() -> None:
    shown = np.arange(500) % 2 == 0
    rows = Drawn("box", (-1, 1), (-1, 1)).rows(COORDS, shown, NO_ROWS)
    assert rows.tolist() == list(range(0, 500, 2))


def test_adding_keeps_what_was_selected_and_clearing_does_not() -> None:
    before = np.array([3, 400])
    box = Drawn("box", (0, 0.2), (0, 0.2), add=True)
    assert set(box.rows(COORDS, ALL, before)) == {3, 400, *Drawn("box", (0, 0.2), (0, 0.2)).rows(COORDS, ALL, before)}
    assert len(Drawn("clear", add=True).rows(COORDS, ALL, before)) == 0


@pytest.mark.parametrize(
    "event",
    [
        None,
        "lasso",
        {},
        {"kind": "circle", "x": [1, 2, 3], "y": [1, 2, 3]},
        {"kind": "lasso", "x": [1, 2], "y": [1, 2]},
        {"kind": "lasso", "x": [1, 2, 3], "y": [1, 2]},
        {"kind": "box", "x": [1, None], "y": [1, 2]},
        {"kind": "box", "x": [1, float("nan")], "y": [1, 2]},
        {"kind": "box", "x": 5, "y": 6},
    ],
)
def test_what_the_browser_says_is_checked(event: object) -> None:
    assert drawn(event) is None


def test_rows_are_packed_a_bit_each() -> None:
    mask = np.random.default_rng(1).random(1001) < 0.3
    data = base64.b64decode(pack_rows(mask))
    assert len(data) == 126
    assert [bool(data[row >> 3] >> (row & 7) & 1) for row in range(1001)] == mask.tolist()
