"""Compute once what training reads in every epoch: representations and task losses of augmented views.

    python -m training.cache training/configs/efficientnet_lite0.yaml --data DATA --out CACHE

DATA holds one folder a source. Stopped at any instant, the same command goes on and repeats at most one shard.
More ``passes`` can be added to the configuration later: only the new ones are computed.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from pvu.images import Preprocessing
from pvu.models import hash_weights, load_model
from pvu.neighbors import normalized
from training import shards, tasks
from training.command import one_sentence
from training.config import TASK_LOSSES, CacheConfig, load_config
from training.data import UNLABELLED, SourceImage, list_images
from training.shards import FACTS, Shard
from training.views import CHUNK, Chunk, Views, views_in_order


class Encoder(Protocol):
    """What the cache needs of a model. :class:`pvu.models.Model` has it."""

    preprocessing: Preprocessing
    backbone: torch.nn.Module

    def represent(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, size, size, 3) uint8 -> (B, D) float32."""

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, classes) float32."""


@dataclass(frozen=True)
class WholePictures:
    """What the task losses of a source's augmented views refer to.

    Args:
        bank: (N, D) float32, L2-normalised representations of the whole pictures.
        labels: (N,) int32, the classifier's guess where there is no true label.
    """

    bank: np.ndarray
    labels: np.ndarray


def build_cache(config: CacheConfig, model: Encoder, data: Path, out: Path, *, workers: int = 2) -> int:
    """Fill a cache, or go on with one.

    Args:
        config: what it holds.
        model: a frozen backbone with its classifier.
        data: the folder that holds the sources.
        out: the cache's folder; made if absent.
        workers: decoding processes beside the model; 0 decodes in this process.

    Returns:
        How many shards were computed by this call.

    Raises:
        CacheError: if the folder holds a cache of another model, configuration or set of images.
        SourceError: if a source is missing or empty.
    """
    images = {source.name: list_images(data, source) for source in config.sources}
    shards.open_cache(out, identity(config, model, images))
    for name, listed in images.items():
        shards.write_json(out / "images" / f"{name}.json", [[image.key, image.label] for image in listed])
    todo = [shard for shard in shards.plan_of(config, images) if not shards.is_done(out, shard)]
    whole: dict[str, WholePictures] = {}
    progress = Progress(sum(shard.stop - shard.start for shard in todo))
    for shard, (pixels, changes) in decoded_shards(todo, images, config, model.preprocessing, workers):
        z = model.represent(torch.from_numpy(pixels)).cpu().numpy()
        if shard.pass_index > 0 and shard.source not in whole:
            whole[shard.source] = _whole_pictures(out, shard.source, config, images)
        facts = _facts(shard, z, changes, images[shard.source], whole.get(shard.source), model, config.temperature)
        shards.write_shard(out, shard, z, facts)
        progress.step(shard)
    for name in images.keys() - whole.keys():
        _whole_pictures(out, name, config, images)
    return len(todo)


def identity(config: CacheConfig, model: Encoder, images: dict[str, list[SourceImage]]) -> dict[str, Any]:
    """What a cache depends on: the backbone, the pictures, and how views are made of them."""
    return {
        "backbone": hash_weights(model.backbone),
        "preprocessing": asdict(model.preprocessing),
        **shards.config_identity(config),
        "images": {name: [len(listed), _hash_keys(listed)] for name, listed in images.items()},
    }


def _hash_keys(images: list[SourceImage]) -> str:
    return hashlib.blake2b("\n".join(image.key for image in images).encode(), digest_size=16).hexdigest()


def decoded_shards(
    todo: list[Shard],
    images: dict[str, list[SourceImage]],
    config: CacheConfig,
    preprocessing: Preprocessing,
    workers: int,
) -> Iterator[tuple[Shard, Views]]:
    """Pixels and changes of each shard in turn, while workers are already at the next."""
    chunks: list[Chunk] = []
    sizes = []
    for shard in todo:
        listed = images[shard.source][shard.start : shard.stop]
        parts = [listed[start : start + CHUNK] for start in range(0, len(listed), CHUNK)]
        sizes.append(len(parts))
        for part in parts:
            keys, paths = tuple(image.key for image in part), tuple(image.path for image in part)
            chunks.append(Chunk(keys, paths, shard.pass_index, config.seed, config.augmentation, preprocessing))
    views = views_in_order(chunks, workers)
    for shard, size in zip(todo, sizes, strict=True):
        parts_of_shard = [next(views) for _ in range(size)]
        yield shard, (np.concatenate([p for p, _ in parts_of_shard]), np.concatenate([c for _, c in parts_of_shard]))


def _whole_pictures(out: Path, source: str, config: CacheConfig, images: dict[str, list[SourceImage]]) -> WholePictures:
    """Read a source's whole pictures, and give them the task loss that needed all of them if they lack it yet."""
    first = [shard for shard in shards.plan_of(config, images) if shard.source == source and shard.pass_index == 0]
    parts = [shards.read_shard(out, shard) for shard in first]
    bank = normalized(np.concatenate([z for z, _ in parts]))
    labels = np.concatenate([facts["label"] for _, facts in parts])
    for shard, (z, facts) in zip(first, parts, strict=True):
        if np.isnan(facts["retrieval"]).all():
            facts["retrieval"] = tasks.retrieval_loss(z, facts["image"], bank, labels, config.temperature)
            facts["retrieval"][np.isnan(facts["cross_entropy"])] = np.nan
            shards.rewrite_facts(out, shard, facts)
    return WholePictures(bank, labels)


