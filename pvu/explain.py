"""Why is an image uncertain? How u changes when parts of it are looked at alone, and when parts are covered.

Both are questions to the model, as in occlusion maps (Zeiler and Fergus, arXiv 1311.2901). Of the ways that were tried
on pictures with a known blurred, noisy or covered half or quarter, looking at parts alone points at the right place
most often, so that is what the map shows (``python -m benchmarks.explain`` prints the hit rates).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from pvu.errors import QueryError
from pvu.images import Preprocessing, to_rgb

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the picture that was explained, upright, as Pillow's."""

GRID = 8
# (side as a share of the picture's short side, crops along it). Smaller crops are all uncertain, larger ones all alike.
_CROPS = ((0.4, 5), (0.5, 4), (0.75, 3))
_MAPPED = (0.4, 0.5)  # the sizes that the map is made of; those of 0.75 are there for the clearest crop
_LONGEST = 9  # crops along the long side at most: a panorama must not take minutes
_COVER = (0.5, 5)  # covers: side as a share of the model's input, and how many along it
_BLUR = 12 / 224  # of what is put over a covered part: its colours stay, its edges go
# Difference of the map's ends over the mean u of the crops from which a part is said to stand out.
STANDS_OUT = 1.0
NOTABLE = 0.95
"""A u below this share of the whole picture's is worth a word."""

LEGEND = (
    "Yellow: looked at alone, this part is more uncertain than the rest, so it is where the doubt comes from. "
    "Blue: it is clear by itself."
)
_DOUBT, _CLEAR = (254, 232, 56), (0, 62, 170)  # as on the map, and told apart by colour-blind people


class Encoder(Protocol):
    """What is needed of a model. ``pvu.models.Model`` is one."""

    preprocessing: Preprocessing

    def encode(self, images: np.ndarray, /) -> tuple[np.ndarray, np.ndarray | None]:
        """Representations (B, D) and uncertainties (B,) of (B, size, size, 3) uint8 pixels."""


@dataclass(frozen=True)
class Part:
    """A part of the picture.

    Args:
        box: where it is.
        uncertainty: u with this part alone (a crop), or with it covered.
    """

    box: Box
    uncertainty: float


@dataclass(frozen=True)
class Explanation:
    """Where an image's uncertainty comes from.

    Args:
        uncertainty: u of the whole picture.
        size: width and height of the picture, upright, in pixels.
        heat: (8, 8) float32 over the whole picture, top row first: the mean u of the crops that show each place, less
            that of all crops. Above 0: more uncertain alone than the rest of the picture; below 0: clearer.
        covered: (8, 8) float32: the mean change of u when each place is covered. Above 0: what makes the picture
            clear is there. Below 0: the picture is clearer without it. NaN where the model does not look, since it
            sees the middle square of a picture.
        spread: largest less smallest ``heat``, over the mean u of the crops: how much parts differ, without a unit.
        crop: the crop with the lowest u.
        cover_lowest: the cover that leaves the lowest u.
        cover_highest: the cover that leaves the highest u.
    """

    uncertainty: float
    size: tuple[int, int]
    heat: np.ndarray
    covered: np.ndarray
    spread: float
    crop: Part
    cover_lowest: Part
    cover_highest: Part

    @property
    def stands_out(self) -> bool:
        """Whether some part is much more uncertain than another."""
        return self.spread >= STANDS_OUT

    @property
    def sentence(self) -> str:
        """What was found, in plain words."""
        return f"{self._parts()} {self._covers()} {self._crop()}"

    def _parts(self) -> str:
        if not self.stands_out:
            return "No part of the picture is much more uncertain than the others."
        worst, best = hottest_region(self.heat), hottest_region(-self.heat)
        return f"Looked at alone, {worst} is the most uncertain part, {best} the clearest."

    @property
    def crop_helps(self) -> bool:
        """Whether some crop is clearer than the whole picture, by more than a trifle."""
        return self.crop.uncertainty < NOTABLE * self.uncertainty

    def _covers(self) -> str:
        u, low, high = self.uncertainty, self.cover_lowest, self.cover_highest
        worst = region(high.box, self.size)
        if low.uncertainty >= NOTABLE * u:
            return f"Covering no part makes it much clearer; without {worst} u is {high.uncertainty:.3f}, not {u:.3f}."
        if self.stands_out and region(low.box, self.size) == hottest_region(-self.heat):
            return "Covering parts does not say the same, so take this with care."
        text = f"Covering {region(low.box, self.size)} lowers the uncertainty most ({u:.3f} to {low.uncertainty:.3f})"
        if high.uncertainty > u:
            text += f", covering {worst} raises it most (to {high.uncertainty:.3f})"
        return text + "."

    def _crop(self) -> str:
        if not self.crop_helps:
            return "No crop that was tried is much clearer than the whole picture."
        where = region(self.crop.box, self.size)
        return f"The clearest crop, around {where}, is less uncertain than the whole ({self.crop.uncertainty:.3f})."


