from __future__ import annotations

import numpy as np
import pytest

from pvu.neighbors import nearest_neighbors
from training.evaluation.safe import PARTS, certain_of_each_label, nearest_allowed, safe_retrieval


def some(seed: int = 0, count: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(6, size=count)
    z = rng.normal(size=(6, 8))[labels] + 1.2 * rng.normal(size=(count, 8))
    named = np.array([f"label {n}" for n in labels], dtype=object)
    named[rng.integers(count, size=5)] = None
    return z, named, rng.random(count)


def naive_kept(labels: np.ndarray, u: np.ndarray) -> np.ndarray:
    kept = np.ones(len(u), bool)
    for label in {label for label in labels if label is not None}:
        limit = np.quantile([u[i] for i in range(len(u)) if labels[i] == label], 0.9)
        for i in range(len(u)):
            if labels[i] == label and u[i] > limit:
                kept[i] = False
    return kept


def naive_recall(z: np.ndarray, labels: np.ndarray, queries: np.ndarray, database: np.ndarray) -> float:
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    right = []
    for query in np.flatnonzero(queries):
        others = [row for row in np.flatnonzero(database) if row != query]
        right.append(labels[max(others, key=lambda row: unit[row] @ unit[query])] == labels[query])
    return float(np.mean(right))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 10])
def test_safe_retrieval_is_the_naive_one(seed: int, k: int) -> None:
    z, labels, u = some(seed)
    kept, labelled, everything = naive_kept(labels, u), labels != np.array(None), np.ones(len(u), bool)
    np.testing.assert_array_equal(certain_of_each_label(labels, u), kept)
    found = safe_retrieval(z, nearest_neighbors(z, k)[0], labels, u)
    assert found == pytest.approx(
        {
            "database": naive_recall(z, labels, labelled, kept),
            "queries": naive_recall(z, labels, labelled & kept, everything),
            "both": naive_recall(z, labels, labelled & kept, kept),
        }
    )


def test_each_label_loses_a_tenth() -> None:
    labels = np.repeat(["a", "b", "c"], [40, 10, 1]).astype(object)
    kept = certain_of_each_label(labels, np.arange(51.0))
    assert [int((~kept[labels == name]).sum()) for name in "abc"] == [4, 1, 0]


def test_the_whole_database_is_searched_where_all_neighbours_are_left_out() -> None:
    z = np.array([[1, 0], [1, 0.01], [1, 0.02], [0, 1], [0.1, 1]], np.float64)
    allowed = np.array([True, False, False, False, True])
    neighbors = nearest_neighbors(z, 2)[0]
    assert nearest_allowed(z, neighbors, np.arange(5), allowed).tolist() == [4, 0, 0, 4, 0]
    only = np.arange(5) == 2
    assert nearest_allowed(z, neighbors, np.array([2, 0]), only).tolist() == [-1, 2]


def test_uncertainties_that_are_missing_give_nan() -> None:
    z, labels, u = some()
    found = safe_retrieval(z, nearest_neighbors(z, 3)[0], labels, u * np.nan)
    assert list(found) == list(PARTS)
    assert np.isnan(list(found.values())).all()
