"""From scale-free numbers to probabilities: a monotone model, how well its probabilities hold, a threshold that does.

u has no unit (arXiv 2402.16569 leaves it open how to give it one). With labels it can be had: how often was the
nearest image wrong where the numbers looked like this? Everything here works on arrays; :mod:`pvu.risk` applies it to
data sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import beta, binom

BINS = 10
DELTA = 0.1
_PIECES = 5
_RIDGE = 1.0
_MOST = 20_000
_STEPS = 50


@dataclass(frozen=True)
class MonotoneRisk:
    """P(wrong), rising in every one of some inputs, whatever their scales.

    Each input counts by its rank among the images of the fit, through a rising line of five straight pieces; the
    slopes are the weights of a logistic regression that may not be negative. That is convex, so there is one answer,
    and additive, so a few hundred images suffice. On held-out halves of photographs of birds, flowers and CIFAR-10
    gradient-boosted trees with monotone constraints, or isotonic regression on top, were no better.

    Args:
        references: for each input its values in the fit, sorted.
        bias: log-odds where every input is lower than all of the fit.
        weights: (inputs * 5,) float64, none negative.
    """

    references: tuple[np.ndarray, ...]
    bias: float
    weights: np.ndarray

    @classmethod
    def fit(cls, inputs: np.ndarray, wrong: np.ndarray) -> Self:
        """Fit to what is known.

        Args:
            inputs: (n, d) float; the higher, the more likely wrong. Of more than 20,000 rows a random part is used.
            wrong: (n,) bool.

        Raises:
            ValueError: if the shapes do not go together, there are no rows, or an input is not finite.
        """
        inputs, wrong = _checked(inputs, wrong)
        if len(wrong) > _MOST:
            rows = np.random.default_rng(0).choice(len(wrong), _MOST, replace=False)
            inputs, wrong = inputs[rows], wrong[rows]
        references = tuple(np.sort(inputs, axis=0).T)
        features = _pieces(references, inputs)
        start = np.zeros(1 + features.shape[1])
        start[0] = logit((wrong.sum() + 0.5) / (len(wrong) + 1))
        bounds = [(None, None)] + [(0.0, None)] * features.shape[1]
        found = minimize(_loss, start, (features, wrong), jac=True, method="L-BFGS-B", bounds=bounds).x
        return cls(references, float(found[0]), found[1:])

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """P(wrong) of (n, d) inputs: (n,) float64 in (0, 1)."""
        return np.asarray(expit(_pieces(self.references, np.asarray(inputs, np.float64)) @ self.weights + self.bias))


def _loss(parameters: np.ndarray, features: np.ndarray, wrong: np.ndarray) -> tuple[float, np.ndarray]:
    """Ridge-penalised negative log-likelihood and its gradient."""
    bias, weights = parameters[0], parameters[1:]
    odds = features @ weights + bias
    # Half an image of each kind beside the real ones: else the odds would run away where nothing is wrong, or all.
    extra = np.logaddexp(0, bias) - bias / 2
    value = np.logaddexp(0, odds).sum() - odds[wrong].sum() + extra + _RIDGE / 2 * (weights @ weights)
    slope = expit(odds) - wrong
    return value, np.r_[slope.sum() + expit(bias) - 0.5, features.T @ slope + _RIDGE * weights]


def _checked(inputs: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inputs, wrong = np.asarray(inputs, np.float64), np.asarray(wrong, bool)
    if inputs.ndim != 2 or wrong.shape != (len(inputs),) or len(wrong) == 0:
        raise ValueError(f"Expected (n, d) inputs and n answers, n > 0; got {inputs.shape} and {wrong.shape}.")
    if not np.isfinite(inputs).all():
        raise ValueError("Inputs must be finite.")
    return inputs, wrong


def _pieces(references: tuple[np.ndarray, ...], inputs: np.ndarray) -> np.ndarray:
    """(n, d * 5) in [0, 1]: how far each input's rank is through each fifth of the ranks."""
    starts = np.arange(_PIECES) / _PIECES
    columns = []
    for reference, values in zip(references, inputs.T, strict=True):
        below = np.searchsorted(reference, values, "left") + np.searchsorted(reference, values, "right")
        ranks = below / (2 * len(reference))  # equal values share the rank in their middle
        columns.append(np.clip((ranks[:, None] - starts) * _PIECES, 0, 1))
    return np.concatenate(columns, axis=1)