def explain(picture: Image.Image, model: Encoder) -> Explanation:
    """Ask a model which parts of a picture make it uncertain.

    One batch of 76 inputs for a square picture, 90 for a photograph of 3 : 2.

    Args:
        picture: of any size and mode; turned upright as its EXIF says.
        model: with an uncertainty head.

    Raises:
        QueryError: if the model has no head.
    """
    image = to_rgb(ImageOps.exif_transpose(picture))
    preprocessing = model.preprocessing
    pixels = preprocessing.apply(image)
    crops = crop_boxes(image.size)
    covers = cover_boxes(preprocessing.size)
    batch = [pixels, *_crops(image, crops, preprocessing), *_covered(pixels, covers)]
    _, u = model.encode(np.stack(batch))
    if u is None:
        raise QueryError("This model has no uncertainty head, so there is nothing to explain. Take the default model.")
    whole, of_crops, of_covers = float(u[0]), u[1 : 1 + len(crops)], u[1 + len(crops) :]
    heat = _heat(crops, of_crops, image.size)
    seen = _seen(image.size, preprocessing)
    in_picture = [_to_picture(box, seen, preprocessing.size) for box in covers]
    return Explanation(
        uncertainty=whole,
        size=image.size,
        heat=heat,
        covered=_mean_over(in_picture, of_covers - whole, image.size),
        spread=float((heat.max() - heat.min()) / of_crops.mean()),
        crop=_part(crops, of_crops, int(of_crops.argmin())),
        cover_lowest=_part(in_picture, of_covers, int(of_covers.argmin())),
        cover_highest=_part(in_picture, of_covers, int(of_covers.argmax())),
    )


def _part(boxes: Sequence[Box], u: np.ndarray, at: int) -> Part:
    return Part(boxes[at], float(u[at]))


def crop_boxes(size: tuple[int, int]) -> list[Box]:
    """The square crops that are looked at alone, of every size in turn, evenly over the whole picture."""
    return [box for share, along in _CROPS for box in _spread_boxes(size, share, along)]


def _spread_boxes(size: tuple[int, int], share: float, along: int) -> list[Box]:
    side = max(1, round(share * min(size)))
    # Along the long side as many as leave no gap, up to a limit.
    counts = [min(max(along, math.ceil(2 * (length - side) / side) + 1), _LONGEST) for length in size]
    lefts, tops = (np.linspace(0, length - side, n).round().astype(int) for length, n in zip(size, counts, strict=True))
    return [(int(x), int(y), int(x) + side, int(y) + side) for y in tops for x in lefts]


def cover_boxes(size: int) -> list[Box]:
    """The squares of the model's input that are covered in turn, in its pixels."""
    share, along = _COVER
    side = round(share * size)
    starts = [int(start) for start in np.linspace(0, size - side, along).round()]
    return [(x, y, x + side, y + side) for y in starts for x in starts]


def _crops(image: Image.Image, boxes: Sequence[Box], preprocessing: Preprocessing) -> list[np.ndarray]:
    """What the model sees of each crop."""
    # A picture of which even the smallest crop has more pixels than the input is made smaller once, not 60 times.
    scale = min(1.0, preprocessing.short_side / min(share for share, _ in _CROPS) / min(image.size))
    if scale < 1:
        smaller = (round(image.width * scale), round(image.height * scale))
        image = image.resize(smaller, Image.Resampling.BICUBIC, reducing_gap=2.0)
    scaled = [tuple(round(edge * scale) for edge in box) for box in boxes]
    return [preprocessing.apply(image.crop(box)) for box in scaled]  # type: ignore[arg-type]


def _covered(pixels: np.ndarray, boxes: Sequence[Box]) -> list[np.ndarray]:
    """The model's input with each box blurred away."""
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(_BLUR * len(pixels))))
    covered = []
    for left, top, right, bottom in boxes:
        copy = pixels.copy()
        copy[top:bottom, left:right] = blurred[top:bottom, left:right]
        covered.append(copy)
    return covered


