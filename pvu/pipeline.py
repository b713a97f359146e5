"""The pipeline: images of a folder -> representations, uncertainties, neighbours and a map, in a store that resumes."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from pvu.assemble import Maker, assemble
from pvu.catalog import MANIFEST, partial_path, recover, store_lock, stores_folder
from pvu.decoding import Outcome, decode_all
from pvu.errors import Cancelled, SourceError, StoreError
from pvu.images import Preprocessing
from pvu.paths import typed_path
from pvu.progress import PhaseTimer, Progress, ProgressCallback
from pvu.shards import Key, Result, ShardWriter, shard_keys
from pvu.sources import find_images, resolve_source, table_hash
from pvu.store import EmbeddedDataset

SHARD_SIZE = 256
# Failures that say more of the moment than of the file: they are tried again by the next run.
PASSING = ("cannot be read", "the image decoder crashed")
FLOAT16_MAX = float(np.finfo(np.float16).max)


class Encoder(Maker, Protocol):
    """What the pipeline needs of a model. ``pvu.models.Model`` is one; tests bring a tiny fake."""

    preprocessing: Preprocessing

    @property
    def batch_size(self) -> int:
        """How many images at a time it likes best."""

    def encode_stream(self, batches: Iterable[np.ndarray], /) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Representations (B, D) and uncertainties (B,) of each (B, size, size, 3) uint8 array, in order."""


@dataclass(frozen=True)
class Report:
    """What one call of :func:`embed_with_report` did.

    Args:
        dataset: the result.
        computed: images decoded and encoded by this call, failed ones included.
        reused: images taken from an earlier run or from a run that was interrupted.
        seconds: wall-clock time of the call.
        images_per_second: computed images over the time that decoding and encoding took; 0 if none were.
    """

    dataset: EmbeddedDataset
    computed: int
    reused: int
    seconds: float
    images_per_second: float


