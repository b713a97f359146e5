"""The cache on disk: a manifest, and one folder of memory-mapped arrays for each shard.

    manifest.json                  what the cache was made from; a cache of anything else is refused
    images/SOURCE.json             key, class and label's name of each of the source's images: the rows of every pass;
                                   or only how many rows there are, where they have no names (training.hdf5)
    shards/SOURCE-PASS-BLOCK/      z.npy (n, D) float16, facts.npy (n,) of FACTS

A shard is written to a temporary name, synced and renamed, so each one is whole or absent.
"""

from __future__ import annotations

import json
import math
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
# What early manifests do not say, and what they mean by it; None: whatever is found. The classifier is part of the
# backbone's hash, so it is the same one; the sizes of images were not looked at.
_ADDED: dict[str, Any] = {"classifier": None, "sizes": None, "uncompared": []}
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


Images = list[tuple[str, int, str | None]]
"""Key, class (or -1) and label's name (or None) of each image of a source."""


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
    """Whether a shard is there, and so whole unless its disk has lost something since."""
    return (cache / "shards" / shard.name).is_dir()


def write_shard(
    cache: Path, shard: Shard, z: np.ndarray, facts: np.ndarray, statistics: np.ndarray | None = None
) -> None:
    """Write one shard: z (n, D) and statistics (n, S), stored as float16, and facts (n,) of FACTS."""
    arrays = {"z": z.astype(np.float16), "facts": facts}
    if statistics is not None:
        arrays["statistics"] = statistics.astype(np.float16)
    write_arrays(cache, shard, arrays)


