from __future__ import annotations

import os
from pathlib import Path

import pytest

from pvu.errors import SourceError
from training.evaluation.sets import class_order, find_set


def test_paths_and_labels_of_a_folder(sets: Path) -> None:
    found = find_set(sets, "birds")
    assert len(found) == 40
    assert list(found.paths) == sorted(found.paths)
    assert [path.split("/")[0] for path in found.paths] == found.labels.tolist()
    assert all(file.is_file() for file in found.files)


def test_halves_are_of_the_labels_in_class_order_and_make_the_whole(sets: Path) -> None:
    first, second = (find_set(sets, "birds", half=half) for half in ("first-half", "second-half"))
    assert set(first.labels) == {"1.bird", "2.bird"}
    assert set(second.labels) == {"3.bird", "10.bird", "11.bird"}
    assert {*first.paths, *second.paths} == set(find_set(sets, "birds").paths)
    assert len({first.identity, second.identity, find_set(sets, "birds").identity}) == 3


def test_class_order_counts_numbers_by_value() -> None:
    assert sorted(["b10", "b2", "a", "10", "9", "b2c"], key=class_order) == ["9", "10", "a", "b2", "b2c", "b10"]


def test_identity_follows_the_files(sets: Path) -> None:
    before = find_set(sets, "wnids")
    assert find_set(sets, "wnids").identity == before.identity
    os.utime(before.files[0], ns=(1, 1))
    assert find_set(sets, "wnids").identity != before.identity


def test_what_cannot_be_a_set_is_refused(sets: Path, data: Path) -> None:
    with pytest.raises(SourceError, match="no folder nothing in"):
        find_set(sets, "nothing")
    with pytest.raises(SourceError, match="have no labels"):
        find_set(data, "plain")
    with pytest.raises(ValueError, match="'third-half'"):
        find_set(sets, "birds", half="third-half")
