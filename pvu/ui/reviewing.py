"""The review lists as the pages show them: kept for a data set, cut off where the user says, as cards with evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from pvu.lists import ReviewList
from pvu.picking import pick_diverse
from pvu.review import (
    AMBIGUOUS_FROM,
    CLEAR_UP_TO,
    OTHER_LABEL,
    OUTLIERS_FROM,
    SAME_PICTURE,
    ambiguous,
    duplicates,
    mislabelled,
    outliers,
)
from pvu.store import EmbeddedDataset
from pvu.tags import Tags, TagValues
from pvu.ui.gallery import Card


@dataclass(frozen=True)
class Cutoff:
    """The slider over a list.

    Args:
        label: what it sets.
        low: its left end.
        high: its right end.
        usual: where it stands at first.
        step: between two values.
        format: of a value, printf.
        help: in a sentence or two.
    """

    label: str
    low: float
    high: float
    usual: float
    step: float
    format: str
    help: str


TITLES = {
    "ambiguous": "Ambiguous",
    "mislabelled": "Likely mislabelled",
    "duplicates": "Duplicates",
    "outliers": "Outliers",
}
CUTOFFS = {
    "ambiguous": Cutoff(
        "At least as uncertain as … of the images",
        *(50.0, 99.0, AMBIGUOUS_FROM, 1.0, "%.0f %%"),
        "90 % lists the most uncertain tenth of this data set. Further left, more images are listed.",
    ),
    "mislabelled": Cutoff(
        "Support for the other label",
        *(0.5, 0.98, OTHER_LABEL, 0.01, "%.2f"),
        "Of what the similar images say for the two labels, the share that speaks for the other one: 0.5 is undecided. "
        "Uncertain images are drawn towards 0.5, since they may just be hard to tell.",
    ),
    "duplicates": Cutoff(
        "Similarity from which two images are one picture",
        *(0.8, 1.0, SAME_PICTURE, 0.01, "%.2f"),
        "The cosine of the two embeddings. 0.95 finds copies recompressed, enlarged or a little smaller. "
        "Copies half as large need some 0.85, where different pictures can pass too; "
        "1.00 only those that the model cannot tell apart. Copies of a file are always listed.",
    ),
    "outliers": Cutoff(
        "Farther from all others than … of the clear images",
        *(80.0, 99.5, OUTLIERS_FROM, 0.5, "%.1f %%"),
        "How far: one minus the mean similarity to the five nearest images.",
    ),
}


@st.cache_resource(max_entries=64, show_spinner="Going through the images …")
def _list(version: str, name: str, cutoff: float, clear_up_to: float, _dataset: EmbeddedDataset) -> ReviewList:
    del version  # the key
    if name == "ambiguous":
        return ambiguous(_dataset, cutoff=cutoff)
    if name == "mislabelled":
        return mislabelled(_dataset, cutoff=cutoff)
    if name == "duplicates":
        # 1.00 on the slider: float16 embeddings of one picture are alike by 0.9999 or so.
        return duplicates(_dataset, cutoff=min(cutoff, 0.999))
    return outliers(_dataset, cutoff=cutoff, clear_up_to=clear_up_to)


def remember(key: str, usual: Any) -> Any:
    """A widget's value, also while the widget is not shown: what it has now, or had last, or is usual.

    Call it before the widget is made, and give the widget the key alone.
    """
    kept = st.session_state.setdefault(key, st.session_state.get(f"kept:{key}", usual))
    st.session_state[f"kept:{key}"] = kept
    return kept


def controls(name: str) -> bool:
    """The sliders of a list; returns whether tagged images are to be hidden."""
    cutoff = CUTOFFS[name]
    left, middle, right = st.columns([2, 2, 1], gap="large", vertical_alignment="center")
    left.slider(
        cutoff.label,
        *(cutoff.low, cutoff.high),
        step=cutoff.step,
        format=cutoff.format,
        help=cutoff.help,
        key=f"cutoff_{name}",
    )
    if name == "outliers":
        middle.slider(
            "Clear means: at most as uncertain as … of the images",
            *(5.0, 100.0),
            step=5.0,
            format="%.0f %%",
            help="Bad pictures are far from everything too. 100 % lets them in.",
            key="clear_up_to",
        )
    remember("only_untagged", False)
    return right.toggle("Not yet tagged", key="only_untagged", help="Hide images that have a tag.")


def list_of(dataset: EmbeddedDataset, name: str) -> ReviewList:
    """One list with the cut-offs that the user has chosen, kept for the next time."""
    cutoff, clear_up_to = remember(f"cutoff_{name}", CUTOFFS[name].usual), remember("clear_up_to", CLEAR_UP_TO)
    if name == "mislabelled":  # the vote is the same for every cut-off
        return _list(dataset.version, name, 0.5, CLEAR_UP_TO, dataset).above(cutoff)
    return _list(dataset.version, name, cutoff, clear_up_to, dataset)


@st.cache_data(max_entries=32, show_spinner="Picking …")
def _pick(
    version: str, count: int, percentile: int, untagged: bool, tags_version: str, _dataset: EmbeddedDataset
) -> np.ndarray:
    del version, tags_version  # the key
    tagged = np.flatnonzero(Tags.of(_dataset).values.tag != None) if untagged else None  # noqa: E711 (elementwise)
    allowed = _dataset.percentiles <= percentile if _dataset.has_uncertainty else None
    return pick_diverse(_dataset, count, allowed=allowed, away_from=tagged)


def picked_for_labelling(dataset: EmbeddedDataset, count: int, percentile: int, *, untagged: bool) -> np.ndarray:
    """Diverse images up to a percentile of u, kept for the next time; away from those with a tag if asked to."""
    version = Tags.of(dataset).version if untagged else ""
    return _pick(dataset.version, count, percentile, untagged, version, dataset)


def cards(dataset: EmbeddedDataset, found: ReviewList, places: np.ndarray, tags: TagValues) -> list[Card]:
    """The cards of some places of a list: evidence below, tag in the corner."""
    beside_tip = _TIPS.get(found.name, _similar)
    made = []
    for place in places.tolist():
        row = int(found.rows[place])
        others = [int(other) for other in found.beside[place] if other >= 0]
        suggested = found.suggested[place]
        note = found.text(place)
        if found.name == "duplicates":
            note = f"Group {found.group[place] + 1:,}. {note}"
        made.append(
            Card(
                row,
                mark="leak" if found.leak[place] else f"→ {suggested}" if suggested is not None else "",
                badge=badge(tags, row),
                note=note,
                beside=tuple((other, beside_tip(dataset, row, other)) for other in others),
                offer=(f"Accept “{suggested}”", "f") if suggested is not None else None,
            )
        )
    return made


def badge(tags: TagValues, row: int) -> str:
    """What an image's corner says of its tag."""
    tag = tags.tag[row]
    if tag is None:
        return ""
    return f"label: {tags.label[row]}" if tags.label[row] else str(tag)


def _similar(dataset: EmbeddedDataset, row: int, other: int) -> str:
    place = np.flatnonzero(dataset.neighbors[row] == other)
    alike = f", alike by {dataset.similarities[row, place[0]]:.2f}" if len(place) else ""
    label = dataset.labels[other]
    return f"{dataset.images['path'].iloc[other]}{f' ({label})' if label is not None else ''}{alike}"


def _member(dataset: EmbeddedDataset, row: int, other: int) -> str:
    image = dataset.images.iloc[other]
    return f"{_similar(dataset, row, other)}, {image['width']} x {image['height']} pixels"


_TIPS: dict[str, Callable[[EmbeddedDataset, int, int], str]] = {"duplicates": _member}
