"""Fit an uncertainty head to a backbone that has none, on a labelled data set, from its stored representations.

What the head learns is the task loss of an image: the cross-entropy of a linear probe that has not seen the image
(:mod:`pvu.probe`). It is taught with the ranking loss on pairs (arXiv 2402.16569, section 3). How good it is, is
measured before it is used, by heads that have seen neither the image nor its label, whole folds at a time.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from pvu.bootstrap import Estimate, auroc_estimates
from pvu.errors import Cancelled, FitError
from pvu.head import UncertaintyHead, fold, parameter_groups, predict
from pvu.losses import ranking_loss
from pvu.metrics import correct_at_1, has_label
from pvu.probe import CrossProbe, Judgement, draw_folds
from pvu.progress import PhaseTimer, Progress, ProgressCallback, counted
from pvu.reference import COUNT
from pvu.store import EmbeddedDataset

MIN_IMAGES = 50
COLLAPSED = 1e-3  # standard deviation / mean of u below which it orders nothing
_TELL = 10  # steps between two reports
_POINTS = 100  # of the curve that is drawn
_RESAMPLES = 300
HEAD = "head"
NAMES = {
    HEAD: "this head",
    "present": "the head that the model has now",
    "similarity": "similarity to the nearest image",
    "doubt": "1 - highest probability of a linear probe",
    "entropy": "entropy of a linear probe",
    "norm": "short representation (norm)",
    "random": "random",
}
"""What a head is compared with, for people. The probe knows the labels of all other images, the head only z."""


@dataclass(frozen=True)
class FitConfig:
    """How a head is fitted. The paper's values unless a reason is given; benchmarks/fit.py measures them.

    Args:
        folds: how many parts the images are dealt into.
        hidden: width of the head; half the paper's, which has 13 million images.
        batch: images a step, in pairs.
        steps: of the optimiser; 0 takes five passes over the images, at least 300 and at most 1,000 steps.
        lr: the highest rate; cosine to zero. Three times the paper's, as there are few steps.
        dropout: share of the channels that are hidden from each step.
        weight_decay: none on biases.
        seed: of the folds, the first weights and the draws.

    Raises:
        ValueError: if a value is out of its range.
    """

    folds: int = 5
    hidden: int = 256
    batch: int = 256
    steps: int = 0
    lr: float = 3e-3
    dropout: float = 0.5
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 3 or self.hidden < 1 or self.steps < 0 or self.batch < 2 or self.batch % 2:
            raise ValueError(f"Need folds >= 3, hidden >= 1, steps >= 0 and an even batch, got {self}.")
        if self.lr <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"Need lr > 0 and dropout in [0, 1), got {self}.")

    def steps_for(self, images: int) -> int:
        """How many steps so many images take."""
        return self.steps or min(max(300, math.ceil(5 * images / self.batch)), 1000)


@dataclass(frozen=True)
class Fitted:
    """A head that was fitted, and what is known of it.

    Args:
        head: takes plain z (D,).
        uncertainty: (N,) float32, u of every image of the data set. Those that the head was fitted on have it by heads
            that have not seen them: the head's own would be too good, and so would every risk that is computed from it.
        quantiles: (101,) float64, u at the percentiles 0 to 100 of images that a head has not seen.
        scores: R-AUROC with a 95 % interval over images, by keys of NAMES. That of the head is measured on images that
            the measured head has not seen, nor a copy of their file. It has seen other pictures of the same scene, if
            there are any (bursts, frames of a video), and is then too good.
        curve: the ranking loss over the steps, at most 100 means.
        images: that it was fitted on: those with a label that another image has too.
        labels: how many different ones these have.
        recall_at_1: of the representation itself, over the same images.
        accuracy: of the probe, on images that it has not seen.
        spread: of u over the data set, standard deviation / mean.
        seconds: that all took.
        config: how it was fitted.
    """

    head: UncertaintyHead
    uncertainty: np.ndarray
    quantiles: np.ndarray
    scores: dict[str, Estimate]
    curve: tuple[float, ...]
    images: int
    labels: int
    recall_at_1: float
    accuracy: float
    spread: float
    seconds: float
    config: FitConfig


def why_not_fit(dataset: EmbeddedDataset) -> str | None:
    """Why no head can be fitted on a data set, in one sentence with the way out; None if one can."""
    name, rows = dataset.name, usable_rows(dataset.labels)
    found = len(set(dataset.labels[rows]))
    if "brought" in dataset.manifest:
        return (
            f"The embeddings of {name} were brought along, so there is no model on this computer that a head could be "
            "put on. Embed the images with a model here."
        )
    if not has_label(dataset.labels).any():
        return (
            f"{name} has no labels, and a head learns from them which images are hard to tell. Put the images into "
            "one folder per label, or add a labels.csv with the columns path and label."
        )
    if found < 2:
        pairs = f"{counted(found, 'label')} with at least two images"
        return f"{name} has {pairs}, so there is nothing to mistake. It takes two."
    different = len(np.unique(different_files(dataset)[rows]))
    if different < MIN_IMAGES:
        return (
            f"{name} has {different} different images with a label that another image has too, and a head takes at "
            f"least {MIN_IMAGES}. Some hundreds are better. Label more images."
        )
    return None


def usable_rows(labels: np.ndarray) -> np.ndarray:
    """The rows (n,) int64 whose label (N,) occurs at least twice."""
    counts = Counter(labels[has_label(labels)])
    return np.array([row for row, label in enumerate(labels) if counts.get(label, 0) > 1], np.int64)


def different_files(dataset: EmbeddedDataset) -> np.ndarray:
    """(N,) int: equal for images whose files are the same."""
    hashes = dataset.images["content_hash"].replace("", pd.NA)
    return np.asarray(pd.factorize(hashes.fillna(dataset.images["path"]))[0])


def fit_head(
    dataset: EmbeddedDataset,
    config: FitConfig | None = None,
    *,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Fitted:
    """Fit a head on a labelled data set, and measure it. Nothing is saved.

    Args:
        dataset: labelled; see :func:`why_not_fit`.
        config: how; None takes the defaults.
        progress: called often with a Progress; that of the phases "fit" and "folds" carries the loss's curve.
        should_stop: asked every ten steps.

    Raises:
        FitError: if the data set does not do, or the head has collapsed.
        Cancelled: if should_stop said so.
    """
    reason = why_not_fit(dataset)
    if reason is not None:
        raise FitError(reason)
    started = time.monotonic()
    fit = _Fit(dataset, config or FitConfig(), progress or (lambda _: None), should_stop or (lambda: False))
    judged, nested = fit.judge()
    scaled, curve = fit.train(judged.loss, np.ones(len(fit.rows), bool), "fit")
    head = fold(scaled, fit.mean, fit.std)
    uncertainty = predict(head, dataset.embeddings)
    spread = _require_spread(uncertainty)
    held_out, quantiles = fit.held_out(nested)
    uncertainty[fit.rows] = np.interp(held_out, np.linspace(0, 1, len(quantiles)), quantiles)
    fit.report(Progress("measure"))
    return Fitted(
        head=head,
        uncertainty=uncertainty,
        quantiles=quantiles,
        scores=_scores(fit, judged, held_out),
        curve=curve,
        images=len(fit.rows),
        labels=int(fit.codes.max()) + 1,
        recall_at_1=float(fit.correct.mean()),
        accuracy=judged.accuracy,
        spread=spread,
        seconds=time.monotonic() - started,
        config=replace(fit.config, steps=fit.steps),
    )


class _Fit:
    """One call of :func:`fit_head`: the images in memory, dealt into folds."""

    def __init__(
        self, dataset: EmbeddedDataset, config: FitConfig, report: ProgressCallback, should_stop: Callable[[], bool]
    ) -> None:
        self.dataset, self.config, self.report, self.should_stop = dataset, config, report, should_stop
        report(Progress("read"))
        self.rows = usable_rows(dataset.labels)
        self.codes = np.unique(dataset.labels[self.rows].astype(str), return_inverse=True)[1]
        # Copies of one file stay together: a head that has seen one of them has seen them all.
        copies = different_files(dataset)[self.rows]
        self.folds = draw_folds(self.codes, config.folds, seed=config.seed, groups=copies)
        self.steps = config.steps_for(len(self.rows))
        correct, labelled = correct_at_1(dataset.neighbors, dataset.labels)
        self.correct = correct[np.isin(labelled, self.rows)]
        z = torch.from_numpy(np.asarray(dataset.embeddings[self.rows], np.float32))
        self.mean, std = z.mean(dim=0), z.std(dim=0)
        # Channels that hardly move are not blown up.
        self.std = torch.clamp_min(std, 0.1 * float(std.mean()) + 1e-12)
        self.z = z.sub_(self.mean).div_(self.std)

    def judge(self) -> tuple[Judgement, list[np.ndarray]]:
        """The task losses of all images; and for each fold those of the others, by probes that have not seen it."""
        timer = PhaseTimer("probe", self.config.folds + 1, self.report, unit="probes")
        probe = CrossProbe(self.z.numpy(), self.codes, self.folds)
        judged, nested = probe.judge(), []
        timer.step(1)
        for left_out in range(self.config.folds):
            self.stop_if_asked()
            nested.append(probe.judge(without=left_out).loss)
            timer.step(1)
        return judged, nested

    def held_out(self, nested: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Each image's u by a head of the other folds, as its rank within its fold, since heads share no scale.

        Args:
            nested: for each fold the task losses (n,) of the others.

        Returns:
            The ranks (n,) in (0, 1], and the quantiles (101,) of u that belong to them, means over the heads.
        """
        ranks, quantiles = np.empty(len(self.rows)), []
        timer = PhaseTimer("folds", self.config.folds * self.steps, self.report, unit="steps")
        for number, loss in enumerate(nested):
            inside = self.folds == number
            head, _ = self.train(loss, ~inside, timer)
            values = predict(head.eval(), self.z.numpy(), rows=np.flatnonzero(inside))
            _require_spread(values)
            ranks[inside] = rankdata(values) / len(values)
            quantiles.append(np.quantile(values, np.linspace(0, 1, COUNT)))
        return ranks, np.stack(quantiles).mean(axis=0)

    def train(
        self, loss: np.ndarray, chosen: np.ndarray, phase: str | PhaseTimer
    ) -> tuple[UncertaintyHead, tuple[float, ...]]:
        """A head on standardised z, taught the order of the losses (n,) of the chosen (n,) images; and its curve."""
        config, rows = self.config, torch.from_numpy(np.flatnonzero(chosen))
        # The order is all that counts, and float32 would make the smallest losses equal.
        goal = torch.from_numpy(rankdata(loss, nan_policy="omit").astype(np.float32))
        if np.ptp(loss[chosen]) == 0:
            raise FitError(
                f"A linear probe finds the labels of all {len(rows):,} images equally easy, so there is no order to "
                "learn. A head needs labels that can be mistaken for each other."
            )
        timer = PhaseTimer(phase, self.steps, self.report, unit="steps") if isinstance(phase, str) else phase
        draws = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            head = UncertaintyHead(self.z.shape[1], config.hidden)
        groups = parameter_groups(head, config.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.8, 0.95), fused=True)
        losses: list[float] = []
        for step in range(self.steps):
            if step % _TELL == 0:
                self.stop_if_asked()
            for group in optimizer.param_groups:
                group["lr"] = config.lr * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            batch = rows[torch.randint(len(rows), (config.batch,), generator=draws)]
            z = self.z[batch]
            if config.dropout:
                z *= (torch.rand(z.shape, generator=draws) >= config.dropout) / (1 - config.dropout)
            error = ranking_loss(head(z), goal[batch])
            optimizer.zero_grad(set_to_none=True)
            error.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(error.detach()))
            if (step + 1) % _TELL == 0 or step + 1 == self.steps:
                timer.step(step % _TELL + 1, curve=_curve(losses, self.steps))
        return head.eval().requires_grad_(False), _curve(losses, self.steps)

    def stop_if_asked(self) -> None:
        if self.should_stop():
            raise Cancelled("Cancelled. Nothing is kept of a head that is not finished.")


