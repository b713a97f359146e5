"""A gallery of images: thumbnails with their numbers, a mark where something is to be said, and what was done to them.

The browser fetches the pictures by row (serving.py), so a gallery costs the server some hundred bytes an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.colors
import streamlit as st

from pvu.coloring import SCALE
from pvu.store import EmbeddedDataset
from pvu.ui.serving import address

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
        badge: a short word in the picture's corner, such as its tag.
        note: a sentence below the image: the evidence for what is said of it.
        beside: other images shown small below it, as (row, words for the tooltip).
        offer: a button below it, as (its words, the key that it stands for), in a picking gallery with that key.
    """

    row: int
    similarity: float | None = None
    mark: str = ""
    tone: str = ""
    same_label: bool | None = None
    badge: str = ""
    note: str = ""
    beside: tuple[tuple[int, str], ...] = ()
    offer: tuple[str, str] | None = None


@dataclass(frozen=True)
class Pressed:
    """A key that was pressed in a gallery.

    Args:
        key: the key.
        rows: what it is about: the picked images, or without any the one that the keyboard is on.
    """

    key: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class GalleryEvent:
    """What was done in a gallery since the last run.

    Args:
        clicked: the row that was clicked, or None.
        picked: the rows that are ticked now, over all pages of the gallery.
        pressed: the keys pressed, in order.
    """

    clicked: int | None
    picked: tuple[int, ...]
    pressed: tuple[Pressed, ...]


_component = st.components.v2.component(
    "pvu_gallery",
    html='<div class="gallery"></div>',
    css=(_HERE / "gallery.css").read_text(encoding="utf-8"),
    js=(_HERE / "gallery.js").read_text(encoding="utf-8"),
)


def gallery(
    dataset: EmbeddedDataset, cards: Sequence[Card], *, key: str, action: str = "look at it closely", width: int = 132
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
    data = {**_data(dataset, cards, action, width), "pick": False, "picked": [], "keys": {}, "handled": 0}
    result = _component(data=data, key=key, on_clicked_change=lambda: None)
    return _clicked(result)


def picking_gallery(
    dataset: EmbeddedDataset,
    cards: Sequence[Card],
    *,
    key: str,
    keys: Mapping[str, str] | None = None,
    action: str = "look at it closely",
    width: int = 132,
) -> GalleryEvent:
    """As :func:`gallery`, with a box to tick on each image, and keys.

    Arrows move from image to image, the space bar ticks, Enter is a click. Ticks outlive pages of the gallery and of
    the app until :func:`unpick` or another data set. No key press is lost while a run is under way, if what is
    pressed is done at once: the next key can end the run at any later call of Streamlit, and a press is told once.

    Args:
        keys: what other keys do, as {"k": "keep", ...}; they come back as ``pressed``. They work anywhere on the page
            but in text fields, and behind an open dialog not at all.
    """
    state = st.session_state

    def on_picked() -> None:
        state[_picked_key(key)] = (dataset.version, [int(row) for row in state[key]["picked"]])

    def on_pressed() -> None:
        # Before the script runs, so that this run's gallery tells the browser which presses have arrived. In one
        # assignment: the next key can end this callback before any of them. The browser repeats what has not arrived.
        handled, waiting = state.get(presses, (0, []))
        new = [press for press in state[key]["pressed"] if press["number"] > handled]
        state[presses] = (new[-1]["number"] if new else handled, [*waiting, *new])

    presses = f"presses:{key}"
    version, picked = state.get(_picked_key(key), ("", []))
    if version != dataset.version:  # a row of another data set is another image
        picked = []
    handled = state.get(presses, (0, []))[0]
    data = {
        **_data(dataset, cards, action, width),
        "pick": True,
        "picked": picked,
        "keys": dict(keys or {}),
        "handled": handled,
    }
    result = _component(
        data=data,
        key=key,
        on_clicked_change=lambda: None,
        on_picked_change=on_picked,
        on_pressed_change=on_pressed,
    )
    handled, waiting = state.get(presses, (0, []))
    pressed = tuple(Pressed(press["key"], tuple(int(row) for row in press["rows"])) for press in waiting)
    event = GalleryEvent(_clicked(result), tuple(picked), pressed)
    if waiting:
        state[presses] = (handled, [])
    return event


def unpick(key: str) -> None:
    """Tick nothing in a gallery any more; seen in its next run."""
    st.session_state.pop(_picked_key(key), None)


def gallery_of(dataset: EmbeddedDataset, rows: np.ndarray, *, key: str, width: int = 132) -> int | None:
    """As :func:`gallery`, for plain rows."""
    return gallery(dataset, [Card(int(row)) for row in rows], key=key, width=width)


def paged(rows: np.ndarray, *, key: str, size: int = 24) -> np.ndarray:
    """The rows of one page, with page numbers where this is called: the gallery goes into a container made before."""
    pages = max(1, -(-len(rows) // size))
    page = st.pagination(pages, key=f"{key}_page") if pages > 1 else 1
    return rows[(page - 1) * size : page * size]


def paged_gallery(dataset: EmbeddedDataset, rows: np.ndarray, *, key: str, size: int = 24) -> int | None:
    """As :func:`gallery_of`, some images at a time, with page numbers below."""
    holder = st.container()
    shown = paged(rows, key=key, size=size)
    with holder:
        return gallery_of(dataset, shown, key=f"{key}_cards", width=112)


def _picked_key(key: str) -> str:
    return f"picked:{key}"


def _clicked(result: Any) -> int | None:
    clicked = result.get("clicked")
    return int(clicked) if clicked is not None else None


def _data(dataset: EmbeddedDataset, cards: Sequence[Card], action: str, width: int) -> dict[str, Any]:
    return {
        "cards": [_card(dataset, card, action) for card in cards],
        "width": width,
        "thumbs": f"{address(dataset)}/thumb/",
    }


def _card(dataset: EmbeddedDataset, card: Card, action: str) -> dict[str, Any]:
    label = dataset.labels[card.row]
    path = str(dataset.images["path"].iloc[card.row])
    lines = [path]
    data: dict[str, Any] = {
        "row": card.row,
        "label": "" if label is None else str(label),
        "mark": card.mark,
        "tone": card.tone,
        "same": card.same_label,
        "badge": card.badge,
        "note": card.note,
        "beside": [{"row": row, "tip": tip} for row, tip in card.beside],
        "offer": card.offer,
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


def cividis(percentile: float) -> str:
    """The map's colour for a percentile."""
    return str(plotly.colors.sample_colorscale(_CIVIDIS, [min(max(percentile / 100, 0), 1)])[0])
