"""The whole protocol for a model: its sets encoded, each of its heads and what needs no head measured on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch

from pvu.backbones import hash_weights
from pvu.errors import ModelError
from pvu.head import UncertaintyHead
from pvu.models import Model
from training.data import imagenet_classes
from training.degradations import follows_strength
from training.evaluation.baselines import RANDOM, Uncertainties, uncertainties
from training.evaluation.encoding import backbone_fingerprint, encode_degraded, encode_set, head_output
from training.evaluation.humans import human_entropies
from training.evaluation.ood import MixtureReport, evaluate_mixture
from training.evaluation.plots import risk_coverage_lines
from training.evaluation.protocol import NO_CLASS, EncodedSet, SetReport, evaluate_set, find_answers
from training.evaluation.results import ModelReport
from training.evaluation.sets import ImageSet, find_set
from training.evaluation.sheets import write_sheet

SKIPPABLE = ("crops", "degradations")


@dataclass(frozen=True)
class Options:
    """What is measured, and how.

    Args:
        classes: of HALVES: all labels of each set, or the first or second half of them in class order.
        humans: files of human labels, by set.
        mixtures: "UPSTREAM:SET+SET", each.
        skip: of SKIPPABLE: parts that need more forward passes than one an image.
        resamples: of the bootstrap; 0 gives no intervals.
        seed: of every draw.
        workers: decoding processes beside the model; 0 decodes in this one.
        kept: the folder of representations; None keeps none.
        sheets: the folder of contact sheets; None makes none.
    """

    classes: str = "all"
    humans: Mapping[str, Path] = field(default_factory=dict)
    mixtures: Sequence[str] = ()
    skip: Sequence[str] = ()
    resamples: int = 1000
    seed: int = 0
    workers: int = 1
    kept: Path | None = None
    sheets: Path | None = None


def evaluate_model(
    model: Model,
    data: Path,
    sets: Sequence[str],
    *,
    heads: Mapping[str, UncertaintyHead] | None = None,
    options: Options | None = None,
) -> tuple[ModelReport, list[go.Figure]]:
    """The whole protocol for one backbone.

    Args:
        model: with or without a classifier, whose baselines are left out where there is none.
        data: the folder that holds the sets.
        sets: their names.
        heads: by name; None takes the model's own, named "u".
        options: what is measured, and how.

    Returns:
        The numbers, and a risk-coverage figure a set.

    Raises:
        ModelError: if there is no head, or one does not fit.
        SourceError: if a set or a file of human labels is missing or cannot be used.
        ValueError: if an option is none.
    """
    options = options or Options()
    scored = Scorer(model, heads or ({"u": model.head} if model.head is not None else {}))
    _check(options, sets)
    images = {name: find_set(data, name, half=options.classes) for name in sets}
    human = {name: human_entropies(file, images[name].paths) for name, file in options.humans.items()}
    found = {name: _evaluate_one(scored, one, human.get(name), options) for name, one in images.items()}
    swept = {} if "degradations" in options.skip else images
    report = ModelReport(
        model=model.name,
        backbone=backbone_fingerprint(model),
        heads={name: hash_weights(head) for name, head in scored.heads.items()},
        sets={name: one.report for name, one in found.items()},
        mixtures={text: _mixture(text, found, options) for text in options.mixtures},
        degradations={name: _degradations(scored, one, options) for name, one in swept.items()},
        unreadable={name: one.unreadable for name, one in found.items() if one.unreadable},
    )
    return report, [one.figure for one in found.values()]


class Scorer:
    """Uncertainties of representations: of each head, and of the frozen classifier where there is one.

    Args:
        model: the backbone.
        heads: by name, at least one.

    Raises:
        ModelError: if there is no head, or one does not take this backbone's representations.
    """

    def __init__(self, model: Model, heads: Mapping[str, UncertaintyHead]) -> None:
        if not heads:
            raise ModelError(f"{model.name} has no uncertainty head to evaluate. Train one with training.pretrain.")
        for name, head in heads.items():
            if head.dim not in model.head_dims:
                raise ModelError(f"The head {name} takes {head.dim} numbers, but {model.name} gives {model.dim}.")
        self.model = model
        self.statistics = any(head.dim > model.dim for head in heads.values())
        self.heads = {name: head.to(model.device).eval() for name, head in heads.items()}
        self.logits: Callable[[np.ndarray], np.ndarray] | None = self._logits
        try:
            self.class_count = self._logits(np.zeros((1, model.dim), np.float32)).shape[1]
        except ModelError:
            self.logits, self.class_count = None, 0

    def __call__(self, z: np.ndarray, *, seed: int = 0) -> Uncertainties:
        """The uncertainties of representations (N, D), or of (N, D + S) with the statistics of the trunk's stages."""
        u = {name: head_output(head, z, self.model.device) for name, head in self.heads.items()}
        return uncertainties(z[:, : self.model.dim], u, logits=self.logits, seed=seed)

    def classes(self, labels: np.ndarray) -> np.ndarray | None:
        """The classifier's class of each label (N,), NO_CLASS for labels that are none of its wnids; or None."""
        wnids = imagenet_classes(self.class_count)
        if not wnids:
            return None
        return np.array([wnids.get(str(label), NO_CLASS) for label in labels])

    def _logits(self, z: np.ndarray) -> np.ndarray:
        return self.model.logits(torch.from_numpy(z).to(self.model.device)).float().cpu().numpy()


