"""What the map is coloured by: every column gets a scale or a legend, and nothing is sent as larger than it need be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pvu.clusters import Clusters
from pvu.coloring import (
    COLORS,
    DRAWN_LIMIT,
    NONE,
    OTHER,
    UNCERTAINTY,
    color_choices,
    coloring,
    grid,
    map_rows,
    percentile_steps,
)
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.fakes import FakeEncoder

pytestmark = pytest.mark.usefixtures("quick_map")


@pytest.fixture
def dataset(photos: Path) -> EmbeddedDataset:
    return embed(photos, model=FakeEncoder(), workers=0)


def with_column(dataset: EmbeddedDataset, values: list[Any]) -> EmbeddedDataset:
    dataset.images["column"] = pd.Series(values)
    dataset.manifest["metadata_columns"] = ["column"]
    return dataset


def words(dataset: EmbeddedDataset, name: str) -> list[tuple[str, str]]:
    """What each image is called and its colour, read from the codes."""
    made = coloring(dataset, name)
    return [made.legend[int(code)] for code in made.values]


def test_up_to_the_limit_all_rows_are_drawn() -> None:
    assert map_rows(5).tolist() == [0, 1, 2, 3, 4]
    assert len(map_rows(DRAWN_LIMIT)) == DRAWN_LIMIT
    assert map_rows(0).tolist() == []


def test_above_the_limit_a_sample_keeps_the_density_and_is_the_same_each_time() -> None:
    count = 4 * DRAWN_LIMIT
    rows = map_rows(count)
    assert rows.dtype == np.int32
    assert len(rows) == DRAWN_LIMIT
    assert (np.diff(rows) > 0).all()  # sorted, none twice
    assert (rows == map_rows(count)).all()
    # Rows are sorted by path, so a tenth of the rows is a part of the map: each keeps a quarter of its points.
    tenths, _ = np.histogram(rows, bins=10, range=(0, count))
    assert tenths == pytest.approx(DRAWN_LIMIT / 10, rel=0.05)


def test_places_come_back_from_their_steps_to_half_a_step() -> None:
    coords = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32) * [3, 0.01] + [100, -5]
    steps, frame = grid(coords)
    assert steps.dtype == np.uint16
    assert steps.min(axis=0).tolist() == [0, 0]
    assert steps.max(axis=0).tolist() == [65535, 65535]
    span = coords.max(axis=0) - coords.min(axis=0)
    assert (np.abs(frame[0] + steps * frame[1] - coords) <= span / 65535 / 2 * 1.001 + 1e-9).all()


@pytest.mark.parametrize("coords", [np.zeros((0, 2)), np.full((3, 2), 7.0), np.array([[1.0, 2.0]])])
def test_places_without_extent(coords: np.ndarray) -> None:
    steps, frame = grid(coords.astype(np.float32))
    assert steps.shape == coords.shape
    assert np.isfinite(frame).all()
    assert np.allclose(frame[0] + steps * frame[1], coords)


def test_percentiles_are_rounded_to_half_steps(dataset: EmbeddedDataset) -> None:
    steps = percentile_steps(dataset)
    assert steps.dtype == np.float32
    assert np.abs(steps - dataset.percentiles).max() <= 0.25
    assert (steps * 2 == np.round(steps * 2)).all()
    made = coloring(dataset, UNCERTAINTY)
    assert (made.low, made.high, made.legend) == (0, 100, ())
    assert (made.values == steps).all()


def test_the_choices_are_the_columns_that_there_are(dataset: EmbeddedDataset) -> None:
    assert color_choices(dataset)[:2] == [UNCERTAINTY, "label"]
    for name in color_choices(with_column(dataset, [1.5] * 12)):
        assert len(coloring(dataset, name).values) == 12
    assert "column" in color_choices(dataset)
    with pytest.raises(KeyError):
        coloring(dataset, "path of secrets")
    dataset.manifest["has_head"] = False
    assert UNCERTAINTY not in color_choices(dataset)


def test_labels_have_the_colours_of_the_legend(dataset: EmbeddedDataset) -> None:
    named = words(dataset, "label")
    assert [name for name, _ in named] == dataset.labels.tolist()
    assert len({color for _, color in named}) == len(set(dataset.labels))


def test_the_commonest_words_come_first_and_the_rest_shares_one_grey(dataset: EmbeddedDataset) -> None:
    values = [f"word {number // 2 if number < 4 else number}" for number in range(12)]
    made = coloring(with_column(dataset, values), "column")
    ranked = [name for name, _ in Counter(values).most_common()]
    assert [name for name, _ in made.legend] == ranked  # ten words have twelve colours
    many = pd.DataFrame({"column": [f"{number:03d}" for number in range(40)] + ["000", None]})
    dataset.images = many
    made = coloring(dataset, "column")
    assert len(made.legend) == len(COLORS) + 1
    assert made.legend[0] == ("000", COLORS[0])
    assert made.legend[-2:] == (("21 others", OTHER), (NONE, OTHER))
    assert made.values[[0, 40]].tolist() == [0, 0]
    assert made.values[41] == len(COLORS)
    assert Counter(made.values.tolist())[len(COLORS) - 1] == 21


def test_numbers_have_a_scale_and_gaps(dataset: EmbeddedDataset) -> None:
    values = [None, *range(10), 1e300]
    made = coloring(with_column(dataset, values), "column")
    assert np.isnan(made.values[0])
    assert (made.low, made.high) == (0, 9)  # what float32 cannot hold is off the scale
    assert [text for _, text in made.ticks] == ["0", "4.5", "9"]
    constant = coloring(with_column(dataset, [4] * 12), "column")
    assert constant.high > constant.low == 4
    assert constant.ticks == ()
    assert coloring(with_column(dataset, [True, False] * 6), "column").legend[0][0] in ("True", "False")


def test_tags_are_seen_as_soon_as_they_are_set(dataset: EmbeddedDataset) -> None:
    assert words(dataset, "tag") == [(NONE, OTHER)] * 12
    Tags.of(dataset).set([2, 5], "drop")
    assert [row for row, (name, _) in enumerate(words(dataset, "tag")) if name == "drop"] == [2, 5]


def test_clusters_of_the_same_name_are_told_apart(dataset: EmbeddedDataset) -> None:
    table = pd.DataFrame({"cluster": [0, 1], "name": ["cat", "cat"]})
    dataset.__dict__["clusters"] = Clusters(np.array([0, 1, -1] * 4, np.int32), table)
    assert [name for name, _ in words(dataset, "cluster")[:3]] == ["cat (1)", "cat (2)", NONE]


def test_duplicates_are_coloured_by_their_group(dataset: EmbeddedDataset) -> None:
    dataset.similarities[:] = 0  # the fake encoder sees little difference between its pictures
    dataset.images.loc[[3, 7, 9], "content_hash"] = "same"
    named = [name for name, _ in words(dataset, "duplicates")]
    assert named[3] == named[7] == named[9] != NONE
    assert named.count(named[3]) == 3
