"""Pixels of views, made in worker processes. No torch here, so that workers stay small."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pvu.errors import BadImageError
from pvu.images import Preprocessing, open_rgb, read_bytes
from training.augment import Augmentation, augment, view_rng

CHUNK = 16  # images a task of a worker; 2.4 MB of pixels at 224
AHEAD = 16  # chunks in flight: enough to keep the model busy across a slow one, and under 50 MB of pixels

Views = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Chunk:
    """A task of a worker: some images of one pass.

    Args:
        keys: of the images, for the seeds.
        paths: of the images.
        pass_index: 0 for whole pictures.
        seed: of the augmentation.
        augmentation: of passes above 0.
        preprocessing: of whole pictures; its size is that of every view.
    """

    keys: tuple[str, ...]
    paths: tuple[Path, ...]
    pass_index: int
    seed: int
    augmentation: Augmentation
    preprocessing: Preprocessing


def make_views(chunk: Chunk) -> Views:
    """Decode and transform the images of a chunk.

    Returns:
        pixels: (n, size, size, 3) uint8, black where an image cannot be decoded.
        changes: (n, 4) float32: decoded (1 or 0), share of the area, degradation, its strength.
    """
    size = chunk.preprocessing.size
    pixels = np.zeros((len(chunk.paths), size, size, 3), np.uint8)
    changes = np.zeros((len(chunk.paths), 4), np.float32)
    for row, (key, path) in enumerate(zip(chunk.keys, chunk.paths, strict=True)):
        try:
            image, _ = open_rgb(read_bytes(path))
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


def views_in_order(chunks: Sequence[Chunk], workers: int) -> Iterator[Views]:
    """The views of each chunk, in order, at most AHEAD of them made before they are asked for.

    Args:
        chunks: what to make.
        workers: processes; 0 makes each in this one when it is asked for.
    """
    if workers == 0:
        yield from map(make_views, chunks)
        return
    # Forked workers share this process's modules and start at once; they only decode, so torch's threads are no matter.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    context, parent = multiprocessing.get_context(method), os.getpid()
    with ProcessPoolExecutor(workers, context, _end_with_parent, (parent,)) as pool:
        pending: deque[Future[Views]] = deque()
        for chunk in chunks:
            pending.append(pool.submit(make_views, chunk))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _end_with_parent(parent: int) -> None:
    """End this worker when its parent is gone: a parent that was killed cannot tell its workers to stop."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
