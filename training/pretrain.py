"""Train an uncertainty head on a cache: no backbone, no classifier, no images.

    python -m training.pretrain training/configs/efficientnet_lite0.yaml --cache CACHE --out DIR
    python -m training.pretrain training/configs/efficientnet_lite0.yaml --cache CACHE --out DIR --seeds 1 2 3 4 5

Writes DIR/head.safetensors (the best epoch) and DIR/history.json (every epoch's numbers); with several seeds into
DIR/seed-1, DIR/seed-2, ..., and DIR/seeds.json. Killed at any instant, the same command goes on from
DIR/checkpoint.safetensors and ends with the same head, bit for bit. Source of the recipe: arXiv 2402.16569; where a
default differs from the paper, :class:`training.config.TrainConfig` says why.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pvu.backbones import hash_weights, load_backbone
from pvu.checkpoint import save_head
from pvu.head import fold, parameter_groups, predict
from pvu.registry import availability, resolve
from training import shards, validation
from training.cached import load_views
from training.command import one_sentence
from training.config import Config, load_config
from training.guards import TrainingError, check_same_backbone
from training.loop import Trained, learning_rate, train_head
from training.sampling import draw_pairs
from training.shards import CacheError
from training.validation import Validation

__all__ = [
    "Trained",
    "TrainingError",
    "draw_pairs",
    "fold",
    "learning_rate",
    "parameter_groups",
    "predict",
    "run",
    "train_head",
]


def run(config: Config, cache: Path, out: Path, *, command: str, backbone: str | None = None) -> Trained:
    """Train as configured and save the head with what it was made from.

    Args:
        config: the configuration.
        cache: the cache's folder.
        out: where head, history and checkpoint go.
        command: kept in the head's metadata.
        backbone: hash of the weights that the head is for; None does not compare them with the cache's.

    Raises:
        CacheError: if the cache is missing, unfinished or another one.
        TrainingError: if training fails, or the cache was made by another backbone.
    """
    if not (cache / "manifest.json").is_file():
        raise CacheError(_without_cache(config, cache))
    views = load_views(cache, config.cache)
    if backbone is not None:
        check_same_backbone(views.manifest["backbone"], backbone, config.model)
    checks = validation.prepare(views, [source.name for source in config.cache.sources])
    weights = np.array([source.weight for source in config.cache.sources])
    trained = train_head(views, config.train, weights, checks, checkpoint=out / "checkpoint.safetensors")
    shards.write_json(out / "history.json", trained.history)
    save_head(
        trained.head,
        out / "head.safetensors",
        metadata=_metadata(config, trained, checks, command),
        dtype=torch.float16,
    )
    return trained


def _without_cache(config: Config, cache: Path) -> str:
    folders = ", ".join(source.name for source in config.cache.sources)
    needs = " ".join(config.needs.split()) or f"a folder DATA that holds {folders}"
    return (
        f"There is no cache at {cache}. It is made from {needs}, with the command: "
        f"python -m training.cache CONFIG --data DATA --out {cache}"
    )


def run_seeds(config: Config, seeds: list[int], cache: Path, out: Path, *, command: str, backbone: str | None) -> None:
    """Train once a seed, into OUT/seed-N, and write each one's best epoch, their mean and standard deviation."""
    measured = {}
    for seed in seeds:
        own = replace(config, train=replace(config.train, seed=seed))
        trained = run(own, cache, out / f"seed-{seed}", command=command, backbone=backbone)
        measured[seed] = trained.history[trained.epoch - 1]
    found = {name: np.array([numbers[name] for numbers in measured.values()]) for name in measured[seeds[0]]}
    ddof = 1 if len(seeds) > 1 else 0
    summary = {name: {"mean": float(v.mean()), "std": float(v.std(ddof=ddof))} for name, v in found.items()}
    shards.write_json(out / "seeds.json", {"seeds": measured, "summary": summary})
    best = summary[config.train.best]
    print(f"{config.train.best} over {len(seeds)} seeds: {best['mean']:.4f} +- {best['std']:.4f} (standard deviation)")


def _metadata(config: Config, trained: Trained, checks: Validation, command: str) -> dict[str, Any]:
    views = checks.views
    u = predict(trained.head, views.features, rows=checks.rows[checks.whole])
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


def _backbone_hash(name: str) -> str | None:
    """Hash of a model's weights, where they are on this machine."""
    if not availability(resolve(name))[0]:
        print(
            f"The weights of {name} are not on this machine: whether the cache is theirs was not checked.", flush=True
        )
        return None
    return hash_weights(load_backbone(resolve(name)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="training.pretrain", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="the YAML configuration")
    parser.add_argument("--cache", type=Path, help="the folder that training.cache made; default: OUT/cache")
    parser.add_argument("--out", type=Path, help="where the head goes; default: runs/CONFIG")
    parser.add_argument("--model", help="whose weights made the cache, if not the configuration's: hybrid-vit@FILE")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, help="in place of the configuration's")
    seeds.add_argument("--seeds", type=int, nargs="+", help="train once with each")
    arguments = parser.parse_args()
    out = arguments.out or Path("runs") / arguments.config.stem
    cache = arguments.cache or out / "cache"
    command = f"python -m training.pretrain {arguments.config.name} --cache CACHE --out DIR"
    with one_sentence():
        config = load_config(arguments.config)
        if not (cache / "manifest.json").is_file():  # before the backbone is loaded for nothing
            raise CacheError(_without_cache(config, cache).replace("CONFIG", str(arguments.config)))
        backbone = _backbone_hash(arguments.model or config.model)
        if arguments.seeds:
            run_seeds(config, arguments.seeds, cache, out, command=command, backbone=backbone)
            return
        if arguments.seed is not None:
            config = replace(config, train=replace(config.train, seed=arguments.seed))
        run(config, cache, out, command=command, backbone=backbone)


if __name__ == "__main__":
    main()
