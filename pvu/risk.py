"""How likely is the nearest image to have another label? For every image of a labelled set, and for new queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pvu.analysis import why_not
from pvu.calibration import (
    DELTA,
    Guarantee,
    MonotoneRisk,
    Reliability,
    candidate_thresholds,
    certify,
    cross_fitted,
    reliability,
)
from pvu.errors import QueryError
from pvu.metrics import correct_at_1, has_label
from pvu.store import EmbeddedDataset

ALPHAS = (0.05, 0.1, 0.2)
"""The errors that are offered: at most 5, 10, 20 % wrong."""
MIN_LABELLED = 100
_FIT_SHARE = 1 / 3


@dataclass(frozen=True)
class Risk:
    """What the labels of a data set say about the risk of its images as queries, and of new ones.

    Args:
        values: (N,) float32 in (0, 1), P(the nearest other image has another label), of every image; of a labelled
            one by a model that was fitted without it.
        rows: (M,) int, the labelled images.
        wrong: (M,) bool, whether their nearest other image has another label.
        model: fitted to all labelled images, for new queries.
        rule: fitted to a third of them; its score decides what a guarantee keeps.
        scores: (N,) float64, the rule's score of every image.
        guarantees: for each of ALPHAS the guarantee, proved on the other two thirds; None where there is none.
        before: reliability of the percentile of u among the labelled images, taken for a probability.
        after: reliability of ``values`` on the labelled images.
    """

    values: np.ndarray
    rows: np.ndarray
    wrong: np.ndarray
    model: MonotoneRisk
    rule: MonotoneRisk
    scores: np.ndarray
    guarantees: dict[float, Guarantee | None]
    before: Reliability
    after: Reliability

    def keeps(self, alpha: float) -> np.ndarray:
        """(N,) bool: the images that "at most alpha wrong" keeps.

        Of labelled images the answers are known (``wrong``), so their error can be counted, and need not be promised:
        above alpha it may be among those that the rule was fitted to. What is promised is the error of queries that
        come as those of the proof did: new ones, and the unlabelled images if chance has decided which have a label.

        Raises:
            QueryError: if no threshold is proved for this alpha; the message is :meth:`why_not`'s.
        """
        reason = self.why_not(alpha)
        if reason is not None:
            raise QueryError(reason)
        return self.scores <= self._threshold(alpha)

    def _threshold(self, alpha: float) -> float:
        found = self.guarantees.get(alpha)
        return -np.inf if found is None else found.threshold

    def why_not(self, alpha: float) -> str | None:
        """Why "at most alpha wrong" cannot be promised, in one sentence; None if it can."""
        if alpha not in self.guarantees:
            offered = ", ".join(f"{100 * value:g}" for value in self.guarantees)
            return f"A risk of {100 * alpha:g} % is not offered. Choose one of {offered} %."
        if self.guarantees[alpha] is None:
            return (
                f"For no part of this data set can it be proved that at most {100 * alpha:g} % are wrong: even among "
                "the safest images the nearest one has another label too often, or too few images are labelled."
            )
        return None

    def of_query(
        self, dataset: EmbeddedDataset, uncertainty: float, nearest: int, similarity: float
    ) -> tuple[float, dict[float, bool]]:
        """The risk of a new query.

        Args:
            dataset: the one that this was made from.
            uncertainty: the query's u.
            nearest: the row of its most similar image.
            similarity: the cosine to it.

        Returns:
            P(that image has another label), and for each alpha whether its guarantee keeps the query.
        """
        around = _surroundings(dataset, np.array([nearest]), np.array([-1]))
        inputs = _inputs(np.array([uncertainty]), np.array([similarity]), around)
        score = float(self.rule.predict(inputs)[0])
        return float(self.model.predict(inputs)[0]), {a: score <= self._threshold(a) for a in self.guarantees}


def why_no_risk(dataset: EmbeddedDataset) -> str | None:
    """Why risks cannot be had from a data set, in one sentence with the way out; None if they can."""
    reason = why_not(dataset)
    if reason is not None:
        return reason
    labelled = int(has_label(dataset.labels).sum())
    if labelled < MIN_LABELLED:
        return (
            f"{dataset.name} has {labelled} labelled images, and a risk is learned from at least {MIN_LABELLED}. "
            "Label more, or use the percentiles."
        )
    return None


def risk_inputs(dataset: EmbeddedDataset, rows: np.ndarray) -> np.ndarray:
    """What the risk of images as queries is told from: (n, 3) float64, each the higher the more likely wrong.

    The columns are u; minus the similarity to the nearest other image; and by how much that falls short of how similar
    the nearest image is to its own neighbours (local scaling, as in CSLS, Conneau et al., arXiv 1710.04087): 0.8 is
    near in an empty part of the space and far in a crowded one. The last leaves the query out of the neighbours of its
    nearest, since a new query is not among them either.

    Args:
        dataset: with uncertainties and at least three images.
        rows: (n,) int.
    """
    around = _surroundings(dataset, dataset.neighbors[rows, 0], rows)
    return _inputs(dataset.uncertainty[rows], dataset.similarities[rows, 0], around)


def _inputs(uncertainty: np.ndarray, similarity: np.ndarray, around: np.ndarray) -> np.ndarray:
    similarity = similarity.astype(np.float64)
    return np.stack([uncertainty.astype(np.float64), -similarity, around - similarity], axis=1)


def _surroundings(dataset: EmbeddedDataset, nearest: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(n,) float64: mean similarity of images to their neighbours, a query (its row, or -1) not counted among them."""
    others = dataset.neighbors[nearest] != queries[:, None]
    counted = others & (np.cumsum(others, axis=1) < others.shape[1])  # one fewer than there are: as many for everyone
    total = (dataset.similarities[nearest] * counted).sum(axis=1, dtype=np.float64)
    return np.asarray(total / np.maximum(counted.sum(axis=1), 1))


