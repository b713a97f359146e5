"""Picking diverse images: the lazy choice against the plain greedy loop, and what may not be picked."""

from __future__ import annotations

import numpy as np
import pytest

from pvu.errors import QueryError
from pvu.neighbors import normalized
from pvu.picking import farthest_first, pick_diverse
from tests.reviewing import clusters, dataset_of


def slow(vectors: np.ndarray, count: int, there: list[np.ndarray]) -> list[int]:
    chosen: list[int] = []
    if not there:
        chosen.append(int(np.argmax(vectors @ vectors.mean(axis=0))))
    while len(chosen) < count:
        nearest = np.array([max(v @ other for other in [*there, *vectors[chosen]]) for v in vectors])
        nearest[chosen] = np.inf
        chosen.append(int(np.argmin(nearest)))
    return chosen


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("start", [False, True])
def test_the_lazy_choice_is_the_greedy_one(monkeypatch: pytest.MonkeyPatch, seed: int, start: bool) -> None:
    monkeypatch.setattr("pvu.picking._BLOCK", 7)
    vectors = normalized(clusters(6, 50, spread=0.7, seed=seed)[0]).astype(np.float64)
    there = [vectors[0], vectors[77]] if start else []
    similarity = (vectors @ np.array(there).T).max(axis=1) if start else None
    assert farthest_first(vectors, 40, similarity=similarity).tolist() == slow(vectors, 40, there)


def test_every_cluster_is_met_before_any_is_met_twice() -> None:
    embeddings, codes = clusters(12, 30, spread=0.15)
    picked = pick_diverse(dataset_of(embeddings), 12)
    assert sorted(codes[picked]) == list(range(12))


@pytest.mark.parametrize("k", [3, 20])
def test_nothing_that_is_not_allowed_and_far_from_what_is_known(k: int) -> None:
    """With few neighbours in the graph most known images have to be searched for, with many they are looked up."""
    embeddings, codes = clusters(10, 40, spread=0.2)
    u = np.random.default_rng(0).random(400).astype(np.float32)
    data = dataset_of(embeddings, uncertainty=u, k=k)
    allowed = np.arange(400) % 3 > 0
    known = np.flatnonzero(codes < 6)
    picked = pick_diverse(data, 30, max_uncertainty=0.5, allowed=allowed, away_from=known)
    assert len(set(picked.tolist())) == 30
    assert (u[picked] <= 0.5).all()
    assert allowed[picked].all()
    assert not np.isin(picked, known).any()
    assert sorted(codes[picked[:4]]) == [6, 7, 8, 9]  # the labels that are not known yet
    vectors = normalized(embeddings)
    rows = np.flatnonzero(allowed & (u <= 0.5) & (codes >= 6))
    assert picked.tolist() == rows[slow(vectors[rows], 30, list(vectors[known]))].tolist()


def test_as_many_as_there_are_and_none_of_none() -> None:
    data = dataset_of(clusters(2, 10)[0])
    assert sorted(pick_diverse(data, 50)) == list(range(20))
    assert pick_diverse(data, 5, allowed=np.zeros(20, bool)).tolist() == []
    assert pick_diverse(data, 5, away_from=np.arange(20)).tolist() == []


def test_copies_come_last() -> None:
    embeddings = np.repeat(np.random.default_rng(0).standard_normal((5, 8)), 4, axis=0)
    assert len({row // 4 for row in pick_diverse(dataset_of(embeddings), 5)}) == 5


def test_what_cannot_be_picked_is_a_sentence() -> None:
    data = dataset_of(clusters(2, 10)[0])
    with pytest.raises(QueryError, match="at least 1 image, not 0"):
        pick_diverse(data, 0)
    with pytest.raises(QueryError, match="no uncertainty head"):
        pick_diverse(data, 3, max_uncertainty=0.5)
    with pytest.raises(QueryError, match=r"shape \(20,\), got \(3,\)"):
        pick_diverse(data, 3, allowed=np.ones(3, bool))
