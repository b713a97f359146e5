"""Does u rise when an image is made worse? The same photographs at growing blur, noise, crop and so on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from pvu.images import open_rgb, read_bytes
from pvu.models import Model
from training.augment import DEGRADATIONS, degrade

KINDS = (*DEGRADATIONS[1:], "crop")
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def sweep(model: Model, paths: Sequence[Path], *, images: int = 40, seed: int = 0) -> dict[str, float]:
    """Spearman correlation of u and strength, pooled over images (so that it also pays for images' own levels).

    Args:
        model: with a head.
        paths: of photographs; ``images`` of them, evenly spread, are used.
        images: how many.
        seed: of the noise.

    Returns:
        By kind of degradation.
    """
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, min(images, len(paths))).astype(int)]
    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(model.preprocessing.apply(open_rgb(read_bytes(path))[0])) for path in chosen]
    result = {}
    for kind in KINDS:
        views = np.stack([worsen(picture, kind, level, rng) for picture in pictures for level in LEVELS])
        _, u = model.encode(views)
        result[kind] = float(spearmanr(u, np.tile(LEVELS, len(pictures))).statistic)
    return result


def worsen(image: Image.Image, kind: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """One degraded copy, the same size, uint8. A crop of strength 1 keeps the central tenth of each side."""
    if kind != "crop":
        return np.asarray(degrade(image, kind, strength, rng))
    margin_x, margin_y = (0.45 * strength * side for side in image.size)
    box = (margin_x, margin_y, image.width - margin_x, image.height - margin_y)
    return np.asarray(image.resize(image.size, Image.Resampling.BICUBIC, box=box))
