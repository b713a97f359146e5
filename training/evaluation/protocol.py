"""The numbers of one labelled set, from arrays: what URL (arXiv 2307.03810) measures, of u and of its baselines.

    report = evaluate_arrays(z, u, labels, logits=logits)
    report.recall_at_1.value, report.uncertainties["u"].r_auroc

50,000 images at D = 1280 take some minutes on two cores; nothing of N x N numbers is ever in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pvu.bootstrap import Estimate, auroc_estimates, share
from pvu.errors import SourceError
from pvu.metrics import Labels, auroc, correct_at_1, has_label, rank_correlation, risk_coverage, within_label_auroc
from pvu.neighbors import nearest_neighbors
from training.evaluation.baselines import COMBINED, SIMILARITY, Uncertainties, combined, uncertainties
from training.evaluation.safe import safe_retrieval

NEIGHBORS = 10  # enough that safe retrieval, which leaves out a tenth, nearly always finds its answer among them
QUANTILES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
NO_CLASS = -1
_NAN = float("nan")


@dataclass(frozen=True)
class EncodedSet:
    """A labelled set behind a frozen backbone.

    Args:
        name: of the set.
        z: (N, D) float, not L2-normalised.
        labels: (N,) values; None or NaN for none.
        scores: its uncertainties.
        classes: (N,) int, the frozen classifier's class of each label, NO_CLASS where it has none; None for no image.
    """

    name: str
    z: np.ndarray
    labels: np.ndarray
    scores: Uncertainties
    classes: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> EncodedSet:
        """Some of its images: rows (n,) int, or (N,) bool."""
        classes = None if self.classes is None else self.classes[rows]
        return EncodedSet(self.name, self.z[rows], self.labels[rows], self.scores.take(rows), classes)


@dataclass(frozen=True)
class Answers:
    """What retrieval in a set found.

    Args:
        neighbors: (N, k) int32, the nearest other images of each image, nearest first.
        rows: (n,) int, the images with a label: the queries.
        correct: (n,) bool, whether their nearest neighbour has it.
        scores: every uncertainty by name, each (N,): of the set, -similarity to the nearest neighbour, and both in one.
    """

    neighbors: np.ndarray
    rows: np.ndarray
    correct: np.ndarray
    scores: dict[str, np.ndarray]

    @property
    def of_queries(self) -> dict[str, np.ndarray]:
        """The uncertainties of the queries alone, each (n,)."""
        return {name: score[self.rows] for name, score in self.scores.items()}


@dataclass(frozen=True)
class UncertaintyReport:
    """How good one uncertainty is. What cannot be measured is NaN.

    Args:
        r_auroc: AUROC of -u for the nearest other image having the label.
        r_auroc_within_labels: the same among the images of each label, averaged over labels with both outcomes.
        aurc: area under the risk-coverage curve; lower is better.
        classification_auroc: AUROC of -u for the frozen classifier's first guess being right.
        crop_test: share of images that are less certain when cropped.
        human_correlation: Spearman's, with the entropy of human labels.
        safe_retrieval: Recall@1 without the most uncertain tenth of each label, by part.
        summary: mean, std and quantiles of u.
    """

    r_auroc: Estimate
    r_auroc_within_labels: float = _NAN
    aurc: float = _NAN
    classification_auroc: float = _NAN
    crop_test: float = _NAN
    human_correlation: float = _NAN
    safe_retrieval: dict[str, float] | None = None
    summary: dict[str, float] | None = None


@dataclass(frozen=True)
class SetReport:
    """The numbers of one set.

    Args:
        images: with a label: the queries.
        labels: different labels.
        recall_at_1: share of queries whose nearest other image has their label.
        labels_with_both: labels that R-AUROC within labels is averaged over.
        classified: images whose label is a class of the frozen classifier.
        accuracy: of its first guess on them; NaN without any.
        humans: images with human labels.
        heads: names of the uncertainties that are evaluated; the others are baselines.
        uncertainties: by name.
        left_out: what was not measured, and why.
    """

    images: int
    labels: int
    recall_at_1: Estimate
    labels_with_both: int
    classified: int
    accuracy: float
    humans: int
    heads: tuple[str, ...]
    uncertainties: dict[str, UncertaintyReport]
    left_out: tuple[str, ...] = ()


def evaluate_arrays(
    z: np.ndarray,
    u: np.ndarray | Mapping[str, np.ndarray],
    labels: Labels,
    *,
    logits: np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None,
    classes: np.ndarray | None = None,
    human_entropy: np.ndarray | None = None,
    cropped: np.ndarray | Mapping[str, np.ndarray] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> SetReport:
    """Every number of one set from arrays.

    Args:
        z: (N, D) float, not L2-normalised, N >= 2.
        u: (N,) float, or several uncertainties of the same images by name, such as a head of each seed.
        labels: (N,) values; None or NaN for none.
        logits: (N, C) float of the frozen classifier, or a function of rows of z; None leaves its baselines out.
        classes: (N,) int, the classifier's class of each label, -1 for none; None leaves the classification AUROC out.
        human_entropy: (N,) float, nats, NaN for none.
        cropped: as u, of the same images cropped, for the crop test; baselines that are in it are tested too.
        resamples: of the bootstrap; 0 gives no intervals.
        seed: of the bootstrap and of the random baseline.

    Raises:
        ValueError: if lengths differ, or a name is a baseline's.
        SourceError: if there are fewer than two images, or no label.
    """
    scores = uncertainties(z, u, logits=logits, seed=seed)
    encoded = EncodedSet("set", z, np.asarray(labels, dtype=object), scores, classes)
    if isinstance(cropped, np.ndarray):
        cropped = {"u": cropped}
    return evaluate_set(encoded, cropped=cropped, human_entropy=human_entropy, resamples=resamples, seed=seed)


def evaluate_set(
    encoded: EncodedSet,
    *,
    answers: Answers | None = None,
    cropped: Mapping[str, np.ndarray] | None = None,
    human_entropy: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> SetReport:
    """As :func:`evaluate_arrays`, for an encoded set.

    Args:
        encoded: the set.
        answers: of :func:`find_answers`, where they are known already.
        cropped: uncertainties of the same images cropped, each (N,); those by the same name are compared.
        human_entropy: (N,) float, nats, NaN for none.
        resamples: of the bootstrap; 0 gives no intervals.
        seed: of the bootstrap.

    Raises:
        ValueError: if lengths differ.
        SourceError: if there are fewer than two images, or no label.
    """
    _check_lengths(encoded, human_entropy, *(cropped or {}).values())
    answers = answers or find_answers(encoded)
    correct, rows, labels = answers.correct, answers.rows, encoded.labels[answers.rows]
    known, guessed_right = _classified(encoded)
    certainties = {name: -score for name, score in answers.of_queries.items()}
    r_aurocs = auroc_estimates(correct, certainties, resamples=resamples, seed=seed)
    human = np.full(len(encoded.z), np.nan) if human_entropy is None else np.asarray(human_entropy, np.float64)
    return SetReport(
        images=len(rows),
        labels=len(set(labels.tolist())),
        recall_at_1=share(correct, resamples=resamples, seed=seed),
        labels_with_both=within_label_auroc(correct, labels, np.zeros(len(rows)))[1],
        classified=len(known),
        accuracy=float(guessed_right.mean()) if len(known) else _NAN,
        humans=int(np.isfinite(human).sum()),
        heads=tuple(encoded.scores.heads),
        uncertainties={
            name: _report(encoded, answers, score, r_aurocs[name], (cropped or {}).get(name), human)
            for name, score in answers.scores.items()
        },
        left_out=_left_out(encoded, answers.scores, cropped, human_entropy, known),
    )


def _report(
    encoded: EncodedSet,
    answers: Answers,
    u: np.ndarray,
    r_auroc: Estimate,
    u_cropped: np.ndarray | None,
    human: np.ndarray,
) -> UncertaintyReport:
    of_queries, labels = u[answers.rows], encoded.labels[answers.rows]
    known, guessed_right = _classified(encoded)
    return UncertaintyReport(
        r_auroc=r_auroc,
        r_auroc_within_labels=within_label_auroc(answers.correct, labels, of_queries)[0],
        aurc=risk_coverage(answers.correct, of_queries).aurc if np.isfinite(of_queries).all() else _NAN,
        classification_auroc=auroc(guessed_right, -u[known]),
        crop_test=crop_test(u, u_cropped),
        human_correlation=rank_correlation(u, human),
        safe_retrieval=safe_retrieval(encoded.z, answers.neighbors, encoded.labels, u),
        summary=summary(of_queries),
    )


def find_answers(encoded: EncodedSet) -> Answers:
    """The nearest neighbours of a set's images, and the uncertainties that need them.

    Raises:
        ValueError: if lengths differ.
        SourceError: if there are fewer than two images, or no label.
    """
    _check_lengths(encoded)
    if len(encoded.z) < 2 or not has_label(encoded.labels).any():
        raise SourceError(
            f"{encoded.name} has {len(encoded.z)} images, {int(has_label(encoded.labels).sum())} with a label. "
            "Recall@1 needs at least two images and a label."
        )
    neighbors, similarities = nearest_neighbors(encoded.z, NEIGHBORS)
    correct, rows = correct_at_1(neighbors, encoded.labels)
    scores = _with_similarity(encoded.scores, similarities[:, 0], correct, rows)
    return Answers(neighbors, rows, correct, scores)


def crop_test(u: np.ndarray, u_cropped: np.ndarray | None) -> float:
    """The share of images with u(x) < u(crop(x)), URL's croppedHasBiggerUnc, from both (N,); NaN without the latter."""
    if u_cropped is None or len(u) == 0:
        return _NAN
    return float((np.asarray(u) < np.asarray(u_cropped)).mean())


