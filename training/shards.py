"""The cache on disk: a manifest, and one folder of memory-mapped arrays for each shard.

    manifest.json                  what the cache was made from; a cache of anything else is refused
    images/SOURCE.json             the keys of the source's images: the rows of every pass
    shards/SOURCE-PASS-BLOCK/      z.npy (n, D) float16, facts.npy (n,) of FACTS

A shard is written to a temporary name and renamed, so each one is whole or absent.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pvu.errors import PVUError
from training.config import CacheConfig

FORMAT = "pvu.cache/1"
FACTS = np.dtype(
    [
        ("image", np.int32),  # row in images/SOURCE.json
        ("label", np.int32),  # true class; the classifier's guess on the whole picture where there is none
        ("cross_entropy", np.float32),  # the task losses; NaN where the image could not be decoded
        ("retrieval", np.float32),
        ("instance", np.float32),
        ("distance", np.float32),
        ("correct", np.bool_),  # whether the classifier's first guess is the label
        ("area", np.float32),  # share of the picture that the view shows
        ("degradation", np.int8),  # index in training.augment.DEGRADATIONS
        ("strength", np.float32),  # of the degradation, 0 to 1
    ]
)


class CacheError(PVUError):
    """A cache is missing, unfinished, or was made from something else."""


@dataclass(frozen=True)
class Shard:
    """Which views one shard holds.

    Args:
        source: the source's name.
        pass_index: 0 for whole pictures, then the augmented passes.
        start: first image row.
        stop: one behind the last.
    """

    source: str
    pass_index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.source}-{self.pass_index:02d}-{self.start:07d}"


def plan(counts: dict[str, int], passes: dict[str, int], shard: int) -> list[Shard]:
    """Every shard of a cache: whole pictures first, since the other views' task losses need them, then pass by pass."""
    return [
        Shard(source, index, start, min(start + shard, count))
        for index in range(max(passes.values()) + 1)
        for source, count in counts.items()
        if index <= passes[source]
        for start in range(0, count, shard)
    ]


def plan_of(config: CacheConfig, images: Mapping[str, Sized]) -> list[Shard]:
    """As :func:`plan`, from a configuration and the images (or keys) of each source."""
    counts = {source.name: len(images[source.name]) for source in config.sources}
    return plan(counts, {source.name: source.passes for source in config.sources}, config.shard)


def is_done(cache: Path, shard: Shard) -> bool:
    """Whether a shard is there (and so whole)."""
    return (cache / "shards" / shard.name).is_dir()


def write_shard(cache: Path, shard: Shard, z: np.ndarray, facts: np.ndarray) -> None:
    """Write one shard: z (n, D), stored as float16, and facts (n,) of FACTS."""
    final = cache / "shards" / shard.name
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / "z.npy", z.astype(np.float16))
    np.save(partial / "facts.npy", facts)
    os.replace(partial, final)


def rewrite_facts(cache: Path, shard: Shard, facts: np.ndarray) -> None:
    """Replace the facts of a shard that is there."""
    folder = cache / "shards" / shard.name
    np.save(folder / "partial.npy", facts)
    os.replace(folder / "partial.npy", folder / "facts.npy")


def read_shard(cache: Path, shard: Shard) -> tuple[np.ndarray, np.ndarray]:
    """z (n, D) float16, memory-mapped, and facts (n,) of FACTS.

    Raises:
        CacheError: if the shard is not there.
    """
    folder = cache / "shards" / shard.name
    if not folder.is_dir():
        raise CacheError(f"The cache {cache} is not finished: {shard.name} is missing. Run training.cache again.")
    return np.load(folder / "z.npy", mmap_mode="r"), np.load(folder / "facts.npy")


def open_cache(cache: Path, identity: dict[str, Any]) -> None:
    """Start a cache, or make sure that the one that is there was made from the same things.

    Raises:
        CacheError: naming what differs.
    """
    path = cache / "manifest.json"
    expected = {"format": FORMAT, **identity}
    if not path.is_file():
        write_json(path, expected)
        return
    check(cache, json.loads(path.read_text()), expected)


def check(cache: Path, manifest: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Make sure that a cache's manifest says what is expected.

    Raises:
        CacheError: naming what differs.
    """
    for name, value in expected.items():
        value = json.loads(json.dumps(value))
        if manifest.get(name) != value:
            raise CacheError(
                f"The cache {cache} was made with another {name} ({_brief(manifest.get(name))}, expected "
                f"{_brief(value)}). Give another folder, or delete this one."
            )


def config_identity(config: CacheConfig) -> dict[str, Any]:
    """What a cache depends on in its configuration.

    Passes, weights and the held-out share are not in it: they may change without a new cache.
    """
    return {
        "augmentation": asdict(config.augmentation),
        "seed": config.seed,
        "shard": config.shard,
        "temperature": config.temperature,
    }


def write_json(path: Path, value: object) -> None:
    """Write JSON to a temporary name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1))
    os.replace(partial, path)


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
