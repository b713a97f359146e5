"""Compute once what training reads in every epoch: representations and task losses of augmented views.

    python -m training.cache training/configs/efficientnet_lite0.yaml --data DATA --out CACHE
    python -m torch.distributed.run --nproc-per-node 8 -m training.cache CONFIG --data DATA --out CACHE    # 8 GPUs

DATA holds the sources: folders, archives or tables of images. Stopped at any instant, the same command goes on, with as
many processes as you like, and repeats at most one shard of each. More ``passes`` can be added to the configuration
later: only the new ones are computed.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock, Timeout

from pvu.images import Preprocessing
from pvu.models import load_model
from pvu.neighbors import normalized
from training import shards, tasks
from training.cache_checks import (
    check_classifier,
    check_logits,
    check_representations,
    check_unchanged,
    classifier_of,
    weights_of,
)
from training.command import one_sentence
from training.config import TASK_LOSSES, CacheConfig, load_config
from training.data import UNLABELLED, SourceConfig, SourceImage, list_images
from training.ranks import Ranks, launched
from training.shards import FACTS, CacheError, Shard
from training.views import CHUNK, Chunk, Views, chunks_of, views_in_order

BATCH = 256  # views that are encoded while the next are decoded: what a GPU takes at once, and all cores of a CPU share
# Shards between two looks at whether the weights are still the same: hashing ViT-L takes as long as a shard on a GPU.
_LOOK_EVERY = 32


Encoded = tuple[Shard, torch.Tensor, np.ndarray]
"""A shard, what a head takes of its views, (n, D) float32 or with statistics behind z, and their changes (n, 4)."""


class Encoder(Protocol):
    """What the cache needs of a model. :class:`pvu.models.Model` has it."""

    preprocessing: Preprocessing
    backbone: torch.nn.Module  # with get_classifier(), as timm's have it

    def represent(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, size, size, 3) uint8 -> (B, D) float32, on the model's device."""

    def features(self, pixels: torch.Tensor, *, statistics: bool) -> torch.Tensor:
        """As represent, with the statistics of the trunk's stages behind z: (B, D + S) float32."""

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, classes) float32, both on the model's device."""


@dataclass(frozen=True)
class WholePictures:
    """What the task losses of a source's augmented views refer to.

    Args:
        labels: (N,) int32, the classifier's guess where there is no true label.
        bank: (N, D) float32, L2-normalised representations of the whole pictures; None where views are not compared.
    """

    labels: np.ndarray
    bank: np.ndarray | None


def build_cache(
    config: CacheConfig,
    model: Encoder,
    data: Path,
    out: Path,
    *,
    workers: int = 2,
    ranks: Ranks | None = None,
    encoded: Callable[[Sequence[Shard]], Iterator[Encoded]] | None = None,
) -> int:
    """Fill a cache, or go on with one.

    Args:
        config: what it holds.
        model: a frozen backbone with its classifier.
        data: the folder that holds the sources.
        out: the cache's folder; made if absent. Several processes must see the same one.
        workers: decoding processes beside the model; 0 decodes in this process.
        ranks: this process among those that fill the cache together; None: alone.
        encoded: gives shards, their representations and their views' changes, where they need not be computed from
            pixels; None decodes and encodes the pictures.

    Returns:
        How many shards were computed by this call.

    Raises:
        CacheError: if the folder holds a cache of another model, configuration or set of images, another run is filling
            it, or the model gives what cannot be trained on.
        SourceError: if a source is missing, empty or unclear.
    """
    ranks = ranks or Ranks()
    check_classifier(model)
    classes = classifier_of(model).out_features
    images = {source.name: list_images(data, source, classes=classes) for source in config.sources}
    with sole_run(out, ranks):
        if ranks.rank == 0:
            shards.open_cache(out, identity(config, model, images))
            for name, listed in images.items():
                shards.write_images(out, name, [[image.key, image.label, image.label_name] for image in listed])
                print(f"{name}: {len(listed)} images, {sum(i.label >= 0 for i in listed)} with a class", flush=True)
        ranks.wait()
        plan = shards.plan_of(config, images)
        todo = [shard for shard in plan if not shards.is_whole(out, shard, statistics=config.statistics)]
        ranks.wait()  # all have looked before anything is written, so all agree on who does what
        return _Run(config, model, out, images, workers, ranks, encoded).fill(todo)


@contextmanager
def sole_run(out: Path, ranks: Ranks) -> Iterator[None]:
    """Keeps a second run from writing to the same cache.

    Raises:
        CacheError: if another one does.
    """
    if ranks.rank > 0:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / "cache.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CacheError(f"Another run is filling the cache {out}. Wait for it, or give another folder.") from None
    try:
        yield
    finally:
        lock.release()


