"""A gallery of clickable images: thumbnails, their numbers, and a mark where something is to be said."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.colors
import streamlit as st

from pvu.figures import SCALE
from pvu.store import EmbeddedDataset

_HERE = Path(__file__).parent
_CIVIDIS = plotly.colors.get_colorscale(SCALE.lower())


@dataclass(frozen=True)
class Card:
    """One image in a gallery.

    Args:
        row: its row in the data set; what a click returns.
        similarity: cosine to the query, where there is one.
        mark: a few words over the picture, or "".
        tone: "removed", "added", "" : the colour of the mark and the frame.
        same_label: whether its label is the query's; None if that cannot be said.
    """

    row: int
    similarity: float | None = None
    mark: str = ""
    tone: str = ""
    same_label: bool | None = None


_component = st.components.v2.component(
    "pvu_gallery",
    html='<div class="gallery"></div>',
    css=(_HERE / "gallery.css").read_text(),
    js=(_HERE / "gallery.js").read_text(),
)


def gallery(
    dataset: EmbeddedDataset, cards: Sequence[Card], *, key: str, action: str = "search with it", width: int = 132
) -> int | None:
    """Show images as a grid.

    Args:
        dataset: where they are from.
        cards: what to show, in order.
        key: unique on the page.
        action: what a click does, for the tooltip: "Click to ...".
        width: of a card, pixels.

    Returns:
        The row of the image that was clicked in this run, else None.
    """
    data = {"cards": [_card(dataset, card, action) for card in cards], "width": width}
    result = _component(data=data, key=key, on_clicked_change=lambda: None)
    clicked = result.get("clicked")
    return int(clicked) if clicked is not None else None


def gallery_of(dataset: EmbeddedDataset, rows: np.ndarray, *, key: str, width: int = 132) -> int | None:
    """As :func:`gallery`, for plain rows."""
    return gallery(dataset, [Card(int(row)) for row in rows], key=key, width=width)


def paged_gallery(dataset: EmbeddedDataset, rows: np.ndarray, *, key: str, size: int = 24) -> int | None:
    """As :func:`gallery_of`, some images at a time, with page numbers below."""
    pages = max(1, -(-len(rows) // size))
    holder = st.container()
    page = st.pagination(pages, key=f"{key}_page") if pages > 1 else 1
    with holder:
        return gallery_of(dataset, rows[(page - 1) * size : page * size], key=f"{key}_cards", width=112)


def _card(dataset: EmbeddedDataset, card: Card, action: str) -> dict[str, Any]:
    label = dataset.labels[card.row]
    path = str(dataset.images["path"].iloc[card.row])
    lines = [path]
    data: dict[str, Any] = {
        "row": card.row,
        "src": thumbnail_uri(dataset, card.row),
        "label": "" if label is None else str(label),
        "mark": card.mark,
        "tone": card.tone,
        "same": card.same_label,
    }
    if card.similarity is not None:
        data["similarity"] = f"{card.similarity:.2f}"
        lines.append(f"Similarity {card.similarity:.3f}: the cosine between the two embeddings, 1 is identical.")
    if dataset.has_uncertainty:
        percentile = float(dataset.percentiles[card.row])
        data["percentile"] = f"{percentile:.0f} %"
        data["color"] = cividis(percentile)
        lines.append(
            f"At least as uncertain as {percentile:.0f} % of this data set (u = {dataset.uncertainty[card.row]:.3f})."
        )
    if card.same_label is not None:
        lines.append("Has the query's label." if card.same_label else "Has another label than the query.")
    lines.append(f"Click to {action}.")
    data["tip"] = "\n".join(lines)
    data["alt"] = f"{path} {data['label']}".strip()
    return data


def thumbnail_uri(dataset: EmbeddedDataset, row: int) -> str:
    """A thumbnail as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(dataset.thumbnail(row)).decode()


def cividis(percentile: float) -> str:
    """The map's colour for a percentile."""
    return str(plotly.colors.sample_colorscale(_CIVIDIS, [min(max(percentile / 100, 0), 1)])[0])
