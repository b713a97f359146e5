"""Train an uncertainty head on a cache.

    python -m training.pretrain training/configs/efficientnet_lite0.yaml --cache CACHE --out DIR

Writes DIR/head.safetensors (the best epoch) and DIR/history.json (every epoch's numbers). Source of the recipe:
arXiv 2402.16569; where a default differs from the paper, :class:`training.config.TrainConfig` says why.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pvu.checkpoint import save_head
from pvu.errors import PVUError
from pvu.head import UncertaintyHead
from training import shards, validation
from training.cached import CachedViews, load_views, targets
from training.command import one_sentence
from training.config import Config, TrainConfig, load_config
from training.losses import l2_loss, ranking_loss
from training.validation import Validation

COLLAPSED = 1e-3  # relative spread of u (standard deviation / mean) below which it orders nothing


class TrainingError(PVUError):
    """Training went wrong: a collapsed head, or numbers that are not finite."""


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


def train_head(views: CachedViews, config: TrainConfig, weights: np.ndarray, checks: Validation) -> Trained:
    """Train a head on the views of a cache that are not held out.

    Args:
        views: the cache.
        config: how.
        weights: (S,) float, how often each source's views are drawn, relative to their number.
        checks: validates every epoch.

    Raises:
        TrainingError: if u collapses to a constant, or the loss is not finite.
        ValueError: if no view has the task losses asked for.
    """
    goal = targets(views, config)
    rows = np.flatnonzero(np.isfinite(goal) & (weights[views.source] > 0))
    if len(rows) < config.batch:
        raise ValueError(f"Found {len(rows)} training views with {config.task_losses}; a batch is {config.batch}.")
    torch.manual_seed(config.seed)
    head = UncertaintyHead(views.z.shape[1], config.hidden)
    mean, std = _channel_statistics(views.z[rows], config.standardize)
    average = copy.deepcopy(head)
    optimizer = torch.optim.AdamW(parameter_groups(head, config.weight_decay), betas=config.betas, fused=True)
    steps = max(1, round(len(rows) / config.batch))
    draws = draw_pairs(rows, views, weights, config)
    history: list[dict[str, float]] = []
    best = Trained(head, 0, head, history)
    for epoch in range(config.epochs):
        started, total = time.monotonic(), 0.0
        for step in range(epoch * steps, (epoch + 1) * steps):
            _set_learning_rate(optimizer, learning_rate(step / (config.epochs * steps), config))
            batch = next(draws)
            z = F.dropout((torch.from_numpy(views.z[batch]).float() - mean) / std, config.dropout)
            total += _step(head, optimizer, z, torch.from_numpy(goal[batch]), config)
            _update_average(average, head, config.ema)
        folded = fold(average, mean, std)
        numbers = evaluate_epoch(folded, checks)
        history.append(numbers | {"epoch": epoch + 1, "loss": total / steps, "seconds": time.monotonic() - started})
        print(" ".join(f"{name} {value:.4g}" for name, value in history[-1].items()), flush=True)
        better = best.epoch == 0 or numbers[config.best] > history[best.epoch - 1][config.best]
        best = Trained(folded, epoch + 1, folded, history) if better else replace(best, last=folded)
    return best


def _set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def _step(
    head: UncertaintyHead, optimizer: torch.optim.Optimizer, z: torch.Tensor, goal: torch.Tensor, config: TrainConfig
) -> float:
    u = head(z)
    loss = ranking_loss(u, goal, config.margin) if config.loss == "ranking" else l2_loss(u, goal)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(f"The training loss is {value}. Lower base_lr, and look for damaged shards in the cache.")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value


def evaluate_epoch(head: UncertaintyHead, checks: Validation) -> dict[str, float]:
    """Validate a head that takes plain z.

    Raises:
        TrainingError: if it gives (nearly) the same u for every image, or one that is not finite.
    """
    u = predict(head, checks.views.z[checks.rows])
    if not np.isfinite(u).all():
        raise TrainingError("The head gives uncertainties that are not finite. Lower base_lr.")
    spread = float(u.std() / u.mean())
    if spread < COLLAPSED:
        raise TrainingError(
            f"The head has collapsed: u varies by {spread:.1e} of its mean over the validation images, expected more "
            f"than {COLLAPSED:.0e}. Lower base_lr, raise the margin, or check that the task losses vary."
        )
    return checks.measure(u) | {"spread": spread}


def predict(head: UncertaintyHead, z: np.ndarray, *, block: int = 8192) -> np.ndarray:
    """u of representations (N, D) of any float type: (N,) float32."""
    with torch.inference_mode():
        parts = [head(torch.from_numpy(z[start : start + block]).float()) for start in range(0, len(z), block)]
    return torch.cat(parts).numpy()


def parameter_groups(head: UncertaintyHead, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices alone: a decayed bias only shifts u."""
    decayed = [parameter for parameter in head.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in head.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]