def calibrate(dataset: EmbeddedDataset, *, delta: float = DELTA, seed: int = 0) -> Risk:
    """Learn the risk of a labelled data set from its kNN graph, and prove thresholds.

    Queries are split at random: a third fits the rule, two thirds prove its thresholds. See
    :func:`pvu.calibration.certify` for what a guarantee says and assumes: it is about queries that come as these did,
    while this set is what is searched. The statement for each alpha holds with chance ``1 - delta``; all of them at
    once with less.

    Raises:
        QueryError: if it cannot be done; the message is :func:`why_no_risk`'s.
    """
    reason = why_no_risk(dataset)
    if reason is not None:
        raise QueryError(reason)
    correct, rows = correct_at_1(dataset.neighbors, dataset.labels)
    wrong = ~correct
    everything = risk_inputs(dataset, np.arange(len(dataset)))
    inputs = everything[rows]
    model = MonotoneRisk.fit(inputs, wrong)
    values = model.predict(everything).astype(np.float32)
    values[rows] = cross_fitted(inputs, wrong, seed=seed)
    rule, guarantees = proved_rule(inputs, wrong, delta=delta, seed=seed)
    rank = np.searchsorted(np.sort(dataset.uncertainty[rows]), dataset.uncertainty[rows], "right") / len(rows)
    return Risk(
        values=values,
        rows=rows,
        wrong=wrong,
        model=model,
        rule=rule,
        scores=rule.predict(everything),
        guarantees=guarantees,
        before=reliability(rank, wrong),
        after=reliability(values[rows], wrong),
    )


def proved_rule(
    inputs: np.ndarray, wrong: np.ndarray, *, delta: float = DELTA, seed: int = 0, alphas: tuple[float, ...] = ALPHAS
) -> tuple[MonotoneRisk, dict[float, Guarantee | None]]:
    """A model fitted to a random third of some queries, and the guarantees that the other two thirds prove for it.

    Args:
        inputs: (n, d) float, as in :meth:`MonotoneRisk.fit`.
        wrong: (n,) bool.
        delta: the chance that a guarantee is false.
        seed: of the split.
        alphas: the errors to allow.
    """
    order = np.random.default_rng(seed).permutation(len(wrong))
    fit, proof = np.split(order, [max(1, round(_FIT_SHARE * len(wrong)))])
    rule = MonotoneRisk.fit(inputs[fit], wrong[fit])
    fitted, scores = rule.predict(inputs[fit]), rule.predict(inputs[proof])
    guarantees = {}
    for alpha in alphas:
        thresholds = candidate_thresholds(fitted, wrong[fit], count=len(proof), alpha=alpha)
        guarantees[alpha] = certify(scores, wrong[proof], thresholds, alpha=alpha, delta=delta)
    return rule, guarantees
