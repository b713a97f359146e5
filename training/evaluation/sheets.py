"""Contact sheets: the most and the least certain images of a set, with u under each, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from pvu.errors import BadImageError
from pvu.images import open_rgb, read_bytes

SHOWN = 24
SIDE = 96
_COLUMNS, _GAP, _TEXT = 8, 6, 14
_INK, _GROUND = "#1c2430", "white"


def write_sheet(path: Path, files: Sequence[Path], u: np.ndarray, *, title: str, shown: int = SHOWN) -> None:
    """Write a JPEG with the images of least and of most uncertainty.

    Args:
        path: the .jpg to write.
        files: (N,) of the images.
        u: (N,) float.
        title: what is shown: the set, and whose u it is.
        shown: how many of each.

    Raises:
        ValueError: if there are no images, or not as many as uncertainties.
    """
    if len(files) == 0 or len(files) != len(u):
        raise ValueError(f"A contact sheet needs as many images as uncertainties, got {len(files)} and {len(u)}.")
    order = np.argsort(u, kind="stable")
    blocks = [
        _block(f"{title}: most certain", [(files[row], float(u[row])) for row in order[:shown]]),
        _block(f"{title}: least certain", [(files[row], float(u[row])) for row in order[::-1][:shown]]),
    ]
    sheet = Image.new("RGB", (blocks[0].width, sum(block.height for block in blocks)), _GROUND)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "JPEG", quality=85)


def _block(title: str, images: Sequence[tuple[Path, float]]) -> Image.Image:
    """Thumbnails in rows of eight below a title."""
    font = ImageFont.load_default(11)
    rows, step = -(-len(images) // _COLUMNS), SIDE + _TEXT + _GAP
    block = Image.new("RGB", (_COLUMNS * (SIDE + _GAP) + _GAP, _TEXT + 2 * _GAP + rows * step), _GROUND)
    draw = ImageDraw.Draw(block)
    draw.text((_GAP, _GAP), title, _INK, font)
    for number, (file, u) in enumerate(images):
        left = _GAP + number % _COLUMNS * (SIDE + _GAP)
        top = _TEXT + 2 * _GAP + number // _COLUMNS * step
        block.paste(_thumbnail(file), (left, top))
        draw.text((left, top + SIDE), f"{u:.3f}", _INK, font)
    return block


def _thumbnail(file: Path) -> Image.Image:
    try:
        image, _ = open_rgb(read_bytes(file), at_least=SIDE)
    except BadImageError:
        return Image.new("RGB", (SIDE, SIDE), "#dce1e8")
    return ImageOps.pad(image, (SIDE, SIDE), Image.Resampling.BICUBIC, color="#f3f5f8")