def _facts(
    shard: Shard,
    z: np.ndarray,
    changes: np.ndarray,
    images: list[SourceImage],
    whole: WholePictures | None,
    model: Encoder,
    temperature: float,
) -> np.ndarray:
    """What is known of the views of a shard besides z: (n,) of FACTS."""
    rows = np.arange(shard.start, shard.stop)
    facts = np.zeros(len(rows), FACTS)
    facts["image"] = rows
    facts["area"], facts["degradation"], facts["strength"] = changes[:, 1], changes[:, 2], changes[:, 3]
    if whole is None:
        labels = np.array([image.label for image in images[shard.start : shard.stop]], np.int32)
        labels = np.where(labels == UNLABELLED, tasks.pseudo_labels(z, model.logits), labels)
        # A whole picture is always its own nearest, and the others are not all known yet.
        facts["retrieval"] = facts["instance"] = facts["distance"] = np.nan
    else:
        labels = whole.labels[rows]
        facts["retrieval"] = tasks.retrieval_loss(z, rows, whole.bank, whole.labels, temperature)
        facts["instance"] = tasks.instance_loss(z, rows, whole.bank, temperature)
        facts["distance"] = tasks.distance(z, rows, whole.bank)
    facts["label"] = labels
    facts["cross_entropy"], facts["correct"] = tasks.cross_entropy(z, labels, model.logits)
    undecoded = changes[:, 0] == 0
    for name in TASK_LOSSES:
        facts[name][undecoded] = np.nan
    return facts


class Progress:
    """One line a finished shard, with the speed and the time left."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.started = total, 0, time.monotonic()

    def step(self, shard: Shard) -> None:
        self.done += shard.stop - shard.start
        speed = self.done / (time.monotonic() - self.started)
        left = (self.total - self.done) / speed
        print(f"{shard.name}: {self.done}/{self.total} views, {speed:.0f}/s, {left:.0f} s left", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="training.cache", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="the YAML configuration")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sources")
    parser.add_argument("--out", type=Path, required=True, help="the cache's folder")
    parser.add_argument("--workers", type=int, default=2, help="decoding processes beside the model")
    arguments = parser.parse_args()
    with one_sentence():
        config = load_config(arguments.config)
        model = load_model(config.model)
        build_cache(config.cache, model, arguments.data, arguments.out, workers=arguments.workers)


if __name__ == "__main__":
    main()
