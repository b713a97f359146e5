"""The crops of URL's crop test (croppedHasBiggerUnc): an image should be less certain when most of it is cut away."""

from __future__ import annotations

import numpy as np
from PIL import Image

from training.augment import view_rng

FRACTIONS = (0.1, 0.75)
_SEED, _PASS = 0, 0


def crop_like_url(pixels: np.ndarray, key: str) -> np.ndarray:
    """An image's crop: the centre, of a side f ~ U[0.1, 0.75] of the image's side, resized back bilinearly.

    f is a share of the side, as in the benchmark's code, not of the area; the crop is a whole number of pixels.

    Args:
        pixels: (size, size, 3) uint8, after preprocessing.
        key: the image's path in its set; f is seeded by it, so that it does not depend on the other images.

    Returns:
        (size, size, 3) uint8.
    """
    return centre_crop(pixels, float(view_rng(_SEED, _PASS, key).uniform(*FRACTIONS)))


def centre_crop(pixels: np.ndarray, fraction: float) -> np.ndarray:
    """The centre of an image, resized back bilinearly.

    Args:
        pixels: (height, width, 3) uint8.
        fraction: the side of the square crop, as a share of the shorter side, in (0, 1].
    """
    height, width = pixels.shape[:2]
    side = max(1, round(fraction * min(height, width)))
    left, top = (width - side) // 2, (height - side) // 2
    crop = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(crop.resize((width, height), Image.Resampling.BILINEAR))
