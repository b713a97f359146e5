"""Is u epistemic? Can it tell upstream from downstream images, and how well does it do on a mixture of both?

AUROC(u, is downstream) near 0.5 means that u does not measure how unfamiliar an image is (arXiv 2402.16569).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pvu.bootstrap import Estimate, auroc_estimates
from pvu.metrics import correct_at_1
from pvu.neighbors import nearest_neighbors
from training.evaluation.baselines import Uncertainties
from training.evaluation.protocol import EncodedSet


@dataclass(frozen=True)
class MixtureReport:
    """The numbers of a mixture of n upstream and n downstream images.

    Args:
        images: n of each, the smaller of both sets.
        recall_at_1: on the union.
        ood_auroc: of each uncertainty for an image being downstream.
        mixed_r_auroc: R-AUROC of each uncertainty on the union.
    """

    images: int
    recall_at_1: float
    ood_auroc: dict[str, Estimate]
    mixed_r_auroc: dict[str, Estimate]


def evaluate_mixture(
    upstream: EncodedSet, downstream: Sequence[EncodedSet], *, resamples: int = 1000, seed: int = 0
) -> MixtureReport:
    """Mix equal numbers of upstream and downstream images, drawn without replacement, and measure both.

    Labels of different sets are different, whatever they are called. Uncertainties that need a gallery are left out.

    Args:
        upstream: what the head was trained for.
        downstream: one or more sets, pooled.
        resamples: of the bootstrap.
        seed: of the draw and of the bootstrap.
    """
    other = pooled(downstream)
    n, rng = min(len(upstream.z), len(other.z)), np.random.default_rng(seed)
    drawn = [one.take(np.sort(rng.permutation(len(one.z))[:n])) for one in (upstream, other)]
    union = pooled(drawn)
    is_downstream = np.repeat([False, True], n)
    neighbors, _ = nearest_neighbors(union.z, 1)
    correct, rows = correct_at_1(neighbors, union.labels)
    certainties = {name: -score[rows] for name, score in union.scores.all.items()}
    return MixtureReport(
        images=n,
        recall_at_1=float(correct.mean()),
        ood_auroc=auroc_estimates(is_downstream, union.scores.all, resamples=resamples, seed=seed),
        mixed_r_auroc=auroc_estimates(correct, certainties, resamples=resamples, seed=seed),
    )


def pooled(sets: Sequence[EncodedSet]) -> EncodedSet:
    """Several sets as one, with each set's labels kept apart; of the uncertainties, those that all sets have.

    Raises:
        ValueError: if there is no set.
    """
    if not sets:
        raise ValueError("A mixture needs at least one set of each kind.")

    def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        common = [name for name in parts[0] if all(name in part for part in parts)]
        return {name: np.concatenate([part[name] for part in parts]) for name in common}

    labels = [
        None if label is None or label != label else f"{number}/{label}"
        for number, one in enumerate(sets)
        for label in one.labels
    ]
    scores = Uncertainties(joined([s.scores.heads for s in sets]), joined([s.scores.baselines for s in sets]))
    name = "+".join(one.name for one in sets)
    return EncodedSet(name, np.concatenate([one.z for one in sets]), np.array(labels, dtype=object), scores)
