"""The neighbour graph against scikit-learn, with duplicates, zeros and an approximate index."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

import pvu.neighbors
from pvu.neighbors import nearest_neighbors, normalized


def reference(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn leaves each point itself out when it is asked about its own points."""
    distances, indices = NearestNeighbors(n_neighbors=k, metric="cosine").fit(vectors.astype(float)).kneighbors()
    return indices, 1 - distances


def blobs(count: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dim))
    return (centres[rng.integers(20, size=count)] + 0.5 * rng.normal(size=(count, dim))).astype(np.float32)


@pytest.mark.parametrize(("count", "k"), [(2, 1), (3, 2), (50, 5), (400, 30)])
def test_exact_neighbours_are_those_of_scikit_learn(count: int, k: int) -> None:
    vectors = blobs(count, 16)
    indices, similarities = nearest_neighbors(vectors, k)
    expected, cosines = reference(vectors, k)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(similarities, cosines, atol=1e-5)
    assert (indices.dtype, similarities.dtype) == (np.int32, np.float32)


def test_blocks_are_joined_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(100, 16)
    whole = nearest_neighbors(vectors, 5)
    monkeypatch.setattr("pvu.neighbors._BLOCK", 7)
    parts = nearest_neighbors(vectors, 5)
    np.testing.assert_array_equal(whole[0], parts[0])


def test_the_norm_does_not_matter() -> None:
    vectors = blobs(60, 8)
    scaled = vectors * np.random.default_rng(1).uniform(1e-3, 1e3, (60, 1)).astype(np.float32)
    np.testing.assert_array_equal(nearest_neighbors(vectors, 4)[0], nearest_neighbors(scaled, 4)[0])


@pytest.mark.parametrize("count", [2, 4, 10])
def test_fewer_others_than_asked_for_gives_all_of_them(count: int) -> None:
    indices, similarities = nearest_neighbors(blobs(count, 4), 30)
    assert indices.shape == similarities.shape == (count, count - 1)
    for row in range(count):
        assert sorted(indices[row].tolist()) == [other for other in range(count) if other != row]


@pytest.mark.parametrize("exact_limit", [60_000, 0])
@pytest.mark.parametrize("copies", [2, 10, 100])
def test_exact_duplicates_are_neighbours_and_nobody_is_his_own(copies: int, exact_limit: int) -> None:
    vectors = np.repeat(blobs(6, 32), copies, axis=0)
    indices, similarities = nearest_neighbors(vectors, 5, exact_limit=exact_limit)
    rows = np.arange(len(vectors))[:, None]
    assert indices.min() >= 0
    assert (indices != rows).all()
    assert all(len(set(row)) == 5 for row in indices.tolist())
    same = min(copies - 1, 5)
    np.testing.assert_allclose(similarities[:, :same], 1, atol=1e-5)
    if exact_limit:
        assert (indices[:, :same] // copies == rows // copies).all()


def test_zero_vectors_are_at_a_right_angle_to_everything() -> None:
    vectors = blobs(20, 8)
    vectors[[3, 7]] = 0
    indices, similarities = nearest_neighbors(vectors, 5)
    assert (similarities[[3, 7]] == 0).all()
    assert np.isfinite(similarities).all()
    assert (indices != np.arange(20)[:, None]).all()
    assert (indices >= 0).all()


def test_similarities_fall_and_stay_within_one() -> None:
    _, similarities = nearest_neighbors(np.repeat(blobs(30, 64), 3, axis=0) * 1e4, 10)
    assert (np.diff(similarities, axis=1) <= 0).all()
    assert similarities.max() <= 1
    assert similarities.min() >= -1


def test_equal_similarities_are_in_the_order_of_rows() -> None:
    vectors = np.eye(6, dtype=np.float32)
    vectors = np.concatenate([vectors, vectors[:1], vectors[:1]])
    indices, _ = nearest_neighbors(vectors, 2)
    assert indices[[0, 6, 7]].tolist() == [[6, 7], [0, 7], [0, 6]]


def test_the_approximate_index_finds_nearly_all() -> None:
    vectors = blobs(3000, 64)
    exact, _ = nearest_neighbors(vectors, 15)
    found, similarities = nearest_neighbors(vectors, 15, exact_limit=0)
    recall = np.mean([len(set(a) & set(b)) / 15 for a, b in zip(exact.tolist(), found.tolist(), strict=True)])
    assert recall > 0.95
    assert found.min() >= 0
    assert (found != np.arange(3000)[:, None]).all()
    assert (np.diff(similarities, axis=1) <= 0).all()
    units = normalized(vectors)
    cosines = np.einsum("nd,nkd->nk", units, units[found])
    np.testing.assert_allclose(similarities, cosines, atol=1e-5)


@pytest.mark.parametrize("kind", ["identical", "zero", "line", "tiny"])
def test_the_approximate_index_gives_k_others_even_on_hard_sets(kind: str) -> None:
    vectors = {
        "identical": np.ones((500, 16), np.float32),
        "zero": np.zeros((500, 16), np.float32),
        "line": np.linspace(-1, 1, 500, dtype=np.float32)[:, None] * np.ones((1, 16), np.float32),
        "tiny": blobs(12, 16),
    }[kind]
    k = min(30, len(vectors) - 1)
    indices, similarities = nearest_neighbors(vectors, 30, exact_limit=0)
    assert indices.shape == (len(vectors), k)
    assert indices.min() >= 0
    assert (indices != np.arange(len(vectors))[:, None]).all()
    assert all(len(set(row)) == k for row in indices.tolist())
    assert np.isfinite(similarities).all()


def test_what_the_approximate_index_cannot_reach_is_searched_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(200, 16)
    original, calls = pvu.neighbors._search, []

    def lossy(index: object, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        similarities, indices = original(index, queries, k)
        if not calls:  # as faiss pads what it has not found
            indices[::3, 2:] = -1
            similarities[::3, 2:] = -np.finfo(np.float32).max
        calls.append(len(queries))
        return similarities, indices

    monkeypatch.setattr("pvu.neighbors._search", lossy)
    indices, similarities = nearest_neighbors(vectors, 5, exact_limit=0)
    assert calls == [200, 67]
    expected, cosines = reference(vectors, 5)
    np.testing.assert_array_equal(indices[::3], expected[::3])
    np.testing.assert_allclose(similarities[::3], cosines[::3], atol=1e-5)


@pytest.mark.parametrize(("count", "k"), [(0, 5), (1, 5), (5, 0), (5, -1)])
def test_bad_arguments(count: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"got {count} and {k}"):
        nearest_neighbors(np.ones((count, 4), np.float32), k)


def test_normalized_is_a_copy_of_unit_length() -> None:
    vectors = np.array([[3, 4], [0, 0], [-2, 0]], np.float16)
    units = normalized(vectors)
    assert units.dtype == np.float32
    np.testing.assert_allclose(units, [[0.6, 0.8], [0, 0], [-1, 0]], atol=1e-6)
    assert vectors.tolist() == [[3, 4], [0, 0], [-2, 0]]
    same = units.copy()
    assert normalized(same) is not same
