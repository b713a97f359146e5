"""A linear probe that never sees the images it judges: Fisher's linear discriminant, made of sums, fold by fold.

Its cross-entropy on an image that it has not seen is the image's task loss (arXiv 2402.16569, section 3), for backbones
without a classifier for these labels. Of each fold only sums and products are kept, so that a probe of some
folds costs additions and one linear system (Friedman, "Regularized Discriminant Analysis", 1989, with a common
covariance that is shrunk towards a multiple of the identity).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

SHRINKAGE = 0.5
_SAMPLE = 1000  # images that a temperature is fitted on: it is one number
_BLOCK = 4096


@dataclass(frozen=True)
class Judgement:
    """What probes say of images that they have not seen.

    Args:
        loss: (n,) float64, cross-entropy in nats; NaN for images that were left out.
        entropy: (n,) float64, of the probabilities, in nats; NaN likewise.
        doubt: (n,) float64, 1 - the highest probability; NaN likewise.
        accuracy: the share of images whose most probable label is theirs.
    """

    loss: np.ndarray
    entropy: np.ndarray
    doubt: np.ndarray
    accuracy: float


def draw_folds(codes: np.ndarray, count: int, *, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Deal the images into folds of one size, each label evenly.

    Args:
        codes: (n,) int, labels.
        count: of folds.
        seed: of the order within a label.
        groups: (n,) int; those of one group go to one fold together, and count as one image. None: each by itself.

    Returns:
        (n,) int64 in [0, count).
    """
    if groups is not None:
        _, first, group = np.unique(groups, return_index=True, return_inverse=True)
        return draw_folds(codes[first], count, seed=seed)[group]
    order = np.lexsort((np.random.default_rng(seed).random(len(codes)), codes))
    folds = np.empty(len(codes), np.int64)
    folds[order] = np.arange(len(codes)) % count
    return folds


class CrossProbe:
    """Probes on all folds but some.

    Args:
        z: (n, D) float32, at best standardised.
        codes: (n,) int, labels 0, 1, ...
        folds: (n,) int, from :func:`draw_folds`.
    """

    def __init__(self, z: np.ndarray, codes: np.ndarray, folds: np.ndarray) -> None:
        self.z, self.codes, self.folds = z, codes, folds
        self.labels, self.count = int(codes.max()) + 1, int(folds.max()) + 1
        self._counts = np.zeros((self.count, self.labels))
        self._sums = np.zeros((self.count, self.labels, z.shape[1]), np.float32)
        self._products = np.zeros((self.count, z.shape[1], z.shape[1]))
        for fold in range(self.count):
            rows = np.flatnonzero(folds == fold)
            self._counts[fold] = np.bincount(codes[rows], minlength=self.labels)
            for start in range(0, len(rows), _BLOCK):
                inside = rows[start : start + _BLOCK]
                block = z[inside]
                np.add.at(self._sums[fold], codes[inside], block)
                self._products[fold] += block.T @ block
        self._known: dict[frozenset[int], tuple[np.ndarray, np.ndarray]] = {}

    def judge(self, *, without: int | None = None) -> Judgement:
        """Judge each image by a probe of the other folds.

        Args:
            without: a fold that no probe may see, and that is not judged; None for none.
        """
        loss, entropy, doubt = (np.full(len(self.z), np.nan) for _ in range(3))
        right = seen = 0
        for fold in range(self.count):
            if fold == without:
                continue
            rows = np.flatnonzero(self.folds == fold)
            weight, bias = self._discriminant(frozenset({fold} if without is None else {fold, without}))
            logits = (self.z[rows] @ weight + bias).astype(np.float64)
            logits /= _temperature(logits[:_SAMPLE], self.codes[rows[:_SAMPLE]])
            right, seen = right + int((logits.argmax(axis=1) == self.codes[rows]).sum()), seen + len(rows)
            loss[rows] = _cross_entropy(logits, self.codes[rows])
            logits -= logsumexp(logits, axis=1, keepdims=True)
            probability = np.exp(logits)
            entropy[rows] = -np.einsum("nc,nc->n", probability, logits)
            doubt[rows] = 1 - probability.max(axis=1)
        return Judgement(loss, entropy, doubt, right / max(seen, 1))

    def _discriminant(self, without: frozenset[int]) -> tuple[np.ndarray, np.ndarray]:
        """Weights (D, labels) and biases (labels,), float32, of the probe that has not seen some folds."""
        if without not in self._known:
            kept = [fold for fold in range(self.count) if fold not in without]
            counts, sums = self._counts[kept].sum(axis=0), self._sums[kept].sum(axis=0, dtype=np.float64)
            means = sums / np.maximum(counts, 1)[:, None]  # a label that was not seen lies in the middle of all
            within = (self._products[kept].sum(axis=0) - sums.T @ means) / counts.sum()
            spread = max(np.trace(within) / len(within), 1e-12)
            shrunk = (1 - SHRINKAGE) * within + SHRINKAGE * spread * np.eye(len(within))
            weight = np.linalg.solve(shrunk, means.T)
            prior = np.log((counts + 0.5) / (counts + 0.5).sum())  # finite for a label that was not seen
            bias = prior - 0.5 * np.einsum("cd,dc->c", means, weight)
            self._known[without] = weight.astype(np.float32), bias.astype(np.float32)
        return self._known[without]


def _cross_entropy(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) from logits (n, labels): log(1 + sum of the others' odds), which keeps the order of losses near zero too."""
    places = np.arange(len(logits)), codes
    others = logits - logits[places][:, None]
    others[places] = -np.inf
    return np.asarray(np.logaddexp(0, logsumexp(others, axis=1)))


def _temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """What to divide logits (n, labels) by so that the mean cross-entropy is lowest: it is convex in the inverse."""
    own = logits[np.arange(len(logits)), codes]

    def mean_loss(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        return float((logsumexp(logits * inverse, axis=1) - own * inverse).mean())

    return float(np.exp(-minimize_scalar(mean_loss, bounds=(-5, 1), method="bounded", options={"xatol": 0.05}).x))
