"""Stand-ins that make tests quick and exact: an encoder without a network, and pictures made from a seed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from pvu.images import Preprocessing

BLOCKS = 4


@dataclass
class FakeEncoder:
    """An encoder without weights: block means are the representation, missing sharpness is the uncertainty.

    Each image's result depends on its own pixels alone, so it is the same in every batch and every process.

    Args:
        name: as ``pvu.models.Model.name``.
        fingerprint: as ``pvu.models.Model.fingerprint``.
        preprocessing: a small input keeps the tests quick.
        has_head: False leaves the uncertainty out, as a backbone without a head does.
        seconds_per_image: how long encoding an image takes.
        log: a file that gets one line an encoded batch with its size, for tests across processes.
        batches: sizes of the batches encoded so far.
    """

    name: str = "fake"
    fingerprint: str = "fake-1"
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(size=32))
    has_head: bool = True
    seconds_per_image: float = 0.0
    log: Path | None = None
    batches: list[int] = field(default_factory=list)
    dim: int = BLOCKS * BLOCKS * 3
    batch_size: int = 16

    @property
    def encoded(self) -> int:
        """How many images have been encoded so far."""
        return sum(self.batches)

    def encode_stream(self, batches: Iterable[np.ndarray], /) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """One batch after the other."""
        return map(self.encode, batches)

    def encode(self, images: np.ndarray, /) -> tuple[np.ndarray, np.ndarray | None]:
        """Representations (B, 48) float32 and uncertainties (B,) float32 of (B, size, size, 3) uint8 pixels."""
        size = self.preprocessing.size
        assert images.dtype == np.uint8, images.dtype
        assert images.shape[1:] == (size, size, 3), images.shape
        if len(images) == 0:
            return np.empty((0, self.dim), np.float32), np.empty(0, np.float32) if self.has_head else None
        time.sleep(self.seconds_per_image * len(images))
        self.batches.append(len(images))
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{len(images)}\n")
                file.flush()
                os.fsync(file.fileno())
        pixels = images.astype(np.float32) / 255
        side = size // BLOCKS
        blocks = pixels.reshape(len(images), BLOCKS, side, BLOCKS, side, 3).mean(axis=(2, 4))
        z = blocks.reshape(len(images), self.dim) - 0.5
        if not self.has_head:
            return z, None
        grey = pixels.mean(axis=3)
        edges = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) + np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
        return z, (1 / (1 + 20 * edges)).astype(np.float32)


def picture(seed: int, size: tuple[int, int] = (48, 40), *, like: int | None = None) -> Image.Image:
    """An RGB picture of coloured patches under some noise, always the same for one seed.

    Args:
        seed: decides the noise, and the patches unless ``like`` is given.
        size: width and height, pixels.
        like: pictures with the same ``like`` share their patches, as images of one label do.
    """
    patches = np.random.default_rng(1000 + (seed if like is None else like)).integers(0, 255, (4, 4, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC), np.int16)
    noise = np.random.default_rng(seed).integers(-24, 25, smooth.shape, np.int16)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def write_pictures(root: Path, names: Iterable[str], *, size: tuple[int, int] = (48, 40)) -> list[Path]:
    """Write one picture a name under a folder; pictures of one sub-folder look alike. Returns their paths."""
    paths = []
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        like = sum(path.parent.name.encode()) if path.parent != root else None
        picture(seed, size, like=like).save(path)
        paths.append(path)
    return paths
