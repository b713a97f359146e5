"""The maps of a folder as one table of views, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pvu.hybrid import Trunk
from training import shards
from training.config import CacheConfig
from training.data import is_held_out
from training.rows import MappedRows, allow_open_files
from training.shards import CacheError, Shard


@dataclass(frozen=True)
class MappedViews:
    """Every view of a folder of maps. A view is a row; what is small is in memory, the maps stay on disk.

    Args:
        middle: (V, 112, 14, 14) float16.
        last: (V, 320, 7, 7) float16.
        pooled: (V, 1280) float16.
        image: (V,) int64, which picture it shows, numbered over all sources.
        source: (V,) int64, which source that is of.
        pass_index: (V,) int64, 0 for whole pictures.
        label: (V,) int64, ImageNet-1k class, or -1.
        area: (V,) float32, share of the picture that the view shows.
        usable: (V,) bool, whether it could be decoded and is not held out.
        manifest: what the maps were made from.
    """

    middle: MappedRows
    last: MappedRows
    pooled: np.ndarray
    image: np.ndarray
    source: np.ndarray
    pass_index: np.ndarray
    label: np.ndarray
    area: np.ndarray
    usable: np.ndarray
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.pooled)

    def maps(self, rows: np.ndarray, trunk: Trunk) -> torch.Tensor:
        """The tokens' maps of some views: (B, 1728, 7, 7) float32."""
        middle, last = (torch.from_numpy(array[rows]).float() for array in (self.middle, self.last))
        with torch.no_grad():
            return trunk.join(middle, last)


def load_maps(folder: Path, config: CacheConfig) -> MappedViews:
    """Open a folder of maps.

    Raises:
        CacheError: if it is missing, unfinished, or was made with another configuration.
    """
    manifest = open_maps(folder, config)
    images = {source.name: shards.read_images(folder, source.name) for source in config.sources}
    starts = np.cumsum([0, *(len(listed) for listed in images.values())])
    table: dict[str, list[np.ndarray]] = {}
    maps: dict[str, list[np.ndarray]] = {"middle": [], "last": []}
    plan = shards.plan_of(config, images)
    allow_open_files(len(maps) * len(plan))
    for shard in plan:
        arrays = read_maps(folder, shard)
        number = next(index for index, source in enumerate(config.sources) if source.name == shard.source)
        listed = images[shard.source][shard.start : shard.stop]
        share = config.sources[number].held_out
        for name, column in {
            "pooled": np.asarray(arrays["pooled"]),
            "image": starts[number] + np.arange(shard.start, shard.stop),
            "source": np.full(len(listed), number),
            "pass_index": np.full(len(listed), shard.pass_index),
            "label": np.array([label for _, label, *_ in listed], np.int64),
            "area": np.asarray(arrays["changes"][:, 1]),
            "usable": (arrays["changes"][:, 0] > 0) & ~np.array([is_held_out(key, share) for key, *_ in listed]),
        }.items():
            table.setdefault(name, []).append(column)
        for name, kept in maps.items():
            kept.append(arrays[name])
    columns = {name: np.concatenate(parts) for name, parts in table.items()}
    return MappedViews(MappedRows(maps["middle"]), MappedRows(maps["last"]), **columns, manifest=manifest)


def open_maps(folder: Path, config: CacheConfig) -> dict[str, Any]:
    """The manifest of a folder of maps.

    Raises:
        CacheError: if there is none, or it was made with another configuration.
    """
    manifest = shards.read_manifest(folder, f"There are no maps at {folder}. Make them with training.hybrid.maps.")
    shards.check(folder, manifest, {"kind": "maps", **shards.config_identity(replace(config, statistics=False))})
    return manifest


def read_maps(folder: Path, shard: Shard) -> dict[str, np.ndarray]:
    """The arrays of one shard, memory-mapped.

    Raises:
        CacheError: if one is missing or damaged.
    """
    try:
        return {
            name: np.load(folder / "shards" / shard.name / f"{name}.npy", mmap_mode="r")
            for name in ("middle", "last", "pooled", "stats", "changes")
        }
    except (OSError, ValueError, EOFError) as error:
        raise CacheError(
            f"The maps {shard.name} in {folder} are missing or damaged ({error}). Run training.hybrid.maps again."
        ) from error


def has_maps(folder: Path, shard: Shard) -> bool:
    """Whether the maps of a shard are there and can be read; says so if they are damaged."""
    if not shards.is_done(folder, shard):
        return False
    try:
        read_maps(folder, shard)
    except CacheError as error:
        print(error, flush=True)
        return False
    return True