def identity(config: CacheConfig, model: Encoder, images: dict[str, list[SourceImage]]) -> dict[str, Any]:
    """What a cache depends on: the backbone, the pictures, and how views are made of them."""
    return {
        **weights_of(model),
        "preprocessing": asdict(model.preprocessing),
        **shards.config_identity(config),
        "images": {name: [len(listed), _hash(image.key for image in listed)] for name, listed in images.items()},
        "sizes": {name: _hash(str(image.size) for image in listed) for name, listed in images.items()},
        "uncompared": [source.name for source in config.sources if not source.compare],
    }


def _hash(texts: Iterator[str]) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def decoded_shards(
    todo: Sequence[Shard],
    images: Mapping[str, Sequence[SourceImage]],
    config: CacheConfig,
    preprocessing: Preprocessing,
    workers: int,
) -> Iterator[tuple[Shard, Views]]:
    """Pixels and changes of each shard in turn, while workers are already at the next."""
    for shard, batches in decoded_batches(todo, images, config, preprocessing, workers):
        pixels, changes = zip(*batches, strict=True)
        yield shard, (np.concatenate(pixels), np.concatenate(changes))


def decoded_batches(
    todo: Sequence[Shard],
    images: Mapping[str, Sequence[SourceImage]],
    config: CacheConfig,
    preprocessing: Preprocessing,
    workers: int,
) -> Iterator[tuple[Shard, Iterator[Views]]]:
    """As :func:`decoded_shards`, with the views of each shard about BATCH at a time, to be used up before the next."""

    def chunks(shard: Shard) -> list[Chunk]:
        return chunks_of(
            images[shard.source][shard.start : shard.stop],
            preprocessing,
            pass_index=shard.pass_index,
            seed=config.seed,
            augmentation=config.augmentation,
        )

    views = views_in_order((chunk for shard in todo for chunk in chunks(shard)), workers)

    def batches(shard: Shard) -> Iterator[Views]:
        left = len(chunks(shard))
        while left:
            parts = list(islice(views, min(left, BATCH // CHUNK)))
            left -= len(parts)
            yield np.concatenate([pixels for pixels, _ in parts]), np.concatenate([changes for _, changes in parts])

    for shard in todo:
        yield shard, batches(shard)


@dataclass
class _Run:
    """One process's part in the filling of a cache. Arguments as in :func:`build_cache`; ``images`` by source."""

    config: CacheConfig
    model: Encoder
    out: Path
    images: dict[str, list[SourceImage]]
    workers: int
    ranks: Ranks
    encoded: Callable[[Sequence[Shard]], Iterator[Encoded]] | None
    weights: dict[str, str] = field(init=False)
    dim: int = field(init=False)
    undecoded: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.weights = weights_of(self.model)
        self.dim = classifier_of(self.model).in_features

    def fill(self, todo: Sequence[Shard]) -> int:
        """Compute this process's share of the shards that are lacking: how many it was."""
        whole = self.ranks.share([shard for shard in todo if shard.pass_index == 0])
        views = self.ranks.share([shard for shard in todo if shard.pass_index > 0])
        progress = Progress(sum(shard.stop - shard.start for shard in (*whole, *views)))
        self._compute(whole, progress)
        self.ranks.wait()  # the losses of views, and one of whole pictures, need all whole pictures
        for source in self.config.sources:
            self._complete(source)
        self._compute(views, progress)
        if self.undecoded:
            print(f"{self.undecoded} views could not be decoded; their losses are NaN.", flush=True)
        self.ranks.wait()
        return len(whole) + len(views)

    def _compute(self, todo: Sequence[Shard], progress: Progress) -> None:
        whole: dict[str, WholePictures] = {}
        unchecked: list[Shard] = []
        for shard, features, changes in (self.encoded or self._encoded)(todo):
            z, statistics = features[:, : self.dim], features[:, self.dim :].cpu().numpy()
            if shard.pass_index > 0 and shard.source not in whole:
                whole[shard.source] = self._whole_pictures(self._source(shard.source))
            facts = self._facts(shard, z, changes, whole.get(shard.source))
            shards.write_shard(self.out, shard, z.cpu().numpy(), facts, statistics if self.config.statistics else None)
            progress.step(shard)
            unchecked.append(shard)
            if len(unchecked) == _LOOK_EVERY:
                self._check_weights(unchecked)
                unchecked = []
        self._check_weights(unchecked)

    def _encoded(self, todo: Sequence[Shard]) -> Iterator[Encoded]:
        decoded = decoded_batches(todo, self.images, self.config, self.model.preprocessing, self.workers)
        for shard, batches in decoded:
            features, changes = zip(*((self._features(torch.from_numpy(p)), c) for p, c in batches), strict=True)
            yield shard, torch.cat(features), np.concatenate(changes)

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        statistics = self.config.statistics
        return self.model.features(pixels, statistics=True) if statistics else self.model.represent(pixels)

    def _check_weights(self, written: list[Shard]) -> None:
        try:
            check_unchanged(self.model, self.weights)
        except CacheError:
            for shard in written:
                shards.remove_shard(self.out, shard)
            raise

    def _source(self, name: str) -> SourceConfig:
        return next(source for source in self.config.sources if source.name == name)

    def _first_pass(self, source: SourceConfig) -> list[Shard]:
        plan = shards.plan_of(self.config, self.images)
        return [shard for shard in plan if shard.source == source.name and shard.pass_index == 0]

    def _whole_pictures(self, source: SourceConfig) -> WholePictures:
        parts = [shards.read_shard(self.out, shard) for shard in self._first_pass(source)]
        labels = np.concatenate([facts["label"] for _, facts in parts])
        return WholePictures(labels, normalized(np.concatenate([z for z, _ in parts])) if source.compare else None)

    def _complete(self, source: SourceConfig) -> None:
        """Give this process's share of a source's whole pictures the task loss that needed all of them."""
        if not source.compare:
            return
        parts = [(shard, *shards.read_shard(self.out, shard)) for shard in self.ranks.share(self._first_pass(source))]
        lacking = [part for part in parts if np.isnan(part[2]["retrieval"]).all()]
        if not lacking:
            return
        whole = self._whole_pictures(source)
        assert whole.bank is not None
        for shard, z, facts in lacking:
            loss = tasks.retrieval_loss(z, facts["image"], whole.bank, whole.labels, self.config.temperature)
            facts["retrieval"] = np.where(np.isnan(facts["cross_entropy"]), np.nan, loss)
            shards.rewrite_facts(self.out, shard, facts)

    def _facts(self, shard: Shard, z: torch.Tensor, changes: np.ndarray, whole: WholePictures | None) -> np.ndarray:
        """What is known of the views of a shard besides z: (n,) of FACTS."""
        images = self.images[shard.source][shard.start : shard.stop]
        decoded, rows, vectors = changes[:, 0] > 0, np.arange(shard.start, shard.stop), z.cpu().numpy()
        with np.errstate(over="ignore"):  # that is looked for
            check_representations(vectors.astype(np.float16), decoded, [image.key for image in images])
        scores = self.model.logits(z).cpu()
        check_logits(vectors[decoded], scores.numpy()[decoded])
        facts = np.zeros(len(rows), FACTS)
        facts["image"] = rows
        facts["area"], facts["degradation"], facts["strength"] = changes[:, 1], changes[:, 2], changes[:, 3]
        if whole is None:
            given = np.array([image.label for image in images], np.int32)
            facts["label"] = np.where(given == UNLABELLED, tasks.pseudo_labels(vectors, lambda _: scores), given)
        else:
            facts["label"] = whole.labels[rows]
        loss, facts["correct"] = tasks.cross_entropy(vectors, facts["label"], lambda _: scores)
        facts["cross_entropy"] = loss
        self._compare(facts, vectors, whole)
        for name in TASK_LOSSES:
            facts[name][~decoded] = np.nan
        self.undecoded += int((~decoded).sum())
        return facts

    def _compare(self, facts: np.ndarray, z: np.ndarray, whole: WholePictures | None) -> None:
        """Fill in the task losses of views (n, D) that need the source's whole pictures."""
        if whole is None or whole.bank is None:
            # A whole picture is always its own nearest, and the others are not all known yet.
            facts["retrieval"] = facts["instance"] = facts["distance"] = np.nan
            return
        rows, temperature = facts["image"], self.config.temperature
        facts["retrieval"] = tasks.retrieval_loss(z, rows, whole.bank, whole.labels, temperature)
        facts["instance"] = tasks.instance_loss(z, rows, whole.bank, temperature)
        facts["distance"] = tasks.distance(z, rows, whole.bank)


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
    parser.add_argument("--workers", type=int, default=2, help="decoding processes beside the model, for each GPU")
    arguments = parser.parse_args()
    with one_sentence(), launched() as ranks:
        config = load_config(arguments.config)
        model = load_model(config.model, device=ranks.device())
        build_cache(config.cache, model, arguments.data, arguments.out, workers=arguments.workers, ranks=ranks)


if __name__ == "__main__":
    main()
