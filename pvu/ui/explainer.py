"""What uncertainty means here and what it does not, in one picture: five photographs and how uncertain they are.

The photographs are scikit-image's, made worse on this machine when the page is first shown. The numbers are what the
default model says of exactly these pictures; a test asks it again.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.colors
import streamlit as st
from PIL import Image, ImageDraw, ImageFilter

from pvu.coloring import SCALE
from pvu.demo import photograph
from pvu.errors import PVUError

SIDE = 224
"""Pixels: what the model sees of a picture, and the page shows."""


@dataclass(frozen=True)
class Example:
    """One picture.

    Args:
        photograph: a key of ``pvu.demo.PHOTOGRAPHS``.
        change: what is done to its centre square of SIDE pixels.
        caption: below it.
        percentile: of the pictures that the default model's head was measured on, this share is at most as uncertain.
    """

    photograph: str
    change: Callable[[Image.Image], Image.Image]
    caption: str
    percentile: int

    def picture(self) -> Image.Image:
        """(SIDE, SIDE) RGB."""
        whole = photograph(self.photograph)
        side = min(whole.size)
        left, top = (whole.width - side) // 2, (whole.height - side) // 2
        square = whole.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        return self.change(square)


def _as_it_is(picture: Image.Image) -> Image.Image:
    return picture


def _blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(7))


def _cropped(picture: Image.Image) -> Image.Image:
    return picture.crop((10, 10, 60, 60)).resize(picture.size, Image.Resampling.BICUBIC)


def _covered(picture: Image.Image) -> Image.Image:
    covered = picture.copy()
    ImageDraw.Draw(covered).rectangle((40, 0, SIDE, SIDE), fill=(124, 128, 132))
    return covered


SAME = (
    Example("cat", _as_it_is, "clear", 3),
    Example("cat", _blurred, "blurred", 97),
    Example("cat", _cropped, "too close", 99),
    Example("cat", _covered, "covered", 93),
)
UNFAMILIAR = Example("retina", _as_it_is, "the inside of an eye", 10)


def explainer() -> None:
    """Draw it, unless the photographs are not on this machine: the words beside it say the same."""
    page = _drawn()
    if page:
        st.html(page)


@st.cache_data(show_spinner=False)
def _drawn() -> str:
    try:
        same = "".join(_figure(example) for example in SAME)
        unfamiliar = _figure(UNFAMILIAR)
    except PVUError:
        return ""
    return f"""<style>{(Path(__file__).parent / "explainer.css").read_text(encoding="utf-8")}</style>
<div class="pvu-explainer">
<section><h3>The harder to tell, the more uncertain</h3><div class="row">{same}</div></section>
<section><h3>Unfamiliar is not uncertain</h3><div class="row">{unfamiliar}</div></section>
<p>The bar: of 100 ordinary photographs, how many are at most as uncertain. The cat is the same in all four.
The model has learned from nothing like the last picture, yet it is clear, and so it is certain.</p>
</div>"""


def _figure(example: Example) -> str:
    buffer = io.BytesIO()
    example.picture().save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    color = plotly.colors.sample_colorscale(plotly.colors.get_colorscale(SCALE.lower()), [example.percentile / 100])[0]
    caption = escape(example.caption)
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{caption}" width="{SIDE}" height="{SIDE}">'
        f'<div class="bar"><i style="width:{max(example.percentile, 2)}%;background:{color}"></i></div>'
        f"<figcaption><b>{example.percentile}</b>{caption}</figcaption></figure>"
    )
