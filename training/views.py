"""Pixels of views, made in worker processes. No torch here, so that workers stay small."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pvu.errors import BadImageError
from pvu.images import Preprocessing, open_rgb, read_bytes
from training.augment import Augmentation, augment, view_rng


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


def make_views(chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
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
