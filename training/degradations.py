"""Does u rise when an image is made worse? The same photographs at growing blur, noise, crop and so on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pvu.errors import BadImageError
from pvu.images import Preprocessing, open_rgb, read_bytes
from pvu.metrics import rank_correlation
from training.augment import DEGRADATIONS, degrade

KINDS = (*DEGRADATIONS[1:], "crop")
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
IMAGES = 40


def follows_strength(u: np.ndarray) -> float:
    """Spearman correlation of u and strength, pooled over images (so that it also pays for images' own levels).

    Args:
        u: (images x LEVELS,) float, of the views of one kind in the order of :func:`degraded_views`.
    """
    return rank_correlation(u, np.tile(LEVELS, len(u) // len(LEVELS)))


def degraded_views(
    preprocessing: Preprocessing, paths: Sequence[Path], *, images: int = IMAGES, seed: int = 0
) -> Iterator[tuple[str, np.ndarray]]:
    """The same photographs at every strength of each kind of degradation.

    Args:
        preprocessing: of the pixels.
        paths: of photographs; ``images`` of them, evenly spread, are used.
        images: how many.
        seed: of the noise.

    Returns:
        One kind after the other: its name and (images x LEVELS, size, size, 3) uint8, an image's levels in a row.
    """
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, min(images, len(paths))).astype(int)]
    rng = np.random.default_rng(seed)
    pictures = [picture for path in chosen if (picture := _read(path, preprocessing)) is not None]
    for kind in KINDS if pictures else ():
        yield kind, np.stack([worsen(picture, kind, level, rng) for picture in pictures for level in LEVELS])


def _read(path: Path, preprocessing: Preprocessing) -> Image.Image | None:
    try:
        return Image.fromarray(preprocessing.apply(open_rgb(read_bytes(path))[0]))
    except BadImageError:
        return None  # counted where the set is encoded


def worsen(image: Image.Image, kind: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """One degraded copy, the same size, uint8. A crop of strength 1 keeps the central tenth of each side."""
    if kind != "crop":
        return np.asarray(degrade(image, kind, strength, rng))
    margin_x, margin_y = (0.45 * strength * side for side in image.size)
    box = (margin_x, margin_y, image.width - margin_x, image.height - margin_y)
    return np.asarray(image.resize(image.size, Image.Resampling.BICUBIC, box=box))
