"""What the labels say about a data set's uncertainties: Recall@1, R-AUROC, risk-coverage, Recall@1 by share kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import faiss
import numpy as np

from pvu.errors import QueryError
from pvu.metrics import (
    RiskCoverage,
    auroc,
    correct_at_1,
    has_label,
    oracle_risk_coverage,
    random_risk_coverage,
    risk_coverage,
)
from pvu.neighbors import normalized
from pvu.store import EmbeddedDataset

Part = Literal["gallery", "queries", "both"]
KEEPS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


@dataclass(frozen=True)
class Evaluation:
    """How well u predicts wrong nearest neighbours.

    Args:
        images: images with a label: the queries.
        labels: different labels.
        recall_at_1: share of queries whose nearest other image has their label.
        r_auroc: AUROC of -u for a correct nearest neighbour; NaN if all are right, or all wrong.
        similarity_r_auroc: the same with the similarity to the nearest neighbour in place of -u, a strong baseline.
        curve: risk-coverage by u.
        random: the curve of an uncertainty that knows nothing.
        oracle: the best possible curve.
    """

    images: int
    labels: int
    recall_at_1: float
    r_auroc: float
    similarity_r_auroc: float
    curve: RiskCoverage
    random: RiskCoverage
    oracle: RiskCoverage


def why_not(dataset: EmbeddedDataset) -> str | None:
    """Why a data set cannot be evaluated, in one sentence with the way out; None if it can."""
    labelled = has_label(dataset.labels)
    if not labelled.any():
        return (
            f"{dataset.name} has no labels, and evaluation asks whether an image's nearest neighbour has its label. "
            "Put the images into one folder per label, or add a labels.csv with the columns path and label."
        )
    if len(set(dataset.labels[labelled])) < 2:
        return f"{dataset.name} has one label only ({dataset.labels[labelled][0]}), so every answer is correct."
    if not dataset.has_uncertainty:
        return (
            f"The model {dataset.manifest['model']} has no uncertainty head. Embed with the default model, or fit a "
            "head for this one to your labels: the page Train, or python -m pvu fit."
        )
    return None


def evaluate(dataset: EmbeddedDataset) -> Evaluation:
    """Evaluate a labelled data set from its kNN graph.

    Raises:
        QueryError: if it cannot be evaluated; the message is :func:`why_not`'s.
    """
    reason = why_not(dataset)
    if reason is not None:
        raise QueryError(reason)
    correct, rows = correct_at_1(dataset.neighbors, dataset.labels)
    u = dataset.uncertainty[rows]
    return Evaluation(
        images=len(rows),
        labels=len(set(dataset.labels[rows])),
        recall_at_1=float(correct.mean()),
        r_auroc=auroc(correct, -u),
        similarity_r_auroc=auroc(correct, dataset.similarities[rows, 0]),
        curve=risk_coverage(correct, u),
        random=random_risk_coverage(correct),
        oracle=oracle_risk_coverage(correct),
    )


def recall_by_kept(dataset: EmbeddedDataset, part: Part, keeps: Sequence[float] = KEEPS) -> np.ndarray:
    """Recall@1 when only the most certain share of the images is kept (URL's safe retrieval, over the whole set).

    Args:
        dataset: labelled, with uncertainties.
        part: what is thinned out: the gallery that is searched, the queries that are answered, or both.
        keeps: shares in (0, 1].

    Returns:
        (len(keeps),) float64 in [0, 1]; NaN where no query is left.
    """
    labelled = has_label(dataset.labels)
    recalls = []
    for keep in keeps:
        kept = dataset.uncertainty <= dataset.threshold(keep)
        gallery = np.ones(len(dataset), bool) if part == "queries" else kept
        queries = np.flatnonzero(labelled if part == "gallery" else labelled & kept)
        answers = nearest_in(dataset, queries, gallery)
        found = answers >= 0
        right = np.zeros(len(queries), bool)
        right[found] = dataset.labels[answers[found]] == dataset.labels[queries[found]]
        recalls.append(right.mean() if len(queries) else np.nan)
    return np.array(recalls, dtype=np.float64)


def nearest_in(dataset: EmbeddedDataset, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The nearest other image of each query among part of the images.

    Args:
        dataset: any.
        queries: (q,) int rows.
        gallery: (N,) bool.

    Returns:
        (q,) int64 rows; -1 where the gallery holds no other image.
    """
    neighbors = dataset.neighbors[queries]
    allowed = gallery[neighbors]
    first = allowed.argmax(axis=1) if neighbors.shape[1] else np.zeros(len(queries), np.int64)
    answers = np.full(len(queries), -1, np.int64)
    known = allowed.any(axis=1)
    answers[known] = neighbors[known, first[known]]
    # The kNN graph holds 30 neighbours; where all of them are filtered out the whole gallery is searched.
    rest = np.flatnonzero(~known)
    if len(rest) and gallery.any():
        answers[rest] = _search(dataset, queries[rest], np.flatnonzero(gallery))
    return answers


def _search(dataset: EmbeddedDataset, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    vectors = normalized(dataset.embeddings[gallery])
    _, found = faiss.knn(
        normalized(dataset.embeddings[queries]), vectors, min(2, len(gallery)), metric=faiss.METRIC_INNER_PRODUCT
    )
    rows = gallery[found]
    own = rows[:, 0] == queries
    second = rows[:, 1] if rows.shape[1] > 1 else np.full(len(rows), -1)
    return np.where(own, second, rows[:, 0])
