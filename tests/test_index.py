"""Filtered retrieval against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from pvu.errors import QueryError
from pvu.index import SearchIndex

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(203, 24)).astype(np.float32) * RNG.uniform(0.01, 100, (203, 1)).astype(np.float32)


def brute_force(query: np.ndarray, k: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    units = VECTORS.astype(float) / np.linalg.norm(VECTORS.astype(float), axis=1, keepdims=True)
    cosines = units @ (query / np.linalg.norm(query))
    order = np.argsort(-cosines, kind="stable")
    order = order[allowed[order]][:k]
    return order, cosines[order]


@pytest.fixture(scope="module")
def index() -> SearchIndex:
    return SearchIndex(VECTORS)


def test_without_a_filter(index: SearchIndex) -> None:
    for query in RNG.normal(size=(20, 24)):
        rows, similarities = index.search(query, 10)
        expected, cosines = brute_force(query, 10, np.ones(203, bool))
        assert rows.tolist() == expected.tolist()
        np.testing.assert_allclose(similarities, cosines, atol=1e-5)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("k", [1, 10, 203, 1000])
def test_random_filters(index: SearchIndex, share: float, k: int) -> None:
    for _ in range(20):
        allowed = RNG.random(203) < share
        query = RNG.normal(size=24)
        rows, similarities = index.search(query, k, allowed=allowed)
        expected, cosines = brute_force(query, k, allowed)
        assert len(rows) == min(k, allowed.sum())
        assert rows.tolist() == expected.tolist()
        np.testing.assert_allclose(similarities, cosines, atol=1e-5)


def test_one_allowed_row_at_a_time(index: SearchIndex) -> None:
    """Every bit of the filter's bitmap, the last byte's too."""
    for row in range(203):
        rows, _ = index.search(VECTORS[0], 5, allowed=np.arange(203) == row)
        assert rows.tolist() == [row]


def test_none_allowed_gives_none(index: SearchIndex) -> None:
    rows, similarities = index.search(VECTORS[0], 5, allowed=np.zeros(203, bool))
    assert (rows.shape, rows.dtype) == ((0,), np.int64)
    assert (similarities.shape, similarities.dtype) == ((0,), np.float32)


def test_the_norm_does_not_matter_and_cosines_stay_within_one(index: SearchIndex) -> None:
    for scale in (1e-3, 1, 1e4):
        rows, similarities = index.search(VECTORS[7] * scale, 203)
        assert rows[0] == 7
        assert similarities.max() <= 1
        assert similarities[0] == pytest.approx(1, abs=1e-5)


def test_float16_memory_maps_are_taken_as_they_come() -> None:
    rows, _ = SearchIndex(VECTORS[:20].astype(np.float16)).search(VECTORS[3].astype(np.float16), 1)
    assert rows.tolist() == [3]


def test_a_zero_query_is_equally_far_from_everything(index: SearchIndex) -> None:
    rows, similarities = index.search(np.zeros(24), 203)
    assert sorted(rows.tolist()) == list(range(203))
    assert (similarities == 0).all()


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_refused(index: SearchIndex, k: int) -> None:
    with pytest.raises(QueryError, match=f"k must be at least 1, got {k}"):
        index.search(VECTORS[0], k)


@pytest.mark.parametrize("shape", [(23,), (1, 24), ()])
def test_queries_of_another_shape_are_refused(index: SearchIndex, shape: tuple[int, ...]) -> None:
    with pytest.raises(QueryError, match=r"needs the shape \(24,\)"):
        index.search(np.ones(shape), 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_queries_that_are_not_finite_are_refused(index: SearchIndex, bad: float) -> None:
    query = VECTORS[0].copy()
    query[5] = bad
    with pytest.raises(QueryError, match="finite"):
        index.search(query, 1)