def cross_fitted(inputs: np.ndarray, wrong: np.ndarray, *, folds: int = 5, seed: int = 0) -> np.ndarray:
    """P(wrong) of each row by a :class:`MonotoneRisk` that was fitted without it. (n,) float64.

    Raises:
        ValueError: as in :meth:`MonotoneRisk.fit`, and if there are fewer rows than folds.
    """
    inputs, wrong = _checked(inputs, wrong)
    if len(wrong) < folds:
        raise ValueError(f"{folds} folds need at least {folds} rows, got {len(wrong)}.")
    fold = np.random.default_rng(seed).permutation(len(wrong)) % folds
    risk = np.empty(len(wrong))
    for number in range(folds):
        own = fold == number
        risk[own] = MonotoneRisk.fit(inputs[~own], wrong[~own]).predict(inputs[own])
    return risk


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: what was said against what came, in bins of about equally many images.

    Args:
        said: (b,) float64, the mean probability of each bin, ascending.
        came: (b,) float64, the share of wrong answers in it.
        counts: (b,) int64.
        ece: expected calibration error, the mean of ``|said - came|`` over the images (Naeini et al., AAAI 2015, with
            bins of equal mass as in Nixon et al., arXiv 1904.01685).
        brier: mean squared difference between probability and outcome (Brier, 1950).
    """

    said: np.ndarray
    came: np.ndarray
    counts: np.ndarray
    ece: float
    brier: float


def reliability(probabilities: np.ndarray, wrong: np.ndarray, *, bins: int = BINS) -> Reliability:
    """Compare probabilities with outcomes.

    Args:
        probabilities: (n,) float in [0, 1], n > 0.
        wrong: (n,) bool.
        bins: the most bins; equal probabilities stay in one.

    Raises:
        ValueError: if the shapes do not go together, or a probability is not in [0, 1].
    """
    said, came = np.asarray(probabilities, np.float64), np.asarray(wrong, np.float64)
    if said.ndim != 1 or said.shape != came.shape or len(said) == 0:
        raise ValueError(f"Expected as many probabilities as answers, and some; got {said.shape} and {came.shape}.")
    if not ((said >= 0) & (said <= 1)).all():
        raise ValueError("Probabilities lie between 0 and 1.")
    inner = np.unique(np.quantile(said, np.arange(1, bins) / bins, method="higher"))
    _, place, counts = np.unique(np.searchsorted(inner, said, "right"), return_inverse=True, return_counts=True)
    mean_said, mean_came = (np.bincount(place, weights=values) / counts for values in (said, came))
    ece = float(np.abs(mean_said - mean_came) @ counts / len(said))
    return Reliability(mean_said, mean_came, counts, ece, float(np.mean((said - came) ** 2)))


@dataclass(frozen=True)
class Guarantee:
    """Queries with a score of at most ``threshold`` are wrong in at most a share ``alpha``, with chance ``1 - delta``.

    Args:
        alpha: the error that is allowed.
        delta: the chance that the statement is false, over the draw of the calibration queries.
        threshold: the score up to which queries are kept; infinity keeps all.
        kept: calibration queries that it keeps.
        wrong: how many of those are wrong.
        bound: upper end of the exact one-sided interval (Clopper and Pearson, 1934) of the error; at most alpha.
    """

    alpha: float
    delta: float
    threshold: float
    kept: int
    wrong: int
    bound: float


def upper_bound(wrong: int, count: int, *, delta: float = DELTA) -> float:
    """The largest error that ``wrong`` of ``count`` does not rule out at level delta (Clopper and Pearson, 1934)."""
    return 1.0 if wrong >= count else float(beta.ppf(1 - delta, wrong + 1, count - wrong))


def candidate_thresholds(scores: np.ndarray, wrong: np.ndarray, *, count: int, alpha: float) -> np.ndarray:
    """The order in which :func:`certify` tests thresholds, chosen from queries that take no part in the test.

    A sequence that began at the lowest score would stop at once, since a handful of queries proves nothing. So it
    begins where, going by the queries of the fit, the proof is easiest, and goes up from there.

    Args:
        scores: (f,) float, scores of the queries that the model was fitted on.
        wrong: (f,) bool.
        count: how many calibration queries there will be.
        alpha: the error that is allowed.

    Returns:
        (t,) float64, ascending; the last is infinity.
    """
    grid = np.unique(np.quantile(scores, np.arange(1, _STEPS + 1) / _STEPS))
    grid[-1] = np.inf
    kept = scores[None, :] <= grid[:, None]
    share = kept.mean(axis=1)
    errors = (kept & wrong[None, :]).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
    expected = binom.cdf(np.ceil(errors * share * count), np.floor(share * count), alpha)
    return np.asarray(grid[int(expected.argmin()) :])


def certify(
    scores: np.ndarray,
    wrong: np.ndarray,
    thresholds: Sequence[float] | np.ndarray,
    *,
    alpha: float,
    delta: float = DELTA,
) -> Guarantee | None:
    """The largest threshold under which the error is proved to be at most alpha; None where none is.

    Learn-then-test (Angelopoulos et al., arXiv 2110.01052) with fixed-sequence testing: for one threshold after the
    other, "the error among the queries it keeps is above alpha" is tested with the exact binomial tail at level delta,
    and the first that cannot be ruled out ends the walk. No correction for many tests is needed, since to reach a false
    one the walk has to be wrong at the first false one. Queries with equal scores are kept or left out together.

    What is assumed: scores and thresholds were made without the calibration queries' answers, and given them these are
    drawn at random from the queries that the statement is about. Two such statements:

    - About a finite set that they are drawn from without replacement, whatever its answers have to do with each
      other: these are fixed numbers, and such draws spread no further than the binomial (Hoeffding, 1963).
    - About new queries, if they and the calibration queries come one by one from the same source. Leave-one-out answers
      of one data set do so only nearly: two images that are each other's nearest are right or wrong together. Where
      every image has such a twin, a statement at delta = 0.1 is false with chance 0.16 at its worst, where each has
      three, 0.22. Take bursts of one scene out before.

    The chance is over the draws of calibration queries, those that prove nothing included (nothing false is said
    there). Where proofs are rare, a larger share of those that are found is false.

    Args:
        scores: (n,) float, the lower the safer.
        wrong: (n,) bool.
        thresholds: ascending, fixed before the answers are seen (:func:`candidate_thresholds`).
        alpha: in (0, 1).
        delta: in (0, 1).

    Raises:
        ValueError: if alpha or delta is not in (0, 1), the shapes differ, or the thresholds do not ascend.
    """
    scores, wrong = np.asarray(scores, np.float64), np.asarray(wrong, bool)
    if not (0 < alpha < 1 and 0 < delta < 1):
        raise ValueError(f"alpha and delta lie between 0 and 1, got {alpha} and {delta}.")
    if scores.ndim != 1 or scores.shape != wrong.shape:
        raise ValueError(f"Expected as many scores as answers, got {scores.shape} and {wrong.shape}.")
    if (np.diff(thresholds) <= 0).any():
        raise ValueError("The thresholds must ascend.")
    found = None
    for threshold in thresholds:
        kept = scores <= threshold
        errors, count = int(wrong[kept].sum()), int(kept.sum())
        # P(at most so many errors | the error is alpha) > delta: it may as well be above alpha.
        if count == 0 or binom.cdf(errors, count, alpha) > delta:
            break
        bound = upper_bound(errors, count, delta=delta)
        found = Guarantee(alpha, delta, float(threshold), count, errors, bound)
    return found
