"""The map keeps neighbours together, comes out the same twice, and does not mind tiny sets."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from pvu.neighbors import nearest_neighbors
from pvu.projection import project


def map_of(vectors: np.ndarray) -> np.ndarray:
    return project(vectors, *nearest_neighbors(vectors, 30))


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(6, size=300)
    return (rng.normal(size=(6, 32))[labels] * 3 + rng.normal(size=(300, 32))).astype(np.float16), labels


def test_neighbours_stay_together_and_the_map_is_reproducible(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, labels = blobs
    coords = map_of(vectors)
    assert coords.shape == (300, 2)
    assert coords.dtype == np.float32
    assert np.isfinite(coords).all()
    assert trustworthiness(vectors.astype(float), coords, n_neighbors=10, metric="cosine") > 0.9
    centres = np.stack([coords[labels == label].mean(axis=0) for label in range(6)])
    nearest = np.linalg.norm(coords[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.95
    np.testing.assert_array_equal(map_of(vectors), coords)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 15, 16, 17])
def test_tiny_sets(count: int) -> None:
    coords = map_of(np.random.default_rng(0).normal(size=(count, 8)))
    assert coords.shape == (count, 2)
    assert np.isfinite(coords).all()
    assert len(np.unique(coords, axis=0)) == count


def test_one_image() -> None:
    coords = project(np.ones((1, 8)), np.empty((1, 0), np.int32), np.empty((1, 0), np.float32))
    assert coords.shape == (1, 2)
    assert np.isfinite(coords).all()


def test_one_dimension() -> None:
    coords = map_of(np.linspace(-1, 1, 40)[:, None])
    assert coords.shape == (40, 2)
    assert np.isfinite(coords).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_images_that_are_all_the_same() -> None:
    coords = map_of(np.ones((50, 8), np.float32))
    assert coords.shape == (50, 2)
    assert np.isfinite(coords).all()


def test_duplicates_beside_others() -> None:
    rng = np.random.default_rng(0)
    coords = map_of(np.concatenate([np.repeat(rng.normal(size=(1, 16)), 60, axis=0), rng.normal(size=(40, 16))]))
    assert np.isfinite(coords).all()
