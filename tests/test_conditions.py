"""Conditions on columns: against plain Python over the rows, and there and back through a link."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pvu.conditions import Condition, column_kind, column_values, filter_columns, from_json, meets_all, to_json
from pvu.errors import QueryError
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, write_pictures


@pytest.fixture
def dataset(tmp_path: Path, quick_map: None) -> EmbeddedDataset:
    names = [f"{folder}/{number}.png" for folder in ("a", "B") for number in range(6)]
    write_pictures(tmp_path / "set", names)
    lines = ["path,label,camera,year,flag"]
    for place, name in enumerate(names):
        camera = "" if place % 4 == 3 else ("left", "right (new)", "LEFT")[place % 3]
        lines.append(
            f"{name},{'cat' if place % 2 else 'dog'},{camera},{'' if place == 5 else 2000 + place},{place > 6}"
        )
    (tmp_path / "set" / "labels.csv").write_text("\n".join(lines))
    return embed(tmp_path / "set", model=FakeEncoder(), workers=0)


def test_each_kind_is_what_python_says_row_by_row(dataset: EmbeddedDataset) -> None:
    rows = dataset.images.astype(object).where(dataset.images.notna(), None).to_dict("records")

    def same(condition: Condition, expected: list[bool]) -> None:
        found = condition.mask(dataset)
        assert found.dtype == bool
        assert found.tolist() == expected
        assert 0 < sum(expected) < 12

    same(Condition("label", values=("cat",)), [row["label"] == "cat" for row in rows])
    same(
        Condition("camera", values=("left", "right (new)")), [row["camera"] in ("left", "right (new)") for row in rows]
    )
    same(Condition("camera", values=(None, "LEFT")), [row["camera"] in (None, "LEFT") for row in rows])
    same(Condition("path", text="b/"), ["b/" in row["path"].lower() for row in rows])
    same(Condition("camera", text="(NEW"), ["(new" in (row["camera"] or "") for row in rows])
    same(Condition("year", low=2003), [row["year"] is not None and row["year"] >= 2003 for row in rows])
    same(
        Condition("year", low=2003, high=2008),
        [row["year"] is not None and 2003 <= row["year"] <= 2008 for row in rows],
    )
    both = meets_all(dataset, (Condition("label", values=("cat",)), Condition("year", high=2004)))
    assert both is not None
    assert both.tolist() == [row["label"] == "cat" and row["year"] is not None and row["year"] <= 2004 for row in rows]
    assert meets_all(dataset, ()) is None
    assert not Condition("label", values=()).mask(dataset).any()


def test_kinds_and_values_of_columns(dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filter_columns(dataset) == ["label", "path", "camera", "year", "flag", "width", "height"]
    kinds = {column: column_kind(dataset, column) for column in filter_columns(dataset)}
    assert kinds == {
        "label": "values",
        "path": "text",
        "camera": "values",
        "year": "range",
        "flag": "values",
        "width": "range",
        "height": "range",
    }
    assert column_values(dataset, "camera") == ["LEFT", "left", "right (new)", None]
    flag = column_values(dataset, "flag")
    assert Condition("flag", values=(flag[0],)).mask(dataset).sum() in (5, 7)
    monkeypatch.setattr("pvu.conditions.FEW", 1)
    assert column_kind(dataset, "camera") == "text"


@pytest.mark.parametrize(
    "condition",
    [
        Condition("label", values=("cat", "dog")),
        Condition("camera", values=(None, "right (new)")),
        Condition("path", text='a "quoted" ü & =?#'),
        Condition("year", low=2001.5),
        Condition("width", low=1, high=48),
    ],
)
def test_there_and_back(dataset: EmbeddedDataset, condition: Condition) -> None:
    assert from_json(dataset, to_json((condition,))) == (condition,)
    assert from_json(dataset, to_json((condition, Condition("height", high=9)))) == (
        condition,
        Condition("height", high=9),
    )


@pytest.mark.parametrize("text", ["", "no", "[]", "3", "null", '{"label"', "[" * 100_000])
def test_what_is_no_filter_is_one_sentence(dataset: EmbeddedDataset, text: str) -> None:
    with pytest.raises(QueryError, match=r"^The filter in this link cannot be read. Choose it again.$"):
        from_json(dataset, text)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"colour": ["red"]}, "The link filters by colour, but set has no such column"),
        ({"embedding": [0, 1]}, "no such column"),
        ({"label": ["cat", "no such"]}, "The link filters by label = no such, which no image of set has"),
        ({"label": "cat"}, "The link's filter by label is not one of its kind \\(values\\)"),
        ({"label": [1]}, "not one of its kind"),
        ({"year": [1]}, "not one of its kind \\(range\\)"),
        ({"year": ["2000", None]}, "not one of its kind"),
        ({"year": [True, None]}, "not one of its kind"),
        ({"year": [float("nan"), 1]}, "not one of its kind"),
        ({"path": ["a"]}, "not one of its kind \\(text\\)"),
    ],
)
def test_a_filter_of_another_data_set_is_one_sentence(dataset: EmbeddedDataset, said: object, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        from_json(dataset, json.dumps(said))


def test_a_column_without_a_number_meets_no_range(dataset: EmbeddedDataset) -> None:
    assert np.flatnonzero(~Condition("year").mask(dataset)).tolist() == [dataset.images["year"].isna().argmax()]