def embed(
    source: str | os.PathLike[str],
    *,
    model: str | Encoder = "default",
    table: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> EmbeddedDataset:
    """Embed the images of a folder, or reuse what an earlier call has done.

    Only new and changed images are computed. A call that was killed is resumed from its last finished shard.

    Args:
        source: a folder, searched recursively, or a .zip of one; or tables of images, see
            :func:`pvu.sources.resolve_source`. It is never written to.
        model: a name (see ``pvu.models.resolve``), or an encoder.
        table: a CSV with the columns ``path`` and perhaps ``label``; others become columns to colour by. None looks
            for labels.csv, metadata.csv or images.csv in the folder.
        workers: decoding processes; None takes one per core (at most 8).
        progress: called often with a Progress.
        should_stop: asked after every batch; once it is true the run stops, and what is finished is kept.

    Returns:
        The data set, opened from its store.

    Raises:
        SourceError: if there are no images.
        ModelError: if the model cannot be loaded.
        Cancelled: if should_stop said so.
        StoreError: if the disk is full; finished work is kept.
    """
    return embed_with_report(
        source, model=model, table=table, workers=workers, progress=progress, should_stop=should_stop
    ).dataset


def embed_with_report(
    source: str | os.PathLike[str],
    *,
    model: str | Encoder = "default",
    table: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Report:
    """As :func:`embed`, and says what was computed and what was reused."""
    start = time.monotonic()
    report = progress or (lambda _: None)
    report(Progress("scan"))
    root = resolve_source(source, progress=report, should_stop=should_stop)
    table_path = typed_path(table) if table is not None else None
    if table_path is not None and not table_path.is_file():
        raise SourceError(f"There is no table at {table_path}.")
    files = find_images(root, table=table_path)
    report(Progress("model"))
    encoder = _load(model)
    path = store_path(root, encoder)
    with writing(path):
        run = _Run(files, root, encoder, path, report, should_stop or (lambda: False))
        run.compute(worker_count(workers))
        run.finish()
    dataset = EmbeddedDataset(path)
    return Report(dataset, run.computed, len(dataset) - run.succeeded, time.monotonic() - start, run.images_per_second)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold a store's lock while it is made: a second call for the same store waits, and then finds everything done.

    Args:
        path: the store; the folder above it is made.

    Raises:
        StoreError: if that folder cannot be written to, or the disk is full.
    """
    _make_folder(path.parent)
    with store_lock(path):
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise StoreError(
                f"The disk is full: {path.parent} has {shutil.disk_usage(path.parent).free / 2**20:.0f} MiB left. "
                "Finished images are kept; free some space and start again."
            ) from error


def worker_count(workers: int | None) -> int:
    """Decoding processes: as asked, else one per core, at most 8."""
    return workers if workers is not None else min(os.cpu_count() or 1, 8)


def _load(model: str | Encoder) -> Encoder:
    if not isinstance(model, str):
        return model
    from pvu.models import load_model

    return load_model(model)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written to ({error.strerror}). Set PVU_HOME to a folder that can."
        ) from error


def store_path(root: Path, encoder: Maker) -> Path:
    """The store of a folder and a model: readable, and different for every pair."""
    identity = hashlib.blake2b(f"{root}\0{encoder.fingerprint}".encode(), digest_size=6).hexdigest()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{root.name}-{encoder.name}").strip("-.")[:80]
    return stores_folder() / f"{slug}-{identity}"


class _Run:
    """One run over one folder: computes what is missing into shards, then puts the store together."""

    def __init__(
        self,
        files: pd.DataFrame,
        root: Path,
        encoder: Encoder,
        path: Path,
        report: ProgressCallback,
        should_stop: Callable[[], bool],
    ) -> None:
        self.files, self.root, self.encoder, self.path = files, root, encoder, path
        self.report, self.should_stop = report, should_stop
        self.shards = partial_path(path) / "shards"
        self.computed = self.reused = self.news = self.succeeded = 0
        self.images_per_second = 0.0
        recover(path)
        self.previous = EmbeddedDataset(path) if (path / MANIFEST).is_file() else None

    def compute(self, workers: int) -> None:
        """Decode and encode every image that neither the store nor a finished shard has."""
        images = self.files[self.files["error"].isna()]
        done = shard_keys(self.shards)
        again = passing_failures(self.previous)
        known = done | (stored_keys(self.previous) - again)
        self.news = len(done)
        keys = list(zip(images["path"], images["bytes"], images["mtime_ns"], strict=True))
        todo = [key for key in keys if key not in known]
        self.reused = len(keys) - len(todo)
        if not todo:
            return
        writer = ShardWriter(self.shards, SHARD_SIZE)
        timer = PhaseTimer("images", len(keys), self.report, already=self.reused)
        start = time.monotonic()
        try:
            for results in self._results(todo, workers):
                for result in results:
                    writer.add(result)
                self.computed += len(results)
                self.succeeded += sum(result.error is None for result in results)
                self.news += sum(result.error is None or result.key not in again for result in results)
                timer.step(len(results), sum(result.error is not None for result in results))
                if self.should_stop():
                    raise Cancelled(
                        f"Cancelled after {self.computed + self.reused:,} of {len(keys):,} images. "
                        "They are kept: start again to go on from there."
                    )
        finally:
            writer.flush()
        self.images_per_second = self.computed / (time.monotonic() - start)

    def _results(self, todo: Sequence[Key], workers: int) -> Iterator[list[Result]]:
        """Results in the order of ``todo``."""
        keys = iter(todo)
        for outcomes, z, u in encode_files([self.root / path for path, _, _ in todo], self.encoder, workers):
            yield to_results(list(itertools.islice(keys, len(outcomes))), outcomes, z, u)

    def finish(self) -> None:
        """Put the store together, unless the one that is there says the same already."""
        if self.news == 0 and self.previous is not None and self._is_current(self.previous):
            shutil.rmtree(partial_path(self.path), ignore_errors=True)
            return
        assemble(self.path, self.files, self.previous, self.encoder, root=self.root, report=self.report)

    def _is_current(self, previous: EmbeddedDataset) -> bool:
        return previous.manifest["table_hash"] == table_hash(self.files)


def encode_files(
    paths: Sequence[Path], encoder: Encoder, workers: int
) -> Iterator[tuple[list[Outcome], np.ndarray, np.ndarray | None]]:
    """Decode and encode files, in order.

    Args:
        paths: the files.
        encoder: draws decoded images a few batches ahead of what it gives.
        workers: decoding processes.

    Yields:
        Outcomes (n), and of those B that could be decoded z (B, D) and u (B,), None without a head.
    """
    waiting: deque[list[Outcome]] = deque()

    def batches() -> Iterator[np.ndarray]:
        preprocessing, size = encoder.preprocessing, encoder.batch_size
        for outcomes in decode_all(paths, preprocessing, workers=workers, chunk=size):
            waiting.append(outcomes)
            yield stack_pixels(outcomes, preprocessing.size)

    for z, u in encoder.encode_stream(batches()):
        yield waiting.popleft(), z, u


def stack_pixels(outcomes: Sequence[Outcome], size: int) -> np.ndarray:
    """The pixels of the images that could be decoded: (B, size, size, 3) uint8."""
    pixels = [outcome.pixels for outcome in outcomes if not isinstance(outcome, str)]
    return np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8)


def to_results(keys: Sequence[Key], outcomes: Sequence[Outcome], z: np.ndarray, u: np.ndarray | None) -> list[Result]:
    """Put what was encoded of a batch beside what could not be decoded.

    Args:
        keys: (n,) of the images.
        outcomes: (n,), B of them decoded.
        z: (B, D) float32.
        u: (B,) float32, or None without a head.
    """
    # Some backbones have a few huge channels: an infinity in one would make every similarity NaN.
    z16 = np.clip(z, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
    encoded = iter(zip(z16, np.full(len(z), np.nan) if u is None else u, strict=True))
    results = []
    for key, outcome in zip(keys, outcomes, strict=True):
        if isinstance(outcome, str):
            results.append(Result(*key, error=outcome))
            continue
        embedding, uncertainty = next(encoded)
        if not np.isfinite(embedding).all() or (u is not None and not np.isfinite(uncertainty)):
            results.append(Result(*key, error="the model gave no finite numbers for it"))
            continue
        results.append(
            Result(
                *key,
                width=outcome.width,
                height=outcome.height,
                content_hash=outcome.content_hash,
                uncertainty=float(uncertainty),
                embedding=embedding.tobytes(),
                thumbnail=outcome.thumbnail,
            )
        )
    return results


def passing_failures(dataset: EmbeddedDataset | None) -> set[Key]:
    """The keys of failed images that may do now: neither size nor time of a file tells that its rights have changed."""
    if dataset is None:
        return set()
    columns = ["path", "bytes", "mtime_ns", "error"]
    table = pd.read_parquet(dataset.path / "images.parquet", columns=columns)
    table = table[table["error"].fillna("").str.startswith(PASSING)]
    return set(zip(table["path"], table["bytes"].tolist(), table["mtime_ns"].tolist(), strict=True))


def stored_keys(dataset: EmbeddedDataset | None) -> set[Key]:
    """The keys of the images that a store has finished, the failed ones included."""
    if dataset is None:
        return set()
    table = pd.read_parquet(dataset.path / "images.parquet", columns=["path", "bytes", "mtime_ns"])
    return set(zip(table["path"], table["bytes"].tolist(), table["mtime_ns"].tolist(), strict=True))
