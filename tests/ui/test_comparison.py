"""The two columns of a comparison: what the filter took out, what it brought in, and nothing else, is marked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pvu.ui.comparison import comparison_cards, precision


def results(rows: list[int], u: list[float], labels: list[str | None]) -> pd.DataFrame:
    count = len(rows)
    return pd.DataFrame(
        {
            "row": np.array(rows, np.int64),
            "path": [f"{row}.png" for row in rows],
            "similarity": np.linspace(0.9, 0.5, count, dtype=np.float32),
            "uncertainty": np.array(u, np.float32),
            "label": np.array(labels, dtype=object),
        }
    )


LEFT = results([4, 8, 2, 6], [0.1, 0.9, 0.5, 0.7], ["cat", "dog", None, "cat"])
RIGHT = results([4, 2, 9, 1], [0.1, 0.5, 0.3, 0.2], ["cat", None, "cat", "dog"])


def test_marks_are_where_the_columns_differ() -> None:
    left, right = comparison_cards(LEFT, RIGHT, limit=0.5, label="cat")
    assert [card.row for card in left] == [4, 8, 2, 6]
    assert [card.tone for card in left] == ["", "removed", "", "removed"]
    assert [card.mark for card in left] == ["", "too uncertain", "", "too uncertain"]
    assert [card.row for card in right] == [4, 2, 9, 1]
    assert [card.tone for card in right] == ["", "", "added", "added"]
    assert [card.mark for card in right] == ["", "", "moved up", "moved up"]
    assert left[0].similarity == pytest.approx(0.9)


def test_labels_are_compared_only_where_both_are_known() -> None:
    left, right = comparison_cards(LEFT, RIGHT, limit=0.5, label="cat")
    assert [card.same_label for card in left] == [True, False, None, True]
    assert [card.same_label for card in right] == [True, None, True, False]
    left, right = comparison_cards(LEFT, RIGHT, limit=0.5, label=None)
    assert {card.same_label for card in left + right} == {None}


def test_without_a_filter_nothing_is_marked() -> None:
    left, right = comparison_cards(LEFT, LEFT, limit=None, label="cat")
    assert left == right
    assert {card.mark for card in left} == {""}


def test_a_result_at_the_limit_stays() -> None:
    left, _ = comparison_cards(LEFT, RIGHT, limit=float(np.float32(0.7)), label=None)
    assert [card.tone for card in left] == ["", "removed", "", ""]


def test_nothing_found() -> None:
    none = results([], [], [])
    assert comparison_cards(none, none, limit=0.5, label="cat") == ([], [])


def test_precision() -> None:
    assert precision(LEFT, "cat") == 0.5
    assert precision(RIGHT, "owl") == 0
    assert precision(LEFT, None) is None
    assert precision(results([], [], []), "cat") is None