@dataclass(frozen=True)
class _Evaluated:
    """One set: itself, its numbers, its risk-coverage figure, and how many images could not be read."""

    encoded: EncodedSet
    report: SetReport
    figure: go.Figure
    unreadable: int


def _evaluate_one(scored: Scorer, images: ImageSet, human: np.ndarray | None, options: Options) -> _Evaluated:
    kinds = ("whole",) if "crops" in options.skip else ("whole", "crop")
    model = scored.model
    z, decoded = encode_set(
        model, images, kinds, statistics=scored.statistics, kept=options.kept, workers=options.workers
    )
    labels, whole = images.labels[decoded], z["whole"][decoded]
    scores = scored(whole, seed=options.seed)
    encoded = EncodedSet(images.name, whole[:, : model.dim], labels, scores, scored.classes(labels))
    answers = find_answers(encoded)
    report = evaluate_set(
        encoded,
        answers=answers,
        # Another seed: the random baseline must not give the crops the numbers of the whole pictures.
        cropped=scored(z["crop"][decoded], seed=options.seed + 1).all if "crop" in z else None,
        human_entropy=None if human is None else human[decoded],
        resamples=options.resamples,
        seed=options.seed,
    )
    if options.sheets is not None:
        _write_sheets(options.sheets, scored, images, decoded, encoded.scores)
    figure = risk_coverage_lines(f"{images.name} ({scored.model.name})", answers.correct, answers.of_queries)
    return _Evaluated(encoded, report, figure, int((~decoded).sum()))


def _mixture(text: str, found: Mapping[str, _Evaluated], options: Options) -> MixtureReport:
    upstream, downstream = parse_mixture(text)
    return evaluate_mixture(
        found[upstream].encoded,
        [found[name].encoded for name in downstream],
        resamples=options.resamples,
        seed=options.seed,
    )


def _degradations(scored: Scorer, images: ImageSet, options: Options) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for kind, z in encode_degraded(scored.model, images, statistics=scored.statistics, kept=options.kept).items():
        for name, score in scored(z, seed=options.seed).all.items():
            if name != RANDOM:
                found.setdefault(name, {})[kind] = follows_strength(score)
    return found


def _write_sheets(folder: Path, scored: Scorer, images: ImageSet, decoded: np.ndarray, scores: Uncertainties) -> None:
    files = [file for file, ok in zip(images.files, decoded, strict=True) if ok]
    for name, u in scores.heads.items():
        stem = "--".join(part.replace("/", "_") for part in (images.name, scored.model.name, name))
        write_sheet(folder / f"{stem}.jpg", files, u, title=f"{images.name}, {name} of {scored.model.name}")


def parse_mixture(text: str) -> tuple[str, list[str]]:
    """The upstream set and the downstream sets of "UPSTREAM:SET+SET".

    Raises:
        ValueError: if the text is not of this form, or has the upstream set downstream too.
    """
    upstream, _, rest = text.partition(":")
    downstream = rest.split("+")
    if not upstream or "" in downstream or upstream in downstream:
        raise ValueError(f"A mixture is written UPSTREAM:SET+SET, of different sets; got {text!r}.")
    return upstream, downstream


def _check(options: Options, sets: Sequence[str]) -> None:
    """A slip in an option ends before any image is encoded."""
    if not sets or len(set(sets)) < len(sets):
        raise ValueError(f"Name at least one set, and each once; got {', '.join(sets) or 'none'}.")
    named = set(options.humans)
    for text in options.mixtures:
        upstream, downstream = parse_mixture(text)
        named |= {upstream, *downstream}
    if unknown := sorted(named - set(sets)):
        raise ValueError(f"Human labels and mixtures name {', '.join(unknown)}, but the sets are {', '.join(sets)}.")
    for part in options.skip:
        if part not in SKIPPABLE:
            raise ValueError(f"Only {', '.join(SKIPPABLE)} can be skipped, got {part!r}.")