def learning_rate(progress: float, config: TrainConfig) -> float:
    """Cosine to zero over ``progress`` 0 to 1, with a linear warm-up inside it."""
    peak = config.base_lr * math.sqrt(config.batch / 256)
    if progress < config.warmup:
        return config.warmup_lr + (peak - config.warmup_lr) * progress / config.warmup
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


def fold(head: UncertaintyHead, mean: torch.Tensor, std: torch.Tensor) -> UncertaintyHead:
    """The head on plain z that equals ``head`` on (z - mean) / std."""
    folded = copy.deepcopy(head).eval().requires_grad_(False)
    first = folded.layers[0]
    assert isinstance(first, torch.nn.Linear)
    first.weight.copy_(first.weight / std)
    first.bias.copy_(first.bias - first.weight @ mean)
    return folded


def _channel_statistics(z: np.ndarray, standardize: bool) -> tuple[torch.Tensor, torch.Tensor]:
    if not standardize:
        return torch.zeros(z.shape[1]), torch.ones(z.shape[1])
    sample = z[:: max(1, len(z) // 20_000)].astype(np.float32)
    std = sample.std(axis=0)
    # Channels that hardly move would be blown up, and their folded weights would not fit into float16.
    return torch.from_numpy(sample.mean(axis=0)), torch.from_numpy(np.maximum(std, 0.1 * std.mean()))


def _update_average(average: UncertaintyHead, head: UncertaintyHead, decay: float) -> None:
    with torch.no_grad():
        for kept, current in zip(average.parameters(), head.parameters(), strict=True):
            kept.lerp_(current, 1 - decay)


def draw_pairs(rows: np.ndarray, views: CachedViews, weights: np.ndarray, config: TrainConfig) -> Iterator[np.ndarray]:
    """Endless batches of view rows; consecutive ones are pairs.

    Args:
        rows: (n,) int, the views to draw from.
        views: the cache.
        weights: (S,) float, how often each source's views are drawn, relative to their number.
        config: batch, pairs and seed.
    """
    rng = np.random.default_rng(config.seed)
    # A pool is what a pair may be drawn from together: one source, and for "alike" whole pictures or views of it.
    pool_of = views.source[rows].astype(np.int64) * 2
    if config.pairs == "alike":
        pool_of += views.pass_index[rows] == 0
    pools = [rows[pool_of == pool] for pool in np.unique(pool_of)]
    chances = np.array([len(pool) * weights[views.source[pool[0]]] for pool in pools])
    chances = chances / chances.sum()
    while True:
        first = rng.choice(len(pools), config.batch // 2, p=chances)
        second = rng.choice(len(pools), config.batch // 2, p=chances) if config.pairs == "across" else first
        batch = np.empty(config.batch, np.int64)
        for offset, drawn in ((0, first), (1, second)):
            for index in np.unique(drawn):
                where = np.flatnonzero(drawn == index)
                batch[2 * where + offset] = rng.choice(pools[index], len(where))
        yield batch


def run(config: Config, cache: Path, out: Path, *, command: str) -> Trained:
    """Train as configured and save the head with what it was made from.

    Raises:
        CacheError: if the cache is missing, unfinished or another one.
        TrainingError: if training fails.
    """
    views = load_views(cache, config.cache)
    names = [source.name for source in config.cache.sources]
    checks = validation.prepare(views, names)
    weights = np.array([source.weight for source in config.cache.sources])
    trained = train_head(views, config.train, weights, checks)
    out.mkdir(parents=True, exist_ok=True)
    shards.write_json(out / "history.json", trained.history)
    save_head(
        trained.head,
        out / "head.safetensors",
        metadata=_metadata(config, trained, checks, command),
        dtype=torch.float16,
    )
    return trained


def _metadata(config: Config, trained: Trained, checks: Validation, command: str) -> dict[str, Any]:
    views = checks.views
    u = predict(trained.head, views.z[checks.rows[checks.whole]])
    counts = np.bincount(views.source[~views.held_out], minlength=len(config.cache.sources))
    return {
        "backbone": config.model,
        "backbone_hash": views.manifest["backbone"],
        "preprocessing": views.manifest["preprocessing"],
        "training_data": {s.name: int(n) for s, n in zip(config.cache.sources, counts, strict=True)},
        "config": json.loads(json.dumps(asdict(config))),
        "command": command,
        "epoch": trained.epoch,
        "measured": {name: round(value, 4) for name, value in trained.history[trained.epoch - 1].items()},
        # Of u on whole held-out upstream pictures: percentiles that do not depend on one data set.
        "reference_quantiles": [float(q) for q in np.quantile(u, np.linspace(0, 1, 101))],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="training.pretrain", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="the YAML configuration")
    parser.add_argument("--cache", type=Path, required=True, help="the folder that training.cache made")
    parser.add_argument("--out", type=Path, required=True, help="where the head goes")
    arguments = parser.parse_args()
    command = f"python -m training.pretrain {arguments.config.name} --cache CACHE --out DIR"
    with one_sentence():
        run(load_config(arguments.config), arguments.cache, arguments.out, command=command)


if __name__ == "__main__":
    main()
