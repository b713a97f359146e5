"""Safe retrieval: Recall@1 when the most uncertain images of each label are left out (arXiv 2402.16569)."""

from __future__ import annotations

import numpy as np

from pvu.index import SearchIndex
from pvu.metrics import Labels, has_label

PARTS = ("database", "queries", "both")
DROPPED = 0.1


def certain_of_each_label(labels: Labels, uncertainty: np.ndarray, *, dropped: float = DROPPED) -> np.ndarray:
    """Which images stay: those whose u is at most its (1 - dropped) quantile among the images of their label.

    By label, since otherwise a filter that throws out difficult labels would look good. Quantiles are interpolated
    linearly, so a label with 2 to 10 images loses one. Images without a label stay.

    Args:
        labels: (N,) values; None or NaN for none.
        uncertainty: (N,) float.
        dropped: the share to leave out, in [0, 1).

    Returns:
        (N,) bool.
    """
    rows = np.flatnonzero(has_label(labels))
    kept = np.ones(len(uncertainty), bool)
    _, codes = np.unique(np.asarray(labels, dtype=object)[rows].astype(str), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    for members in np.split(rows[order], np.flatnonzero(np.diff(codes[order])) + 1):
        if len(members):
            kept[members] = uncertainty[members] <= np.quantile(uncertainty[members], 1 - dropped)
    return kept


def safe_retrieval(
    z: np.ndarray, neighbors: np.ndarray, labels: Labels, uncertainty: np.ndarray, *, dropped: float = DROPPED
) -> dict[str, float]:
    """Recall@1 with the most uncertain images of each label out of the database, the queries, or both.

    Args:
        z: (N, D) float, any norm.
        neighbors: (N, k) int rows of the nearest other images, nearest first.
        labels: (N,) values; None or NaN for none.
        uncertainty: (N,) float.
        dropped: the share of each label that is left out.

    Returns:
        By part; NaN where no query is left, or u is not finite.
    """
    values = np.asarray(labels, dtype=object)
    rows = np.flatnonzero(has_label(values))
    if not np.isfinite(uncertainty[rows]).all():
        return dict.fromkeys(PARTS, float("nan"))
    kept = certain_of_each_label(values, uncertainty, dropped=dropped)
    full = values[neighbors[rows, 0]] == values[rows]
    answers = nearest_allowed(z, neighbors, rows, kept)
    safe = (answers >= 0) & (values[answers] == values[rows])
    right = {"database": safe, "queries": full[kept[rows]], "both": safe[kept[rows]]}
    return {part: float(right[part].mean()) if len(right[part]) else float("nan") for part in PARTS}


def nearest_allowed(z: np.ndarray, neighbors: np.ndarray, rows: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The nearest other image of each query among those allowed; exact as far as the neighbours are.

    Args:
        z: (N, D) float, any norm.
        neighbors: (N, k) int rows, nearest first.
        rows: (q,) int, the queries.
        allowed: (N,) bool.

    Returns:
        (q,) int64 rows; -1 where no other image is allowed.
    """
    open_ = allowed[neighbors[rows]]
    answers = neighbors[rows, open_.argmax(axis=1)].astype(np.int64)
    # Where all k neighbours are left out the whole database is searched: seldom, as a tenth is left out.
    rest = np.flatnonzero(~open_.any(axis=1))
    if len(rest) == 0:
        return answers
    index = SearchIndex(z)
    for place in rest:
        others = allowed.copy()
        others[rows[place]] = False
        found = index.search(z[rows[place]], 1, allowed=others)[0]
        answers[place] = found[0] if len(found) else -1
    return answers