def _curve(losses: list[float], steps: int) -> tuple[float, ...]:
    width = math.ceil(steps / _POINTS)
    return tuple(round(float(np.mean(losses[i : i + width])), 5) for i in range(0, len(losses), width))


def _require_spread(u: np.ndarray) -> float:
    spread = float(u.std() / u.mean()) if np.isfinite(u).all() else float("nan")
    if not spread > COLLAPSED:
        raise FitError(
            f"The head has collapsed: u varies by {spread:.1e} of its mean over the images, expected more than "
            f"{COLLAPSED:.0e}. Try another seed, or more labelled images."
        )
    return spread


def _scores(fit: _Fit, judged: Judgement, held_out: np.ndarray) -> dict[str, Estimate]:
    """R-AUROC of the head and of what it is compared with, in the order of NAMES; random is 0.5 by definition."""
    dataset, rows = fit.dataset, fit.rows
    norms = np.linalg.norm(np.asarray(dataset.embeddings[rows], np.float32), axis=1)
    certain = {
        HEAD: -held_out,
        "present": -dataset.uncertainty[rows],
        "similarity": dataset.similarities[rows, 0],
        "doubt": -judged.doubt,
        "entropy": -judged.entropy,
        "norm": norms,
    }
    if not dataset.has_uncertainty:
        del certain["present"]
    found = auroc_estimates(fit.correct, certain, resamples=_RESAMPLES, seed=fit.config.seed)
    return found | {"random": Estimate(0.5, 0.5, 0.5)}


def beats_chance(scores: dict[str, Estimate]) -> bool:
    """Whether the whole interval of the head's R-AUROC is above 0.5."""
    return scores[HEAD].low > 0.5


def advice(scores: dict[str, Estimate]) -> str:
    """What the numbers say about using the head, in one or two sentences."""
    head = scores[HEAD]
    if math.isnan(head.value):
        return (
            "It could not be measured, since the nearest images all have the right label, or all the wrong one. "
            "Do not rely on it."
        )
    interval = f"{head.value:.3f}, 95 % interval {head.low:.3f} to {head.high:.3f}"
    if not beats_chance(scores):
        return (
            f"On images it has not seen it does not beat chance (R-AUROC {interval}; 0.5 knows nothing). Do not use "
            "it: more labelled images, or a stronger backbone, may help."
        )
    if "present" in scores and scores["present"].value >= head.value:
        return (
            f"It beats chance (R-AUROC {interval}), but the head that the model has now is at least as good here "
            f"({scores['present'].value:.3f})."
        )
    return f"On images it has not seen it beats chance (R-AUROC {interval}; 0.5 knows nothing)."
