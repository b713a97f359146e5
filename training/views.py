"""Pixels of views, made in worker processes. No torch here, so that workers stay small and start fast."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from pvu.decoding import worker_pool
from pvu.errors import BadImageError
from pvu.images import Preprocessing, open_rgb
from training.augment import Augmentation, augment, view_rng
from training.data import SourceImage
from training.members import Member, read_member

CHUNK = 16  # images a task of a worker; 2.4 MB of pixels at 224
AHEAD = 16  # chunks in flight, at least: enough to keep the model busy across a slow one, and under 50 MB of pixels

Views = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Chunk:
    """A task of a worker: some images of one pass.

    Args:
        keys: of the images, for the seeds.
        members: where the images' bytes are.
        pass_index: 0 for whole pictures.
        seed: of the augmentation.
        augmentation: of passes above 0.
        preprocessing: of whole pictures; its size is that of every view.
    """

    keys: tuple[str, ...]
    members: tuple[Member, ...]
    pass_index: int
    seed: int
    augmentation: Augmentation
    preprocessing: Preprocessing


def chunks_of(
    images: Sequence[SourceImage],
    preprocessing: Preprocessing,
    *,
    pass_index: int = 0,
    seed: int = 0,
    augmentation: Augmentation | None = None,
) -> list[Chunk]:
    """The tasks that make one pass over some images, CHUNK at a time. Pass 0, whole pictures, needs no augmentation."""
    parts = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    return [
        Chunk(
            tuple(image.key for image in part),
            tuple(image.member for image in part),
            pass_index,
            seed,
            augmentation or Augmentation(),
            preprocessing,
        )
        for part in parts
    ]


def make_views(chunk: Chunk) -> Views:
    """Decode and transform the images of a chunk.

    Returns:
        pixels: (n, size, size, 3) uint8, black where an image cannot be decoded.
        changes: (n, 4) float32: decoded (1 or 0), share of the area, degradation, its strength.
    """
    pixels, changes = _nothing(chunk)
    size = chunk.preprocessing.size
    for row, (key, member) in enumerate(zip(chunk.keys, chunk.members, strict=True)):
        try:
            image, _ = open_rgb(read_member(member))
        except BadImageError:
            continue
        if chunk.pass_index == 0:
            pixels[row] = chunk.preprocessing.apply(image)
            changes[row] = 1, 1, 0, 0
        else:
            view = augment(image, size, chunk.augmentation, view_rng(chunk.seed, chunk.pass_index, key))
            pixels[row] = view.pixels
            changes[row] = 1, view.area, view.degradation, view.strength
    return pixels, changes


def _nothing(chunk: Chunk) -> Views:
    """The views of a chunk of which nothing can be decoded."""
    count, size = len(chunk.keys), chunk.preprocessing.size
    return np.zeros((count, size, size, 3), np.uint8), np.zeros((count, 4), np.float32)


def views_in_order(chunks: Iterable[Chunk], workers: int) -> Iterator[Views]:
    """The views of each chunk, in order, a few of them made before they are asked for.

    An image that kills its worker (a decoder's crash, memory) costs only itself: its chunk is made again, one image at
    a time, and the culprit counts as undecodable.

    Args:
        chunks: what to make.
        workers: processes; 0 makes each in this one when it is asked for.
    """
    if workers == 0:
        yield from map(make_views, chunks)
        return
    todo, pending = iter(chunks), deque[tuple[Chunk, Future[Views]]]()
    pool = worker_pool(workers)
    try:
        while True:
            for chunk in islice(todo, max(AHEAD, 2 * workers) - len(pending)):
                pending.append((chunk, _submit(pool, chunk)))
            if not pending:
                return
            chunk, made = pending.popleft()
            try:
                yield made.result()
            except BrokenProcessPool:
                yield _one_by_one(chunk)
                pool.shutdown(wait=False, cancel_futures=True)
                pool = worker_pool(workers)
                pending = deque((again, _submit(pool, again)) for again, _ in pending)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, chunk: Chunk) -> Future[Views]:
    try:
        return pool.submit(make_views, chunk)
    except BrokenProcessPool as error:  # known only when the result of the chunk that broke it is asked for
        failed: Future[Views] = Future()
        failed.set_exception(error)
        return failed


def _one_by_one(chunk: Chunk) -> Views:
    """A chunk's views, each made in a process that it may kill."""
    made = []
    pool = worker_pool(1)
    for key, member in zip(chunk.keys, chunk.members, strict=True):
        single = replace(chunk, keys=(key,), members=(member,))
        try:
            made.append(pool.submit(make_views, single).result())
        except BrokenProcessPool:
            made.append(_nothing(single))
            pool.shutdown(wait=False)
            pool = worker_pool(1)
    pool.shutdown(wait=False)
    return np.concatenate([pixels for pixels, _ in made]), np.concatenate([changes for _, changes in made])
