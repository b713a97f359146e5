"""Retrieval and uncertainty metrics of the URL benchmark (arXiv 2307.03810), and risk-coverage curves.

Images without a label (None or NaN) never count as queries. A query whose label no other image has cannot be answered
correctly and counts as wrong, as in the benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from pvu.neighbors import nearest_neighbors

Labels = npt.ArrayLike


@dataclass(frozen=True)
class RiskCoverage:
    """How the error falls as the most uncertain queries are left out.

    Args:
        coverage: (n,) float64, the share of queries kept, ascending, ends at 1.
        risk: (n,) float64, the share of wrong answers among those kept.
        aurc: area under the curve, the mean of ``risk`` (Geifman and El-Yaniv, arXiv 1805.08206).
    """

    coverage: np.ndarray
    risk: np.ndarray
    aurc: float


def has_label(labels: Labels) -> np.ndarray:
    """(N,) bool: which labels are neither None nor NaN."""
    values = np.asarray(labels, dtype=object)
    return np.array([value is not None and value == value for value in values], dtype=bool)


def correct_at_1(neighbors: np.ndarray, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Whether each labelled image's nearest other image has its label.

    Args:
        neighbors: (N, k) int rows, nearest first, k >= 1; only the first column counts.
        labels: (N,) any values; None or NaN for none.

    Returns:
        correct: (M,) bool for the labelled images.
        rows: (M,) int, which they are.
    """
    values = np.asarray(labels, dtype=object)
    rows = np.flatnonzero(has_label(values))
    return np.asarray(values[neighbors[rows, 0]] == values[rows], dtype=bool), rows


def recall_at_1(embeddings: np.ndarray, labels: Labels) -> float:
    """Recall@1: the share of images whose nearest other image, by cosine, has the same label.

    Args:
        embeddings: (N, D) float, any norm.
        labels: (N,) any values; None or NaN for none.

    Returns:
        In [0, 1]; NaN if fewer than two images or no labels.
    """
    return recall_at_k(embeddings, labels, 1)


def recall_at_k(embeddings: np.ndarray, labels: Labels, k: int) -> float:
    """The share of images that have at least one image of their label among their k nearest others."""
    _check_rows(embeddings, labels)
    if len(embeddings) < 2:
        return float("nan")
    neighbors, _ = nearest_neighbors(embeddings, k)
    values = np.asarray(labels, dtype=object)
    rows = np.flatnonzero(has_label(values))
    if len(rows) == 0:
        return float("nan")
    return float((values[neighbors[rows]] == values[rows, None]).any(axis=1).mean())


def r_auroc(embeddings: np.ndarray, labels: Labels, uncertainty: np.ndarray) -> float:
    """R-AUROC: how well -u tells correct nearest neighbours from wrong ones. 0.5 is no information.

    Args:
        embeddings: (N, D) float, any norm.
        labels: (N,) any values; None or NaN for none.
        uncertainty: (N,) float.

    Returns:
        In [0, 1]; NaN if all answers are correct or all are wrong, or u is missing.
    """
    _check_rows(embeddings, labels)
    if len(embeddings) < 2:
        return float("nan")
    neighbors, _ = nearest_neighbors(embeddings, 1)
    correct, rows = correct_at_1(neighbors, labels)
    return auroc(correct, -np.asarray(uncertainty)[rows])


def auroc(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; NaN where it is undefined (one class only, or NaN scores)."""
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any() or not np.isfinite(score).all():
        return float("nan")
    return float(roc_auc_score(positive, score))


def within_label_auroc(correct: np.ndarray, labels: Labels, uncertainty: np.ndarray) -> tuple[float, int]:
    """R-AUROC within labels: AUROC of -u for a correct answer among the queries of each label, averaged over labels.

    The plain R-AUROC is high already where u only tells difficult labels from easy ones. This one is not: it says
    whether u knows which images of one label are difficult. A label with only right or only wrong answers has none.

    Args:
        correct: (n,) bool.
        labels: (n,) values, none of them missing.
        uncertainty: (n,) float; equal values count half.

    Returns:
        The unweighted mean over the labels with both outcomes, in [0, 1], NaN if there is no such label or u is
        missing; and how many such labels there are.
    """
    correct, score = np.asarray(correct, dtype=bool), -np.asarray(uncertainty, dtype=np.float64)
    _, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    right = np.bincount(codes, weights=correct)
    wrong = np.bincount(codes) - right
    both = (right > 0) & (wrong > 0)
    if not both.any() or not np.isfinite(score).all():
        return float("nan"), int(both.sum())
    # Mann and Whitney's U from mid-ranks, for all labels at once: ranks run on from label to label, and each label's
    # start is taken off.
    order = np.lexsort((score, codes))
    ties = np.empty(len(order), np.int64)
    ties[0] = 0
    ties[1:] = np.cumsum((np.diff(codes[order]) != 0) | (np.diff(score[order]) != 0))
    places = np.bincount(ties, weights=np.arange(len(order))) / np.bincount(ties)
    ranks = places[ties] - np.searchsorted(codes[order], codes[order])
    u_statistic = np.bincount(codes[order], weights=ranks * correct[order]) - right * (right - 1) / 2
    return float((u_statistic[both] / (right * wrong)[both]).mean()), int(both.sum())


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation over the pairs (n,) where neither is NaN; NaN if constant, or fewer than three."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def risk_coverage(correct: np.ndarray, uncertainty: np.ndarray) -> RiskCoverage:
    """The risk-coverage curve of leaving out the most uncertain first.

    Args:
        correct: (n,) bool.
        uncertainty: (n,) float; equal values share the expected risk of every order among them.

    Raises:
        ValueError: if empty, or the lengths differ.
    """
    wrong = 1.0 - np.asarray(correct, dtype=np.float64)
    uncertainty = np.asarray(uncertainty)
    if len(wrong) == 0 or len(wrong) != len(uncertainty):
        raise ValueError(f"Expected as many answers as uncertainties, and at least one; got {len(wrong)}.")
    order = np.argsort(uncertainty, kind="stable")
    values, group, counts = np.unique(uncertainty[order], return_inverse=True, return_counts=True)
    group_mean = np.bincount(group, weights=wrong[order], minlength=len(values)) / counts
    kept = np.arange(1, len(wrong) + 1)
    risk = np.cumsum(group_mean[group]) / kept
    return RiskCoverage(kept / len(wrong), risk, float(risk.mean()))


def oracle_risk_coverage(correct: np.ndarray) -> RiskCoverage:
    """The best curve that any uncertainty could give: every wrong answer is left out first."""
    return risk_coverage(correct, 1.0 - np.asarray(correct, dtype=np.float64))


def random_risk_coverage(correct: np.ndarray) -> RiskCoverage:
    """The curve of an uncertainty that knows nothing, in expectation: the same risk at every coverage."""
    return risk_coverage(correct, np.zeros(len(correct)))


def _check_rows(embeddings: np.ndarray, labels: Any) -> None:
    if np.ndim(embeddings) != 2 or len(embeddings) != len(labels):
        raise ValueError(f"Expected (N, D) embeddings and N labels, got {np.shape(embeddings)} and {len(labels)}.")
