"""Duplicates: groups against a slow union-find, real copies through the real model, leaks, and the order."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pvu
from pvu.duplicates import duplicates, split_of
from tests.conftest import SharedData
from tests.reviewing import clusters, dataset_of


def slow_groups(similarity: np.ndarray, hashes: list[str], cutoff: float) -> set[frozenset[int]]:
    """Merge sets until nothing changes."""
    sets = [{row} for row in range(len(hashes))]
    for i, j in itertools.combinations(range(len(hashes)), 2):
        if similarity[i, j] >= cutoff or hashes[i] == hashes[j]:
            a, b = (next(group for group in sets if row in group) for row in (i, j))
            if a is not b:
                a |= b
                sets.remove(b)
    return {frozenset(group) for group in sets if len(group) > 1}


@pytest.mark.parametrize("cutoff", [0.8, 0.9, 0.97, 1.0])
def test_groups_agree_with_a_slow_union_find(cutoff: float) -> None:
    rng = np.random.default_rng(1)
    embeddings, _ = clusters(10, 8, spread=0.3)
    hashes = [f"{number}" for number in rng.integers(0, 500, 80)]
    data = dataset_of(embeddings, hashes=hashes, k=79)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = duplicates(data, cutoff=cutoff)
    groups = {frozenset(found.rows[found.group == number].tolist()) for number in set(found.group.tolist())}
    assert groups == slow_groups(unit @ unit.T, hashes, cutoff)
    assert groups
    assert (np.diff(found.group) >= 0).all()  # one group after the other
    for place, row in enumerate(found.rows):
        others = [other for other in found.rows[found.group == found.group[place]] if other != row]
        assert [other for other in found.beside[place] if other >= 0] == others[:5]
        best = max(1.0 if hashes[row] == hashes[other] else unit[row] @ unit[other] for other in others)
        assert found.scores[place] == pytest.approx(best, abs=1e-5)


def test_copies_of_a_file_are_found_even_where_the_graph_has_no_room_for_them() -> None:
    embeddings = np.random.default_rng(0).standard_normal((50, 8))
    data = dataset_of(embeddings, hashes=["same" if row % 5 == 0 else str(row) for row in range(50)], k=3)
    found = duplicates(data)
    assert sorted(found.rows) == list(range(0, 50, 5))
    assert (found.scores == 1).all()
    assert found.text(0) == "Looks like 9 other images, at least one is the same file."


def test_files_without_a_hash_are_not_copies_of_each_other() -> None:
    data = dataset_of(np.random.default_rng(0).standard_normal((6, 8)), hashes=[""] * 6)
    assert len(duplicates(data)) == 0


def test_leaks_come_first_and_say_where_they_are() -> None:
    embeddings = np.repeat(np.random.default_rng(0).standard_normal((4, 8)), [2, 3, 2, 1], axis=0)
    embeddings[4] += 0.01
    paths = [
        "train/a.jpg",
        "train/b.jpg",
        "x/train/c.jpg",
        "x/val/d.jpg",
        "x/test/e.jpg",
        "f.jpg",
        "val/g.jpg",
        "h.jpg",
    ]
    labels = ["cat", "cat", "cat", "cat", "dog", None, "cat", "cat"]
    found = duplicates(dataset_of(embeddings, paths=paths, labels=labels, uncertainty=np.linspace(0.9, 0.1, 8)))
    assert found.rows.tolist()[:3] == [4, 3, 2]  # the most certain of a group first
    assert found.leak.tolist() == [True] * 3 + [False] * 4
    assert found.text(0).endswith("It is in test, train and val. Labels differ: cat and dog.")
    assert "It is in" not in found.text(4)


def test_the_largest_picture_of_a_group_is_the_first() -> None:
    data = dataset_of(np.ones((3, 8)), uncertainty=np.array([0.1, 0.2, 0.3]))
    data.images["width"] = [40, 400, 40]
    assert duplicates(data).rows.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/cat/1.jpg", "train"),
        ("a/Training/1.jpg", "train"),
        ("train2017/1.jpg", "train"),
        ("val/1.jpg", "val"),
        ("valid/1.jpg", "val"),
        ("validation_images/1.jpg", "val"),
        ("dev/1.jpg", "val"),
        ("testing/1.jpg", "test"),
        ("test-1/1.jpg", "test"),
        ("cat/train.jpg", None),
        ("testudo/1.jpg", None),
        ("trainer/1.jpg", None),
        ("value/1.jpg", None),
        ("1.jpg", None),
    ],
)
def test_splits_are_read_from_folders(path: str, split: str | None) -> None:
    assert split_of(dataset_of(np.ones((2, 4)), paths=[path, "other.jpg"])).tolist() == [split, None]


def test_a_column_of_the_table_says_more_than_folders() -> None:
    data = dataset_of(np.ones((3, 4)), paths=["train/a.jpg", "b.jpg", "c.jpg"], Split=["val", None, "holdout"])
    assert split_of(data).tolist() == ["val", None, "holdout"]
    assert duplicates(data).leak.all()


@pytest.mark.shared_data
def test_real_copies_are_found_and_other_flowers_are_not(
    shared_data: SharedData, tmp_path: Path, quick_map: None
) -> None:
    """Copied, recompressed and enlarged photographs, through the bundled model."""
    sources = sorted(shared_data.folder("flowers17").rglob("*.jpg"))[5::80][:16]
    folder = tmp_path / "flowers"
    folder.mkdir()
    for number, source in enumerate(sources):
        shutil.copy(source, folder / f"{number:02d}.jpg")
        picture = Image.open(source)
        if number < 4:
            shutil.copy(source, folder / f"{number:02d}-copy.jpg")
        elif number < 8:
            picture.save(folder / f"{number:02d}-copy.jpg", quality=80)
        elif number < 12:
            picture.resize((picture.width * 5 // 4, picture.height * 5 // 4)).save(folder / f"{number:02d}-copy.png")
    data = pvu.embed(folder, workers=0)
    found = duplicates(data)
    groups = {frozenset(data.images["path"].iloc[found.rows[found.group == group]].str[:2]) for group in found.group}
    assert groups == {frozenset([f"{number:02d}"]) for number in range(12)}
