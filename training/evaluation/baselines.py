"""What an uncertainty costs without a head: scores of the frozen classifier and of the representation's length.

Every score is higher where the image is less certain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

RANDOM = "random"
SIMILARITY = "-similarity"
COMBINED = "and -similarity"
_BLOCK = 4096


@dataclass(frozen=True)
class Uncertainties:
    """Every uncertainty of the same N images.

    Args:
        heads: what is evaluated, by name, each (N,) float.
        baselines: what it is compared with, by name, each (N,) float.
        guesses: (N,) int, the frozen classifier's first guess; None where there is no classifier.
    """

    heads: dict[str, np.ndarray]
    baselines: dict[str, np.ndarray] = field(default_factory=dict)
    guesses: np.ndarray | None = None

    @property
    def all(self) -> dict[str, np.ndarray]:
        """Heads, then baselines, by name."""
        return {**self.heads, **self.baselines}

    def take(self, rows: np.ndarray) -> Uncertainties:
        """Those of some of the images: rows (n,) int, or (N,) bool."""
        return Uncertainties(
            {name: score[rows] for name, score in self.heads.items()},
            {name: score[rows] for name, score in self.baselines.items()},
            None if self.guesses is None else self.guesses[rows],
        )


def uncertainties(
    z: np.ndarray,
    u: np.ndarray | Mapping[str, np.ndarray],
    *,
    logits: np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> Uncertainties:
    """u and its baselines that need no gallery.

    random      uniform numbers: what no information looks like on this set
    -norm       the shorter z, the less certain
    entropy     of the classifier's softmax, nats
    -energy     minus the logsumexp of its logits (arXiv 2010.03759)

    Args:
        z: (N, D) float, not L2-normalised.
        u: (N,) float, or several by name; an array is named "u".
        logits: (N, C) float of the frozen classifier, or a function that gives them for rows (n, D) of z, so that never
            all are in memory; None leaves out what needs them.
        seed: of the random numbers.

    Raises:
        ValueError: if the lengths differ, or two names are the same.
    """
    heads = {name: np.asarray(one) for name, one in (u.items() if isinstance(u, Mapping) else [("u", u)])}
    baselines = {
        RANDOM: np.random.default_rng(seed).random(len(z)),
        "-norm": -np.linalg.norm(np.asarray(z, np.float32), axis=1),
    }
    guesses = None
    if logits is not None:
        baselines["entropy"], baselines["-energy"], guesses = classifier_scores(z, logits)
    reserved = set(heads) & {*baselines, SIMILARITY}
    if reserved:
        raise ValueError(f"{', '.join(sorted(reserved))} is the name of a baseline. Name the uncertainty otherwise.")
    for name, one in heads.items():
        if one.shape != (len(z),):
            raise ValueError(f"The uncertainty {name} has the shape {one.shape}, expected ({len(z)},), one an image.")
    return Uncertainties(heads, baselines, guesses)


def classifier_scores(
    z: np.ndarray, logits: np.ndarray | Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Softmax entropy, minus the logsumexp, and the first guess of a classifier.

    Args:
        z: (N, D) float.
        logits: (N, C) float, or a function of rows of z.

    Returns:
        entropy: (N,) float32, nats.
        energy: (N,) float32.
        guesses: (N,) int64.

    Raises:
        ValueError: if there are not N rows of logits.
    """
    if isinstance(logits, np.ndarray) and len(logits) != len(z):
        raise ValueError(f"Got logits of {len(logits)} images and representations of {len(z)}.")
    parts = []
    for start in range(0, len(z), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = logits[rows] if isinstance(logits, np.ndarray) else logits(z[rows])
        scores = torch.from_numpy(np.ascontiguousarray(block, np.float32))
        log_p = torch.log_softmax(scores, dim=1)
        parts.append((-(log_p.exp() * log_p).sum(1), -torch.logsumexp(scores, dim=1), scores.argmax(1)))
    entropy, energy, guesses = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return entropy, energy, guesses


def combined(correct: np.ndarray, u: np.ndarray, similarity: np.ndarray) -> np.ndarray | None:
    """u and the similarity to the nearest neighbour in one uncertainty, by cross-fitted logistic regression.

    Args:
        correct: (n,) bool, whether the nearest neighbour is right.
        u: (n,) float; its logarithm is taken where all are positive, as a head's output spans orders of magnitude.
        similarity: (n,) float.

    Returns:
        (n,) float64, the probability of a wrong answer; None as for :func:`cross_fitted`.
    """
    certainty = -(np.log(u) if (u > 0).all() else u)
    chance = cross_fitted(correct, np.column_stack([certainty, similarity]))
    return None if chance is None else 1 - chance


def cross_fitted(correct: np.ndarray, features: np.ndarray, *, folds: int = 5) -> np.ndarray | None:
    """The chance of being right by a logistic regression, each answer by a fit that did not see it.

    Args:
        correct: (n,) bool.
        features: (n, F) float, standardised in each fit.
        folds: how many fits, stratified and seeded.

    Returns:
        (n,) float64; None where fewer answers than ``folds`` are right, or wrong, or a feature is not finite.
    """
    if min(correct.sum(), (~correct).sum()) < folds or not np.isfinite(features).all():
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression())
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    chance: np.ndarray = cross_val_predict(model, features, correct, cv=split, method="predict_proba")[:, 1]
    return chance
