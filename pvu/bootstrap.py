"""Confidence intervals by bootstrap over the queries. The gallery stays as it is.

A query's answer is kept with the query, so the intervals say how much the number depends on which images were asked
about, not on which images could be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pvu.metrics import auroc

LEVEL = (2.5, 97.5)
_BLOCK = 2**21  # numbers at a time: 16 MB an array


@dataclass(frozen=True)
class Estimate:
    """A number and its confidence interval.

    Args:
        value: on the queries themselves.
        low: the 2.5th percentile over resamples; NaN if there are none.
        high: the 97.5th.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")


def share(correct: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """The share of right answers (n,) bool, such as Recall@1.

    Drawing n of n answers with replacement gives a binomial number of right ones, so that is what is drawn.
    """
    n, value = len(correct), float(np.mean(correct)) if len(correct) else float("nan")
    if n == 0 or resamples == 0:
        return Estimate(value)
    drawn = np.random.default_rng(seed).binomial(n, value, resamples) / n
    return Estimate(value, *(float(edge) for edge in np.percentile(drawn, LEVEL)))


def auroc_estimates(
    positive: np.ndarray, scores: Mapping[str, np.ndarray], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """AUROCs of several scores with their intervals, from the same resamples.

    Args:
        positive: (n,) bool.
        scores: by name, each (n,) float, higher for positives: -u where the positives are the right answers.
        resamples: of the bootstrap; 0 gives no intervals.
        seed: of the bootstrap.
    """
    stacked = np.stack([np.asarray(score, np.float64) for score in scores.values()])
    samples = auroc_resamples(positive, stacked, resamples=resamples, seed=seed)
    return {name: auroc_interval(samples[row], auroc(positive, stacked[row])) for row, name in enumerate(scores)}


def auroc_interval(samples: np.ndarray, value: float) -> Estimate:
    """An AUROC with the interval of its resamples (B,); those without both outcomes are left out."""
    known = samples[np.isfinite(samples)]
    if len(known) == 0 or not np.isfinite(value):
        return Estimate(value)
    return Estimate(value, *(float(edge) for edge in np.percentile(known, LEVEL)))


def auroc_resamples(positive: np.ndarray, scores: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """AUROCs of several scores on the same resamples of the answers, so that their differences are paired.

    Args:
        positive: (n,) bool.
        scores: (S, n) float, higher for positives.
        resamples: B, how often n answers are drawn with replacement.
        seed: of the draws.

    Returns:
        (S, B) float64; NaN where a draw has one outcome only, or a score is not finite.
    """
    positive, scores = np.asarray(positive, bool), np.asarray(scores, np.float64)
    n, rng = len(positive), np.random.default_rng(seed)
    result = np.full((len(scores), resamples), np.nan)
    if n == 0:
        return result
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        rows = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        weights = np.bincount(rows.ravel(), minlength=count * n).reshape(count, n)
        for index, score in enumerate(scores):
            result[index, start : start + count] = weighted_aurocs(positive, score, weights)
    return result


def weighted_aurocs(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The AUROC of one score under several weightings of the answers; ties count half.

    Args:
        positive: (n,) bool.
        score: (n,) float.
        weights: (B, n), not negative.

    Returns:
        (B,) float64; NaN where the weights leave one outcome only, or the score is not finite.
    """
    if not np.isfinite(score).all():
        return np.full(len(weights), np.nan)
    order = np.argsort(score, kind="stable")
    drawn = weights[:, order].astype(np.float64)
    up = drawn * positive[order]
    down = drawn - up
    starts = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)  # of each group of equal scores
    if len(starts) < len(score):
        up, down = np.add.reduceat(up, starts, axis=1), np.add.reduceat(down, starts, axis=1)
    below = np.cumsum(down, axis=1) - down / 2
    pairs = up.sum(axis=1) * down.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, np.einsum("bn,bn->b", up, below) / pairs, np.nan)
