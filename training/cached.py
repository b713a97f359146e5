"""A finished cache, and what the head is taught to predict for each of its views."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.stats import rankdata

from training import shards
from training.config import CacheConfig, TrainConfig
from training.data import is_held_out
from training.rows import JoinedColumns, MappedRows, allow_open_files

IN_MEMORY = 8 << 30  # bytes of representations up to which they are read into memory, where random rows are quickest


@dataclass(frozen=True)
class CachedViews:
    """Every view of a cache.

    Args:
        z: (V, D) float16 representations; of a large cache a :class:`training.rows.MappedRows`, to be indexed alike.
        facts: (V,) of :data:`training.shards.FACTS`.
        source: (V,) int16, row in the configuration's sources.
        pass_index: (V,) int16, 0 for whole pictures.
        held_out: (V,) bool, kept for validation.
        known: (V,) bool, whether the label is true and not the classifier's guess.
        manifest: what the cache was made from.
        true_label: (V,) int32, row in ``label_names``, -1 where the source gives no label. Unlike ``facts["label"]``,
            it is never the classifier's guess, and knows labels that are none of the classifier's classes.
        label_names: what the sources call their labels, sorted.
        statistics: (V, S) float16, of the trunk's stages, where the head takes them.
    """

    z: np.ndarray
    facts: np.ndarray
    source: np.ndarray
    pass_index: np.ndarray
    held_out: np.ndarray
    known: np.ndarray
    manifest: dict[str, Any]
    true_label: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    label_names: tuple[str, ...] = ()
    statistics: np.ndarray | None = None

    @cached_property
    def features(self) -> np.ndarray:
        """What the head takes: z, or (V, D + S) with the statistics behind it, to be indexed alike."""
        if self.statistics is None:
            return self.z
        if isinstance(self.z, MappedRows):  # too large to be read as one
            return cast(np.ndarray, JoinedColumns([self.z, self.statistics]))
        return np.concatenate([self.z, self.statistics], axis=1)

    def __len__(self) -> int:
        return len(self.z)


@dataclass(frozen=True)
class _Images:
    """The rows of a source's passes: (N,) each; labels as in :class:`CachedViews`."""

    held_out: np.ndarray
    known: np.ndarray
    true_label: np.ndarray

    def __len__(self) -> int:
        return len(self.held_out)


def load_views(cache: Path, config: CacheConfig, *, in_memory: int = IN_MEMORY) -> CachedViews:
    """Open a cache.

    Args:
        cache: its folder.
        config: which sources and passes of it.
        in_memory: bytes of representations above which they stay on disk, memory-mapped.

    Raises:
        CacheError: if it is missing, unfinished or damaged, or lacks a source of the configuration.
    """
    manifest = shards.read_manifest(cache, f"There is no cache at {cache}. Make it with training.cache.")
    shards.check(cache, manifest, shards.config_identity(config))
    listed = {source.name: shards.read_images(cache, source.name) for source in config.sources}
    names = tuple(sorted({name for rows in listed.values() for *_, name in rows if name is not None}))
    images = {source.name: _images(listed[source.name], source.held_out, names) for source in config.sources}
    index = {source.name: row for row, source in enumerate(config.sources)}
    z: list[np.ndarray] = []
    parts: list[tuple[np.ndarray, ...]] = []
    plan = shards.plan_of(config, images)
    allow_open_files(2 * len(plan))
    for shard in plan:
        vectors, facts = shards.read_shard(cache, shard)
        z.append(vectors)
        ones, of, rows = np.ones(len(facts), np.int16), images[shard.source], facts["image"]
        place = (ones * index[shard.source], ones * shard.pass_index)
        parts.append((facts, *place, of.held_out[rows], of.known[rows], of.true_label[rows]))
    facts, source, pass_index, held_out, known, true_label = (np.concatenate(c) for c in zip(*parts, strict=True))
    behind = [shards.read_statistics(cache, shard) for shard in plan] if config.statistics else []
    large = sum(part.nbytes for part in (*z, *behind)) > in_memory

    def joined(tables: list[np.ndarray]) -> np.ndarray:
        return cast(np.ndarray, MappedRows(tables)) if large else np.concatenate(tables)

    statistics = joined(behind) if behind else None
    return CachedViews(joined(z), facts, source, pass_index, held_out, known, manifest, true_label, names, statistics)


def _images(listed: shards.Images, held_out: float, names: tuple[str, ...]) -> _Images:
    row_of = {name: row for row, name in enumerate(names)}
    return _Images(
        np.fromiter((is_held_out(key, held_out) for key, _, _ in listed), bool),
        np.fromiter((label >= 0 for _, label, _ in listed), bool),
        np.fromiter((-1 if name is None else row_of[name] for _, _, name in listed), np.int32),
    )


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
        return np.where(usable, task_loss(views, name), np.nan).astype(np.float32)
    total, weights = np.zeros(len(views)), np.zeros(len(views))
    for name, weight in config.task_losses.items():
        losses = task_loss(views, name)
        for source in np.unique(views.source):
            rows = np.flatnonzero(usable & np.isfinite(losses) & (views.source == source))
            total[rows] += weight * rankdata(losses[rows]) / max(len(rows), 1)
            weights[rows] += weight
    return np.divide(total, weights, out=np.full(len(views), np.nan), where=weights > 0).astype(np.float32)


def task_loss(views: CachedViews, name: str) -> np.ndarray:
    """One task loss of every view (V,) float32; NaN where a view has none.

    "crops" is the instance loss, and for a whole picture, which has none, the mean of its own undegraded views': how
    well its crops are told from other pictures.
    """
    if name != "crops":
        return views.facts[name]
    losses, whole = views.facts["instance"].astype(np.float64), views.pass_index == 0
    picture = views.source.astype(np.int64) << 32 | views.facts["image"]
    _, picture = np.unique(picture, return_inverse=True)
    counted = ~whole & (views.facts["degradation"] == 0) & np.isfinite(losses)
    total = np.bincount(picture[counted], losses[counted], minlength=picture.max() + 1)
    count = np.bincount(picture[counted], minlength=len(total))
    mean = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    usable = whole & np.isfinite(views.facts["cross_entropy"])
    return np.where(whole, np.where(usable, mean[picture], np.nan), losses).astype(np.float32)
