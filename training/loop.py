"""The loop that trains a head on cached representations. Commands around it: :mod:`training.pretrain`."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pvu.head import UncertaintyHead, fold, parameter_groups, predict
from pvu.losses import l2_loss, ranking_loss
from pvu.models import choose_precision
from pvu.progress import format_seconds
from training.cached import CachedViews, targets
from training.config import TrainConfig
from training.guards import check_batch, check_losses_vary, check_uncertainties
from training.linear import fit_linear
from training.sampling import draw_pairs, drop_channels
from training.state import TrainingState
from training.validation import Validation

BLOCK = 512  # views a forward pass: their activations stay in a core's cache; the step sums the gradients of all
TELL = 10.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Trained:
    """What a run gives.

    Args:
        head: the best epoch's.
        epoch: which one that is, from 1.
        last: the last epoch's head.
        history: each epoch's numbers.
    """

    head: UncertaintyHead
    epoch: int
    last: UncertaintyHead
    history: list[dict[str, float]]


def train_head(
    views: CachedViews,
    config: TrainConfig,
    weights: np.ndarray,
    checks: Validation,
    *,
    checkpoint: Path | None = None,
    every: float = 60.0,
) -> Trained:
    """Train a head on the views of a cache that are not held out.

    Args:
        views: the cache.
        config: how.
        weights: (S,) float, how often each source's views are drawn, relative to their number.
        checks: validates every epoch.
        checkpoint: a file to go on from if it is there, and to keep up to date.
        every: seconds between two checkpoints; there is one after each epoch besides.

    Raises:
        TrainingError: if there is no order to learn, u collapses to a constant, or numbers are not finite.
        CheckpointError: if the checkpoint is another run's.
        ValueError: if too few views have the task losses asked for.
    """
    if config.head == "linear":
        return _in_closed_form(views, config, weights, checks)
    trainer = Trainer(views, config, weights, checks)
    trainer.train(checkpoint, every)
    state = trainer.state
    return Trained(state.best, state.best_epoch, trainer.on_plain_z(), state.history)


def _in_closed_form(views: CachedViews, config: TrainConfig, weights: np.ndarray, checks: Validation) -> Trained:
    started = time.monotonic()
    head = fit_linear(views, targets(views, config), weights, config)
    seconds = time.monotonic() - started
    numbers = evaluate_epoch(head, checks) | {"epoch": 1, "seconds": seconds}
    print(" ".join(f"{name} {value:.4g}" for name, value in numbers.items()), flush=True)
    return Trained(head, 1, head, [numbers])


class Trainer:
    """A run: what it reads, and its state. See :func:`train_head`."""

    def __init__(self, views: CachedViews, config: TrainConfig, weights: np.ndarray, checks: Validation) -> None:
        self.views, self.config, self.weights, self.checks = views, config, weights, checks
        self.goal = targets(views, config)
        usable = np.isfinite(self.goal) & (weights[views.source] > 0)
        self.rows = np.flatnonzero(usable if config.whole else usable & (views.pass_index > 0))
        if len(self.rows) < config.batch:
            raise ValueError(
                f"Found {len(self.rows)} training views with {config.task_losses}; a batch is {config.batch}."
            )
        sources = views.source[self.rows]
        names = {int(index): name for index, name in enumerate(views.manifest.get("images", {}))}
        named = {int(index): names.get(int(index), f"source {index}") for index in np.unique(sources)}
        check_losses_vary(self.goal[self.rows], sources, named, within=config.pairs != "across")
        if config.best == "auroc" and not len(checks.classified):
            raise ValueError(
                'best is "auroc", but no held-out image has a true label. Take head: linear, or "r_auroc".'
            )
        if config.best == "r_auroc" and not checks.retrieval:
            raise ValueError('best is "r_auroc", but no source has held-out whole pictures to measure it on.')
        self.precision = choose_precision(config.precision, torch.device("cpu"))
        self.mean, self.std = _channel_statistics(views.features, self.rows, config.standardize)
        self.epoch_steps = max(1, round((config.epoch_views or len(self.rows)) / config.batch))
        self.state = self._start()

    def _start(self) -> TrainingState:
        torch.manual_seed(self.config.seed)
        head = UncertaintyHead(self.views.features.shape[1], self.config.hidden)
        average = copy.deepcopy(head) if self.config.ema else head
        groups = parameter_groups(head, self.config.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.config.base_lr, betas=self.config.betas, fused=True)
        return TrainingState(head, average, optimizer, copy.deepcopy(head).requires_grad_(False))

    def train(self, checkpoint: Path | None, every: float) -> None:
        """Take every step that is not done yet."""
        identity = self.identity()
        if checkpoint is not None:
            self.state.load(checkpoint, identity)
        first, total = self.state.step, self.config.epochs * self.epoch_steps
        draws = draw_pairs(self.rows, self.views, self.weights, self.config, start=first)
        started = told = saved = time.monotonic()
        for step in range(first, total):
            self.step(next(draws))
            now = time.monotonic()
            ends = (step + 1) % self.epoch_steps == 0
            if ends:
                self.end_epoch()
            if now - told >= TELL:
                told = now
                self._tell(self.state.step - first, total, now - started)
            if checkpoint is not None and (ends or now - saved >= every):
                self.state.save(checkpoint, identity)
                saved = time.monotonic()

    def step(self, rows: np.ndarray) -> None:
        """One step of the optimiser on a batch of views (B,)."""
        state, config, started = self.state, self.config, time.monotonic()
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(state.step / (config.epochs * self.epoch_steps), config)
        gathered = self.views.features[rows]
        z = self._standardized(torch.from_numpy(gathered).float())
        z = drop_channels(z, config.dropout, seed=config.seed, step=state.step)
        loss = self.accumulate(z, torch.from_numpy(self.goal[rows]))
        check_batch(gathered, rows, loss)
        state.optimizer.step()
        if state.average is not state.head:
            _update_average(state.average, state.head, config.ema)
        state.step += 1
        state.loss += loss
        state.seconds += time.monotonic() - started

    def _standardized(self, z: torch.Tensor) -> torch.Tensor:
        return z if self.mean is None or self.std is None else z.sub_(self.mean).div_(self.std)

    def accumulate(self, z: torch.Tensor, goal: torch.Tensor) -> float:
        """Leave the batch's gradient in the head, and return its loss."""
        head, config, total = self.state.head, self.config, 0.0
        self.state.optimizer.zero_grad(set_to_none=True)
        for block, wanted in zip(torch.split(z, BLOCK), torch.split(goal, BLOCK), strict=True):
            # Where a CPU multiplies bfloat16, that is twice as fast. The last layer stays in float32: with bfloat16's 8
            # bits the u of a pair would often be equal.
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == torch.bfloat16):
                hidden = head.layers[:-1](block)
            u = head.from_hidden(hidden.float())
            loss = ranking_loss(u, wanted, config.margin) if config.loss == "ranking" else l2_loss(u, wanted)
            loss = loss * (len(block) / len(z))
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def end_epoch(self) -> None:
        """Validate, and keep the head if it is the best so far."""
        state = self.state
        folded = self.on_plain_z()
        numbers = evaluate_epoch(folded, self.checks)
        epoch = len(state.history) + 1
        mean_loss, speed = state.loss / self.epoch_steps, self.epoch_steps * self.config.batch / state.seconds
        state.history.append(
            numbers | {"epoch": epoch, "loss": mean_loss, "seconds": state.seconds, "views_per_second": speed}
        )
        print(" ".join(f"{name} {value:.4g}" for name, value in state.history[-1].items()), flush=True)
        if state.best_epoch == 0 or numbers[self.config.best] > state.history[state.best_epoch - 1][self.config.best]:
            state.best, state.best_epoch = folded, epoch
        state.loss = state.seconds = 0.0

    def on_plain_z(self) -> UncertaintyHead:
        """The (averaged) head as it is now, for representations that are not standardised."""
        average = self.state.average
        if self.mean is None or self.std is None:
            return copy.deepcopy(average).eval().requires_grad_(False)
        return fold(average, self.mean, self.std)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on from a checkpoint."""
        digest = hashlib.blake2b(self.rows.tobytes() + self.goal[self.rows].tobytes(), digest_size=16)
        facts = {"source weights": self.weights.tolist(), "training views": digest.hexdigest()}
        return asdict(self.config) | facts | {"backbone": self.views.manifest.get("backbone")}

    def _tell(self, done: int, total: int, seconds: float) -> None:
        state, inside = self.state, self.state.step % self.epoch_steps
        loss = f"loss {state.loss / inside:.4f}, " if inside else ""
        left = format_seconds((total - state.step) * seconds / done)
        speed = done * self.config.batch / seconds
        print(f"step {state.step:,} of {total:,}, {loss}{speed:,.0f} representations/s, {left} left", flush=True)


def evaluate_epoch(head: UncertaintyHead, checks: Validation) -> dict[str, float]:
    """Validate a head that takes plain z.

    Raises:
        TrainingError: if it gives (nearly) the same u for every image, or one that is not finite.
    """
    u = predict(head, checks.views.features, rows=checks.rows)
    spread = check_uncertainties(u)
    return checks.measure(u) | {"spread": spread}


def learning_rate(progress: float, config: TrainConfig) -> float:
    """Cosine to zero over ``progress`` 0 to 1, with a linear warm-up inside it."""
    peak = config.base_lr * math.sqrt(config.batch / 256)
    if progress < config.warmup:
        return config.warmup_lr + (peak - config.warmup_lr) * progress / config.warmup
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


def _channel_statistics(
    z: np.ndarray, rows: np.ndarray, standardize: bool
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if not standardize:
        return None, None
    sample = z[rows[:: max(1, len(rows) // 20_000)]].astype(np.float32)
    std = sample.std(axis=0)
    # Channels that hardly move would be blown up, and their folded weights would not fit into float16.
    return torch.from_numpy(sample.mean(axis=0)), torch.from_numpy(np.maximum(std, 0.1 * std.mean()))


def _update_average(average: UncertaintyHead, head: UncertaintyHead, decay: float) -> None:
    with torch.no_grad():
        for kept, current in zip(average.parameters(), head.parameters(), strict=True):
            kept.lerp_(current, 1 - decay)
