"""A finished cache in memory, and what the head is taught to predict for each of its views."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from training import shards
from training.config import CacheConfig, TrainConfig
from training.data import is_held_out
from training.shards import CacheError


@dataclass(frozen=True)
class CachedViews:
    """Every view of a cache.

    Args:
        z: (V, D) float16 representations.
        facts: (V,) of :data:`training.shards.FACTS`.
        source: (V,) int16, row in the configuration's sources.
        pass_index: (V,) int16, 0 for whole pictures.
        held_out: (V,) bool, kept for validation.
        known: (V,) bool, whether the label is true and not the classifier's guess.
        manifest: what the cache was made from.
    """

    z: np.ndarray
    facts: np.ndarray
    source: np.ndarray
    pass_index: np.ndarray
    held_out: np.ndarray
    known: np.ndarray
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.z)


def load_views(cache: Path, config: CacheConfig) -> CachedViews:
    """Read a cache.

    Raises:
        CacheError: if it is missing, unfinished, or lacks a source of the configuration.
    """
    path = cache / "manifest.json"
    if not path.is_file():
        raise CacheError(f"There is no cache at {cache}. Make it with training.cache.")
    manifest = json.loads(path.read_text())
    if manifest.get("format") != shards.FORMAT:
        raise CacheError(f"{cache} holds a cache of format {manifest.get('format')!r}, expected {shards.FORMAT!r}.")
    shards.check(cache, manifest, shards.config_identity(config))
    images = {source.name: _images(cache, source.name) for source in config.sources}
    index = {source.name: row for row, source in enumerate(config.sources)}
    held_out = {s.name: np.array([is_held_out(key, s.held_out) for key, _ in images[s.name]]) for s in config.sources}
    known = {name: np.array([label >= 0 for _, label in listed]) for name, listed in images.items()}
    parts: list[tuple[np.ndarray, ...]] = []
    for shard in shards.plan_of(config, images):
        z, facts = shards.read_shard(cache, shard)
        ones = np.ones(len(facts), np.int16)
        rows = facts["image"]
        parts.append(
            (
                z,
                facts,
                ones * index[shard.source],
                ones * shard.pass_index,
                held_out[shard.source][rows],
                known[shard.source][rows],
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return CachedViews(columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], manifest)


def _images(cache: Path, source: str) -> list[list[Any]]:
    path = cache / "images" / f"{source}.json"
    if not path.is_file():
        raise CacheError(f"The cache {cache} has no source {source}. Run training.cache again.")
    listed: list[list[Any]] = json.loads(path.read_text())
    return listed


def targets(views: CachedViews, config: TrainConfig) -> np.ndarray:
    """What u is to be ordered by: one task loss, or the weighted mean of several, each as its rank in its source.

    Ranks are in (0, 1], among the training views of a source that have the loss. A view that lacks some of the losses
    (whole pictures have no instance loss) gets the mean of those that it has.

    Returns:
        (V,) float32; NaN where a view has none, or is held out.
    """
    usable = ~views.held_out
    if not config.degraded:
        usable = usable & (views.facts["degradation"] == 0)
    if len(config.task_losses) == 1:
        (name,) = config.task_losses
        return np.where(usable, views.facts[name], np.nan).astype(np.float32)
    total, weights = np.zeros(len(views)), np.zeros(len(views))
    for name, weight in config.task_losses.items():
        losses = views.facts[name]
        for source in np.unique(views.source):
            rows = np.flatnonzero(usable & np.isfinite(losses) & (views.source == source))
            total[rows] += weight * rankdata(losses[rows]) / max(len(rows), 1)
            weights[rows] += weight
    return np.divide(total, weights, out=np.full(len(views), np.nan), where=weights > 0).astype(np.float32)
