"""The README's pictures: few colours, but the bright ones among them, and small enough for the repository."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="the Python package playwright is not installed: make test installs it")

from scripts.screenshots import LIMIT, SHOTS, quantized
from tests.fakes import picture


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_few_bright_points_on_a_white_page_keep_their_colour() -> None:
    page = np.full((400, 600, 3), 255, np.uint8)
    page[100:104, 200:204] = (255, 234, 70)
    page[300:304, 100:104] = (0, 32, 81)
    page[:, 450:] = np.arange(150, dtype=np.uint8)[None, :, None]
    small = np.asarray(Image.open(io.BytesIO(quantized(png(Image.fromarray(page))))).convert("RGB"), int)
    assert np.abs(small[102, 202] - (255, 234, 70)).max() < 12
    assert np.abs(small[302, 102] - (0, 32, 81)).max() < 12


def test_fewer_colours_where_a_picture_would_be_too_large() -> None:
    noisy = png(picture(0, (160, 120)))
    free = quantized(noisy, limit=10**7)
    bounded = quantized(noisy, limit=len(free) - 1)
    assert len(bounded) < len(free)
    assert Image.open(io.BytesIO(bounded)).size == (160, 120)


def test_every_page_of_the_menu_but_the_comparison_has_a_picture() -> None:
    from pvu.ui.state import PAGES

    # The first page has two, and the image panel is no page; comparing takes two data sets.
    assert set(SHOTS) - {"home", "overview", "panel"} == set(PAGES) - {"dataset", "compare"}
    assert LIMIT <= 300_000
