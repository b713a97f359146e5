"""The two columns of a comparison: what the filter took out, what it brought in, and nothing else, is marked."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pvu.pipeline import embed
from pvu.ui.comparison import comparison_cards, precision, results_table
from tests.fakes import FakeEncoder, write_pictures


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


KEPT = np.array([True, True, True, False, True, True, False, True, False, True])


def test_marks_are_where_the_columns_differ() -> None:
    left, right = comparison_cards(LEFT, RIGHT, kept=KEPT, label="cat")
    assert [card.row for card in left] == [4, 8, 2, 6]
    assert [card.tone for card in left] == ["", "removed", "", "removed"]
    assert [card.mark for card in left] == ["", "too uncertain", "", "too uncertain"]
    assert [card.row for card in right] == [4, 2, 9, 1]
    assert [card.tone for card in right] == ["", "", "added", "added"]
    assert [card.mark for card in right] == ["", "", "moved up", "moved up"]
    assert left[0].similarity == pytest.approx(0.9)


def test_labels_are_compared_only_where_both_are_known() -> None:
    left, right = comparison_cards(LEFT, RIGHT, kept=KEPT, label="cat")
    assert [card.same_label for card in left] == [True, False, None, True]
    assert [card.same_label for card in right] == [True, None, True, False]
    left, right = comparison_cards(LEFT, RIGHT, kept=KEPT, label=None)
    assert {card.same_label for card in left + right} == {None}


def test_without_a_filter_nothing_is_marked() -> None:
    left, right = comparison_cards(LEFT, LEFT, kept=None, label="cat")
    assert left == right
    assert {card.mark for card in left} == {""}


def test_what_the_filter_keeps_stays() -> None:
    all_but_8 = np.arange(10) != 8
    left, _ = comparison_cards(LEFT, RIGHT, kept=all_but_8, label=None)
    assert [card.tone for card in left] == ["", "removed", "", ""]


def test_on_later_pages_only_what_the_left_has_not_shown_yet_has_moved_up() -> None:
    left, right = comparison_cards(LEFT, RIGHT, kept=KEPT, label=None, mark="too risky", page=slice(0, 2))
    assert [(card.row, card.mark) for card in left] == [(4, ""), (8, "too risky")]
    assert [(card.row, card.mark) for card in right] == [(4, ""), (2, "moved up")]
    left, right = comparison_cards(LEFT, RIGHT, kept=KEPT, label=None, mark="too risky", page=slice(2, 4))
    assert [(card.row, card.mark) for card in left] == [(2, ""), (6, "too risky")]
    assert [(card.row, card.mark) for card in right] == [(9, "moved up"), (1, "moved up")]
    assert comparison_cards(LEFT, RIGHT, kept=KEPT, label=None, page=slice(4, 6)) == ([], [])


def test_nothing_found() -> None:
    none = results([], [], [])
    assert comparison_cards(none, none, kept=KEPT, label="cat") == ([], [])


def test_precision() -> None:
    assert precision(LEFT, "cat") == 0.5
    assert precision(RIGHT, "owl") == 0
    assert precision(LEFT, None) is None
    assert precision(results([], [], []), "cat") is None


def test_the_list_to_take_away(tmp_path: Path, quick_map: None) -> None:
    write_pictures(tmp_path / "set", [f"{number}.png" for number in range(6)])
    table = "path,label,camera,risk\n" + "".join(f"{number}.png,cat,c{number},{number}\n" for number in range(5))
    (tmp_path / "set" / "labels.csv").write_text(table)
    dataset = embed(tmp_path / "set", model=FakeEncoder(), workers=0)
    found = dataset.search(2, 5)
    risk = SimpleNamespace(values=np.arange(6, dtype=np.float32) / 10)
    taken = pd.read_csv(io.StringIO(results_table(dataset, found, risk).to_csv(index=False)))
    assert list(taken) == [
        *("rank", "path", "label", "similarity", "uncertainty", "percentile", "risk"),
        *("camera", "risk (table)"),
    ]
    assert taken["rank"].tolist() == [1, 2, 3, 4, 5]
    for line, result in zip(taken.to_dict("records"), found.to_dict("records"), strict=True):
        row = result["row"]
        assert Path(line["path"]) == dataset.image_path(row)
        assert Path(line["path"]).is_file()
        assert line["similarity"] == pytest.approx(result["similarity"])
        assert line["uncertainty"] == pytest.approx(dataset.uncertainty[row])
        assert line["percentile"] == pytest.approx(dataset.percentiles[row])
        assert line["risk"] == pytest.approx(row / 10)
        if row != 5:
            assert (line["label"], line["camera"], line["risk (table)"]) == ("cat", f"c{row}", row)
        else:
            assert pd.isna(line["label"])
    assert results_table(dataset, found, None)["risk"].isna().all()
    assert results_table(dataset, found[:0], risk).empty