def summary(u: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and quantiles of u (n,)."""
    quantiles = np.quantile(u, QUANTILES)
    return {
        "mean": float(u.mean()),
        "std": float(u.std()),
        **{f"q{100 * at:02.0f}": float(value) for at, value in zip(QUANTILES, quantiles, strict=True)},
    }


def _check_lengths(encoded: EncodedSet, *others: np.ndarray | None) -> None:
    arrays = [encoded.labels, *encoded.scores.all.values(), encoded.classes, *others]
    wrong = {len(one) for one in arrays if one is not None} - {len(encoded.z)}
    if wrong:
        raise ValueError(
            f"{encoded.name} has {len(encoded.z)} representations, but labels, uncertainties, classes or "
            f"human entropies of {', '.join(map(str, sorted(wrong)))} images. Give one of each an image."
        )


def _with_similarity(
    scores: Uncertainties, similarity: np.ndarray, correct: np.ndarray, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """All uncertainties, and those that need the gallery: of the nearest neighbour, and of each head with it."""
    found = {**scores.all, SIMILARITY: -similarity}
    for name, u in scores.heads.items():
        both = combined(correct, u[rows], similarity[rows])
        column = np.full(len(similarity), np.nan)
        column[rows] = np.nan if both is None else both
        found[f"{name} {COMBINED}"] = column
    return found


def _classified(encoded: EncodedSet) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose label is a class of the classifier, and whether its first guess on them is right."""
    if encoded.classes is None or encoded.scores.guesses is None:
        return np.empty(0, np.int64), np.empty(0, bool)
    known = np.flatnonzero(np.asarray(encoded.classes) != NO_CLASS)
    return known, encoded.scores.guesses[known] == encoded.classes[known]


def _left_out(
    encoded: EncodedSet,
    scores: Mapping[str, np.ndarray],
    cropped: Mapping[str, np.ndarray] | None,
    human_entropy: np.ndarray | None,
    known: np.ndarray,
) -> tuple[str, ...]:
    notes = []
    if encoded.scores.guesses is None:
        notes.append("entropy, -energy and classification AUROC: the model has no classifier")
    elif len(known) == 0:
        notes.append("classification AUROC: the labels are no classes of the classifier")
    if cropped is None:
        notes.append("crop test: no crops were encoded")
    if human_entropy is None:
        notes.append("correlation with human entropies: no human labels were given")
    notes += [
        f"{name}: it cannot be fitted (too few right or wrong answers)"
        for name in scores
        if np.isnan(scores[name]).all()
    ]
    return tuple(notes)
