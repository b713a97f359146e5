"""The paper's augmentation, seeded for each view. No torch here: workers import this and start fast.

RandomResizedCrop, horizontal flip, colour jitter and random interpolation as in timm (arXiv 2402.16569, appendix), and
optionally one degradation (blur, noise, low resolution, dimming) that the paper does not have.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

_INTERPOLATIONS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
DEGRADATIONS = ("none", "blur", "noise", "low resolution", "dimming")


@dataclass(frozen=True)
class Augmentation:
    """The random transformation of a training view.

    Args:
        scale: share of the picture's area that a crop keeps, drawn uniformly.
        ratio: width / height of the crop, drawn log-uniformly.
        flip: probability of a horizontal flip.
        jitter: brightness, contrast and saturation are each multiplied by 1 - jitter to 1 + jitter.
        degrade: probability of one degradation of random strength on top; 0 is the paper's recipe.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.4
    degrade: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be 0 < low <= high <= 1, got {self.scale}.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be 0 < low <= high, got {self.ratio}.")
        for name, value in (("flip", self.flip), ("jitter", self.jitter), ("degrade", self.degrade)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}.")


@dataclass(frozen=True)
class View:
    """One augmented view and how strongly it was changed.

    Args:
        pixels: (size, size, 3) uint8.
        area: share of the picture's area that the crop kept.
        degradation: index in DEGRADATIONS.
        strength: of the degradation, in [0, 1].
    """

    pixels: np.ndarray
    area: float
    degradation: int
    strength: float


def view_rng(seed: int, pass_index: int, image_key: str) -> np.random.Generator:
    """A generator that depends on these three alone, so that a view is the same whenever and wherever it is made."""
    key = int.from_bytes(hashlib.blake2b(image_key.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng([seed, pass_index, key])


def augment(image: Image.Image, size: int, augmentation: Augmentation, rng: np.random.Generator) -> View:
    """A random view of an RGB picture, (size, size, 3) uint8 pixels in the model's input size."""
    box = random_box(image.size, augmentation, rng)
    area = (box[2] - box[0]) * (box[3] - box[1]) / (image.width * image.height)
    view = image.resize((size, size), _INTERPOLATIONS[rng.integers(2)], box=box)
    if rng.random() < augmentation.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.jitter > 0:
        for index in rng.permutation(len(_ENHANCERS)):
            factor = rng.uniform(1 - augmentation.jitter, 1 + augmentation.jitter)
            view = _ENHANCERS[index](view).enhance(factor)
    kind, strength = 0, 0.0
    if rng.random() < augmentation.degrade:
        kind, strength = int(rng.integers(1, len(DEGRADATIONS))), float(rng.random())
        view = degrade(view, DEGRADATIONS[kind], strength, rng)
    return View(np.asarray(view), area, kind, strength)


def random_box(
    size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """The crop (left, top, right, bottom) of RandomResizedCrop for a picture of (width, height) pixels."""
    width, height = size
    low, high = (math.log(side) for side in augmentation.ratio)
    for _ in range(10):
        area = width * height * rng.uniform(*augmentation.scale)
        ratio = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    # Very long or tiny pictures: the largest centred crop whose ratio is allowed, as torchvision does.
    ratio = min(max(width / height, augmentation.ratio[0]), augmentation.ratio[1])
    w, h = min(width, max(1, round(height * ratio))), min(height, max(1, round(width / ratio)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def degrade(image: Image.Image, kind: str, strength: float, rng: np.random.Generator) -> Image.Image:
    """Degrade an RGB picture; strength 0 leaves it nearly as it is, 1 hardly recognisable.

    Raises:
        ValueError: if the kind is not one of DEGRADATIONS.
    """
    if kind == "none":
        return image
    side = min(image.size)
    if kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(strength * side / 28))
    if kind == "noise":
        pixels = np.asarray(image, np.float32)
        noisy = pixels + rng.normal(0, 80 * strength, pixels.shape).astype(np.float32)
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if kind == "low resolution":
        factor = 1 + 13 * strength
        small = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BILINEAR)
    if kind == "dimming":
        return ImageEnhance.Brightness(image).enhance(1 - 0.95 * strength)
    raise ValueError(f"There is no degradation {kind!r}; there are {', '.join(DEGRADATIONS)}.")