def write_arrays(cache: Path, shard: Shard, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the folder of one shard, a file an array: all of it, or nothing."""
    final = cache / "shards" / shard.name
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, array in arrays.items():
        _save(partial / f"{name}.npy", array)
    shutil.rmtree(final, ignore_errors=True)  # a damaged one
    os.replace(partial, final)


def _save(path: Path, array: np.ndarray) -> None:
    """Write an array for good: a name must not be on disk before what it names."""
    with path.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())


def remove_shard(cache: Path, shard: Shard) -> None:
    """Take a shard out of a cache, at once."""
    final = cache / "shards" / shard.name
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    os.replace(final, partial)
    shutil.rmtree(partial)


def rewrite_facts(cache: Path, shard: Shard, facts: np.ndarray) -> None:
    """Replace the facts of a shard that is there."""
    folder = cache / "shards" / shard.name
    _save(folder / "partial.npy", facts)
    os.replace(folder / "partial.npy", folder / "facts.npy")


def read_shard(cache: Path, shard: Shard) -> tuple[np.ndarray, np.ndarray]:
    """z (n, D) float16, memory-mapped, and facts (n,) of FACTS.

    Raises:
        CacheError: if the shard is not there, truncated, or not what it should be.
    """
    folder = cache / "shards" / shard.name
    if not folder.is_dir():
        raise CacheError(f"The cache {cache} is not finished: {shard.name} is missing. Run training.cache again.")
    count = shard.stop - shard.start
    try:
        z, facts = np.load(folder / "z.npy", mmap_mode="r"), np.load(folder / "facts.npy")
    except (OSError, ValueError, EOFError) as error:  # what numpy says of files that are cut off, and of other files
        raise _damaged(cache, shard, str(error)) from error
    if z.ndim != 2 or z.dtype != np.float16 or facts.dtype != FACTS or not len(z) == len(facts) == count:
        found = f"{z.dtype} {z.shape} and {facts.shape}"
        raise _damaged(cache, shard, f"found {found}, expected {count} rows of float16 and of facts")
    return z, facts


def read_statistics(cache: Path, shard: Shard) -> np.ndarray:
    """The statistics (n, S) float16 of a shard of a cache that keeps them, memory-mapped.

    Raises:
        CacheError: if they are missing or truncated.
    """
    try:
        return np.load(cache / "shards" / shard.name / "statistics.npy", mmap_mode="r")  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(cache, shard, str(error)) from error


def _damaged(cache: Path, shard: Shard, reason: str) -> CacheError:
    return CacheError(
        f"The shard {shard.name} of the cache {cache} is damaged ({reason}). Run training.cache again: it makes "
        "damaged shards anew."
    )


def is_whole(cache: Path, shard: Shard, *, statistics: bool = False) -> bool:
    """Whether a shard is there and can be read; says so if it is damaged."""
    if not is_done(cache, shard):
        return False
    try:
        read_shard(cache, shard)
        if statistics:
            read_statistics(cache, shard)
    except CacheError as error:
        print(error, flush=True)
        return False
    return True


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
    manifest = json.loads(path.read_text())
    lacking = [name for name in _ADDED if name in expected and name not in manifest]
    added = {name: expected[name] if _ADDED[name] is None else _ADDED[name] for name in lacking}
    check(cache, manifest | added, expected)
    if added:
        write_json(path, manifest | added)


def read_manifest(cache: Path, missing: str) -> dict[str, Any]:
    """What a cache was made from.

    Args:
        cache: its folder.
        missing: what to say where there is none.

    Raises:
        CacheError: if there is none, or of another format.
    """
    path = cache / "manifest.json"
    if not path.is_file():
        raise CacheError(missing)
    manifest: dict[str, Any] = json.loads(path.read_text())
    if manifest.get("format") != FORMAT:
        raise CacheError(f"{cache} holds a cache of format {manifest.get('format')!r}, expected {FORMAT!r}.")
    return manifest


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


def write_images(cache: Path, source: str, rows: list[list[Any]]) -> None:
    """Keep what the rows of a source's passes are, or make sure that it is what it was.

    Args:
        cache: the cache's folder.
        source: the source's name.
        rows: key, class (or -1) and label's name (or None) of each image.

    Raises:
        CacheError: if an image has another class than when the cache was begun.
    """
    path = cache / "images" / f"{source}.json"
    if path.is_file():
        before = json.loads(path.read_text())
        changed = [(old, new) for old, new in zip(before, rows, strict=True) if old[:2] != new[:2]]
        if changed:
            (key, old, *_), (_, new, *_) = changed[0]
            raise CacheError(
                f"The cache {cache} was made with other labels: {len(changed)} images of {source} have another class, "
                f"first {key} (class {old} in the cache, {new} now). Give another folder, or delete this one."
            )
        if before == rows:
            return
    write_json(path, rows, indent=None)


def read_images(cache: Path, source: str) -> Images:
    """Key, class (or -1) and label's name (or None) of each row of a source's passes.

    Raises:
        CacheError: if the cache has no such source.
    """
    path = cache / "images" / f"{source}.json"
    if not path.is_file():
        raise CacheError(f"The cache {cache} has no source {source}. Run training.cache again.")
    rows = json.loads(path.read_text())
    if isinstance(rows, dict):
        return [(f"{source}/{row}", 0, None) for row in range(rows["rows"])]
    return [(row[0], row[1], row[2] if len(row) > 2 else None) for row in rows]  # early caches know no names


def config_identity(config: CacheConfig) -> dict[str, Any]:
    """What a cache depends on in its configuration.

    Passes, weights and the held-out share are not in it: they may change without a new cache.
    """
    return {
        "augmentation": asdict(config.augmentation),
        "seed": config.seed,
        "shard": config.shard,
        "temperature": config.temperature,
        **({"statistics": True} if config.statistics else {}),
    }


def write_json(path: Path, value: object, *, indent: int | None = 1) -> None:
    """Write JSON to a temporary name and rename it. Without an indent, long lists are quick and small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(without_nan(value), indent=indent, allow_nan=False))
    os.replace(partial, path)


def without_nan(value: Any) -> Any:
    """A value for JSON, which knows no NaN and no infinity: null stands for them."""
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
