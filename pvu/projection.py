"""UMAP from the kNN graph that is there already, so that no neighbour is searched twice."""

from __future__ import annotations

import warnings

import numpy as np

# UMAP's own default; the graph holds more neighbours, for search and review.
NEIGHBORS = 15
SEED = 0


def project(embeddings: np.ndarray, neighbors: np.ndarray, similarities: np.ndarray) -> np.ndarray:
    """Lay images out on a plane so that neighbours stay together (UMAP, arXiv 1802.03426). Reproducible.

    Args:
        embeddings: (N, D) float, any norm; only the first layout (PCA) reads them.
        neighbors: (N, k) int32 rows of the nearest other images.
        similarities: (N, k) float32 cosines that belong to them.

    Returns:
        (N, 2) float32.
    """
    count = len(embeddings)
    if count <= 4:  # UMAP needs more points than dimensions; a line says all there is to say
        return np.stack([np.arange(count), np.zeros(count)], axis=1).astype(np.float32)
    import umap

    k = min(NEIGHBORS, neighbors.shape[1] + 1)
    # UMAP counts each point as its own first neighbour, at distance 0.
    indices = np.concatenate([np.arange(count, dtype=np.int32)[:, None], neighbors[:, : k - 1]], axis=1)
    cosine_distances = np.maximum(1 - similarities[:, : k - 1], 0)
    distances = np.concatenate([np.zeros((count, 1), np.float32), cosine_distances], axis=1)
    reducer = umap.UMAP(
        n_neighbors=k,
        precomputed_knn=(indices, distances.astype(np.float32)),
        # Below 4,096 points UMAP would compare all pairs again.
        force_approximation_algorithm=True,
        init="pca" if np.shape(embeddings)[1] > 1 else "random",
        random_state=SEED,
        n_jobs=1,  # what random_state needs; said here so that UMAP does not warn about it
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of precomputed neighbours without a search index, and of tiny sets
        coords = reducer.fit_transform(np.asarray(embeddings, np.float32))
    return np.nan_to_num(coords).astype(np.float32)
