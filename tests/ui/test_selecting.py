"""From Streamlit's Plotly state to rows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pvu.ui.selecting import selected_rows

COORDS = np.array([(x, y) for x in range(10) for y in range(10)], np.float32)  # row = 10 x + y
ALL = np.ones(100, bool)


def event(**selection: object) -> dict[str, object]:
    """As the browser sends it: through JSON."""
    full = {"points": [], "point_indices": [], "box": [], "lasso": [], **selection}
    return json.loads(json.dumps({"selection": full}))


def test_nothing_drawn_is_nothing_selected() -> None:
    assert selected_rows({}, COORDS, ALL).tolist() == []
    assert selected_rows(event(), COORDS, ALL).tolist() == []


def test_a_lasso_counts_all_points_not_only_those_drawn() -> None:
    lasso = {"x": [-0.5, 2.5, 2.5, -0.5], "y": [-0.5, -0.5, 1.5, 1.5]}
    drawn = [{"customdata": 0}]  # the browser knew one of the six
    rows = selected_rows(event(lasso=[lasso], points=drawn), COORDS, ALL)
    assert rows.tolist() == [0, 1, 10, 11, 20, 21]
    assert rows.dtype == np.int64


def test_a_box_in_both_directions() -> None:
    for x, y in (([0, 1], [8.5, 9]), ([1, 0], [9, 8.5])):
        assert selected_rows(event(box=[{"x": x, "y": y}]), COORDS, ALL).tolist() == [9, 19]


def test_several_shapes_are_joined() -> None:
    lasso = {"x": [-1, 0.5, 0.5, -1], "y": [-1, -1, 0.5, 0.5]}
    boxes = [{"x": [8.5, 9.5], "y": [8.5, 9.5]}, {"x": [-1, 0.5], "y": [-1, 1.5]}]
    assert selected_rows(event(lasso=[lasso], box=boxes), COORDS, ALL).tolist() == [0, 1, 99]


def test_hidden_points_are_never_selected_by_a_shape() -> None:
    shown = ALL.copy()
    shown[[0, 20]] = False
    lasso = {"x": [-0.5, 2.5, 2.5, -0.5], "y": [-0.5, -0.5, 0.5, 0.5]}
    assert selected_rows(event(lasso=[lasso]), COORDS, shown).tolist() == [10]


@pytest.mark.parametrize("customdata", [7, [7], 7.0])
def test_a_click_is_the_row_in_its_custom_data(customdata: object) -> None:
    assert selected_rows(event(points=[{"customdata": customdata, "point_index": 3}]), COORDS, ALL).tolist() == [7]


@pytest.mark.parametrize("customdata", [None, [], -1, 100, 1e9])
def test_a_click_on_something_that_is_no_image_selects_nothing(customdata: object) -> None:
    assert selected_rows(event(points=[{"customdata": customdata}, {}]), COORDS, ALL).tolist() == []