def _heat(boxes: Sequence[Box], u: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mean over sizes of crops, since smaller ones are more uncertain as such."""
    heat, start = np.zeros((GRID, GRID), np.float32), 0
    for share, along in _CROPS:
        count = len(_spread_boxes(size, share, along))
        own, of_own = boxes[start : start + count], u[start : start + count]
        start += count
        if share in _MAPPED:
            # 0 where a very long panorama has gaps between its crops.
            heat += np.nan_to_num(_mean_over(own, of_own - of_own.mean(), size)) / len(_MAPPED)
    return heat


def _mean_over(boxes: Sequence[Box], values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(GRID, GRID) float32: for each place of a picture the mean of the boxes that hold it; NaN where none does."""
    edges = np.array(boxes, float)
    x, y = ((np.arange(GRID) + 0.5) / GRID * length for length in size)
    across = (edges[:, [0]] <= x) & (x < edges[:, [2]])
    down = (edges[:, [1]] <= y) & (y < edges[:, [3]])
    holds = (down[:, :, None] & across[:, None, :]).astype(float)
    total, count = np.tensordot(values, holds, axes=1), holds.sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0).astype(np.float32)


def _seen(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[float, float, float]:
    """The square that the model sees of a whole picture: left, top, side in the picture's pixels."""
    side = min(size) * preprocessing.size / preprocessing.short_side
    return (size[0] - side) / 2, (size[1] - side) / 2, side


def _to_picture(box: Box, seen: tuple[float, float, float], size: int) -> Box:
    left, top, side = seen
    scale = side / size
    x0, y0, x1, y1 = box
    return (
        round(left + x0 * scale),
        round(top + y0 * scale),
        round(left + x1 * scale),
        round(top + y1 * scale),
    )


_NAMES = (
    ("the upper left", "the top", "the upper right"),
    ("the left", "the middle", "the right"),
    ("the lower left", "the bottom", "the lower right"),
)


def region(box: Box, size: tuple[int, int]) -> str:
    """Where a box lies, in words: by its middle, within what a box of its size can reach."""

    def third(low: int, high: int, length: int) -> int:
        free = length - (high - low)
        return 1 if free <= 0 else min(int(3 * low / free), 2)

    return _NAMES[third(box[1], box[3], size[1])][third(box[0], box[2], size[0])]


def hottest_region(heat: np.ndarray) -> str:
    """Where a map is highest, in words: the middle of its hot cells if that is hot itself, else its hottest cell."""
    hot = np.argwhere(heat >= heat.max() / 2)
    row, column = (round(middle) for middle in hot.mean(axis=0))
    if heat[row, column] < heat.max() / 2:  # two spots, with something cooler between them
        row, column = divmod(int(heat.argmax()), heat.shape[1])
    return _NAMES[3 * row // heat.shape[0]][3 * column // heat.shape[1]]


def overlay(picture: Image.Image, explanation: Explanation, *, side: int = 640, opacity: float = 0.65) -> Image.Image:
    """The map drawn over a pale copy of the picture, and a frame around the clearest crop if it helps.

    Args:
        picture: the one that was explained.
        explanation: of it.
        side: of the result's long side at most, pixels.
        opacity: of the strongest colour, in [0, 1]. Where parts hardly differ all colours are faint.

    Returns:
        RGB. What the colours mean is LEGEND.
    """
    image = to_rgb(ImageOps.exif_transpose(picture))
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    grey = ImageOps.grayscale(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)).convert("RGB")
    strongest = np.abs(explanation.heat).max()
    faint = (
        min(1.0, explanation.spread / STANDS_OUT) ** 2
    )  # no strong colours where the words say that nothing stands out
    relative = explanation.heat * np.float32(faint / strongest if strongest > 0 else 0)
    smooth = np.asarray(Image.fromarray(relative).resize(size, Image.Resampling.BICUBIC)).clip(-1, 1)[..., None]
    colour = np.where(smooth > 0, np.array(_DOUBT, np.float32), np.array(_CLEAR, np.float32))
    weight = np.abs(smooth) * opacity
    drawn = Image.fromarray((np.asarray(grey, np.float32) * (1 - weight) + colour * weight).round().astype(np.uint8))
    if explanation.crop_helps:
        _frame(drawn, [edge * scale for edge in explanation.crop.box])
    return drawn


def _frame(drawn: Image.Image, box: Sequence[float]) -> None:
    """White within black, so that it is seen on every ground."""
    draw = ImageDraw.Draw(drawn)
    left, top, right, bottom = (round(edge) for edge in box)
    for inset, colour, width in ((0, "black", 4), (1, "white", 2)):
        edges = (left + inset, top + inset, right - 1 - inset, bottom - 1 - inset)
        if edges[2] > edges[0] and edges[3] > edges[1]:
            draw.rectangle(edges, outline=colour, width=width)
