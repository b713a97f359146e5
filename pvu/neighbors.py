"""The kNN graph: computed once, used by search, UMAP, Recall@1, review and duplicates."""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np

# Up to here every pair is compared (a minute on two cores at D = 1280). Above it an HNSW graph finds the neighbours.
EXACT_LIMIT = 60_000
_BLOCK = 4096


def normalized(embeddings: np.ndarray) -> np.ndarray:
    """L2-normalised float32 copy of (N, D) embeddings. A zero vector stays zero."""
    vectors = np.array(embeddings, dtype=np.float32, order="C")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms > 0, norms, 1)
    return vectors


def nearest_neighbors(
    embeddings: np.ndarray, k: int, *, exact_limit: int = EXACT_LIMIT
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other images of each image, by cosine similarity.

    Exact up to ``exact_limit`` images, approximate (HNSW, M = 32) above it. Uses a GPU where faiss has one.

    Args:
        embeddings: (N, D) float, any norm, N >= 2.
        k: at least 1; with fewer than k others, all of them.
        exact_limit: the largest N at which every pair is compared.

    Returns:
        indices: (N, min(k, N - 1)) int32 rows, nearest first, never the image itself; equal similarities by row.
        similarities: (N, min(k, N - 1)) float32 cosines.

    Raises:
        ValueError: if there are fewer than two images, or k < 1.
    """
    count = len(embeddings)
    if count < 2 or k < 1:
        raise ValueError(f"Neighbours need at least 2 images and k of at least 1, got {count} and {k}.")
    k = min(k, count - 1)
    vectors = normalized(embeddings)
    index = _build(vectors, exact=count <= exact_limit)
    # One more than asked for: the image itself is usually the first, and is taken out by its row, not by its place,
    # since exact duplicates are just as near.
    similarities, indices = _search(index, vectors, min(k + 1, count))
    lost = np.flatnonzero((indices < 0).any(axis=1))
    if len(lost) > 0:  # HNSW's graph can fall into parts with fewer than k images; -1 would be taken for the last row
        similarities[lost], indices[lost] = _search(_build(vectors, exact=True), vectors[lost], min(k + 1, count))
    return _without_self(indices, similarities, k)


def cross_neighbors(
    queries: np.ndarray,
    embeddings: np.ndarray,
    k: int,
    *,
    exact_limit: int = EXACT_LIMIT,
    progress: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k images of one set nearest to each of another's, by cosine similarity.

    Args:
        queries: (M, D) float, any norm.
        embeddings: (N, D) float, any norm; what is searched.
        k: at least 1; of fewer than k images, all.
        exact_limit: the largest N at which every pair is compared.
        progress: gets the share that is done, in [0, 1], now and then.

    Returns:
        indices (M, min(k, N)) int32 rows of ``embeddings``, nearest first, and similarities (M, min(k, N)) float32.
    """
    k = min(k, len(embeddings))
    index = _build(normalized(embeddings), exact=len(embeddings) <= exact_limit)
    indices, similarities = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), _BLOCK):
        part = slice(start, start + _BLOCK)
        similarities[part], indices[part] = index.search(normalized(queries[part]), k)
        if progress is not None:
            progress(min(1.0, (start + _BLOCK) / len(queries)))
    lost = np.flatnonzero((indices < 0).any(axis=1))
    if len(lost) > 0:  # as in nearest_neighbors
        exact = _build(normalized(embeddings), exact=True)
        similarities[lost], indices[lost] = exact.search(normalized(queries[lost]), k)
    return indices, np.clip(similarities, -1, 1)


def _build(vectors: np.ndarray, *, exact: bool) -> faiss.Index:
    dim = vectors.shape[1]
    if exact:
        index = faiss.IndexFlatIP(dim)
        if getattr(faiss, "get_num_gpus", lambda: 0)() > 0:
            index = faiss.index_cpu_to_all_gpus(index)
    else:
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 80
        index.hnsw.efSearch = 96
    index.add(vectors)
    return index


def _search(index: faiss.Index, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    found = [index.search(vectors[start : start + _BLOCK], k) for start in range(0, len(vectors), _BLOCK)]
    return np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])


def _without_self(indices: np.ndarray, similarities: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    own = indices == np.arange(len(indices))[:, None]
    missing = indices < 0
    # Sorting by (is self, -similarity, row) moves the image itself behind the last of the k.
    keys = np.where(own | missing, -np.inf, similarities)
    order = np.lexsort((indices, -keys), axis=1)[:, :k]
    picked = np.take_along_axis(indices, order, axis=1).astype(np.int32)
    cosines = np.take_along_axis(similarities, order, axis=1).astype(np.float32)
    return picked, np.clip(cosines, -1, 1)
