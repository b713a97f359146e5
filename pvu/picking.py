"""Pick a few images that stand for many: diverse ones to label first, without the uncertain ones."""

from __future__ import annotations

import numpy as np

from pvu.errors import QueryError
from pvu.neighbors import normalized
from pvu.store import EmbeddedDataset

_BLOCK = 256
"""Candidates brought up to date at first; twice as many in each round."""


def pick_diverse(
    dataset: EmbeddedDataset,
    count: int,
    *,
    max_uncertainty: float | None = None,
    allowed: np.ndarray | None = None,
    away_from: np.ndarray | None = None,
) -> np.ndarray:
    """Images as different from each other as can be: the greedy k-centre choice.

    Each picked image is the one farthest from all picked before it, and from those that are to be kept away from. The
    largest distance of any image to its nearest picked one is then at most twice the best possible (Gonzalez, 1985); as
    a way of choosing what to label: Sener and Savarese, arXiv 1708.00489. By itself it likes bad pictures, which are
    unlike everything: hence the cap on u.

    Args:
        dataset: any.
        count: how many, at least 1; fewer come back if fewer are allowed.
        max_uncertainty: only images with at most this u.
        allowed: (N,) bool, only these.
        away_from: (m,) int rows already labelled or chosen, never picked and kept away from.

    Returns:
        (n,) int64 rows, in the order picked: the first of them are a good smaller choice.

    Raises:
        QueryError: if count < 1, a mask has another length, or uncertainty is asked for and there is none.
    """
    if count < 1:
        raise QueryError(f"Pick at least 1 image, not {count}.")
    mask = np.ones(len(dataset), bool) if allowed is None else np.array(allowed, dtype=bool)
    if mask.shape != (len(dataset),):
        raise QueryError(f"allowed needs the shape ({len(dataset)},), got {mask.shape}.")
    if max_uncertainty is not None:
        dataset.require_uncertainty()
        mask &= dataset.uncertainty <= max_uncertainty
    known = np.empty(0, np.int64) if away_from is None else np.unique(np.asarray(away_from, np.int64))
    mask[known] = False
    rows = np.flatnonzero(mask)
    if len(rows) == 0:
        return rows
    vectors = normalized(dataset.embeddings[rows])
    nearest = _nearest(dataset, rows, vectors, known) if len(known) else None
    return rows[farthest_first(vectors, min(count, len(rows)), similarity=nearest)]


def farthest_first(vectors: np.ndarray, count: int, *, similarity: np.ndarray | None = None) -> np.ndarray:
    """Greedy k-centre on the unit sphere: each choice is the vector least similar to all before it.

    Exact, and lazy: what a vector's most similar choice is can only grow, so an old value bounds it from below, and
    only vectors that might be next are compared with the choices made since.

    Args:
        vectors: (N, D) float32, unit length.
        count: at least 1, at most N.
        similarity: (N,) float, to the most similar of what is there already; None if nothing is, and then the first
            choice is the vector nearest to the mean.

    Returns:
        (count,) int64 places, in the order chosen; among equals the lowest.
    """
    chosen = np.empty(count, np.int64)
    if similarity is None:
        chosen[0] = int(np.argmax(vectors @ vectors.mean(axis=0)))
        bound, seen, done = vectors @ vectors[chosen[0]], np.ones(len(vectors), np.int64), 1
    else:
        bound, seen, done = np.array(similarity, np.float32), np.zeros(len(vectors), np.int64), 0
    bound[chosen[:done]] = np.inf
    for number in range(done, count):
        chosen[number] = _next(vectors, chosen[:number], bound, seen)
        bound[chosen[number]] = np.inf
    return chosen


def _next(vectors: np.ndarray, chosen: np.ndarray, bound: np.ndarray, seen: np.ndarray) -> int:
    """The vector least similar to its most similar choice. Brings ``bound`` and ``seen`` up to date where it has to."""
    size = _BLOCK
    while True:
        block = np.argpartition(bound, size)[:size] if len(bound) > size else np.arange(len(bound))
        late = block[seen[block] < len(chosen)]
        if len(late) == 0:
            return int(np.flatnonzero(bound == bound[block].min())[0])
        oldest = int(seen[late].min())
        new = (vectors[late] @ vectors[chosen[oldest:]].T).max(axis=1)
        bound[late] = np.maximum(bound[late], new)
        seen[late] = len(chosen)
        best = bound[late].min()
        if best <= bound.min() and seen[bound == best].min() == len(chosen):
            return int(np.flatnonzero(bound == best)[0])
        size *= 2  # after the first few choices nearly all are late: not in a thousand rounds over all of them


def _nearest(dataset: EmbeddedDataset, rows: np.ndarray, vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each image's similarity to the most similar of the known ones. (n,) float32."""
    is_known = np.zeros(len(dataset), bool)
    is_known[known] = True
    hits = is_known[dataset.neighbors[rows]]
    found = hits.any(axis=1)
    nearest = np.empty(len(rows), np.float32)
    # The first known one among an image's neighbours is the nearest of all; only where there is none is it searched.
    nearest[found] = dataset.similarities[rows[found], hits[found].argmax(axis=1)]
    targets = normalized(dataset.embeddings[known])
    lost = np.flatnonzero(~found)
    for start in range(0, len(lost), 4096):
        part = lost[start : start + 4096]
        nearest[part] = (vectors[part] @ targets.T).max(axis=1)
    return nearest
