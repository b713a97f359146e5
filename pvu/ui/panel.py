"""The image panel: one image in full, what is known of it, its neighbours, and what was decided about it."""

from __future__ import annotations

import numpy as np
import streamlit as st
from streamlit.errors import StreamlitAPIException

from pvu.errors import PVUError
from pvu.store import EmbeddedDataset
from pvu.tags import TAGS, Tags
from pvu.ui.gallery import Card, gallery
from pvu.ui.measures import review_of
from pvu.ui.serving import address
from pvu.ui.state import current_dataset, search_with, show_on_map
from pvu.ui.text import plain
from pvu.ui.why import large_picture, show_why

_OPEN = "pvu_panel"
_PAGE = "pvu_panel_page"
_TRAIL = "pvu_panel_trail"
"""Session key of the images that the panel came from, to go back to."""
SHOWN = 12
LIST_NAMES = {
    "ambiguous": "Ambiguous",
    "mislabelled": "Likely mislabelled",
    "duplicates": "Duplicate",
    "outliers": "Outlier",
}


def open_image(row: int | None) -> None:
    """Show an image in the panel at the end of this run; None shows nothing new. For what a gallery returns."""
    if row is not None:
        st.session_state[_OPEN] = st.session_state["pvu_last_image"] = int(row)
        st.session_state[_TRAIL] = []


def last_image() -> int | None:
    """The image that was opened last, for the map's ring."""
    row: int | None = st.session_state.get("pvu_last_image")
    return row


def close_on_other_page(page: str) -> None:
    """Close the panel where the browser's Back, or a link, has led to another page. Called before the page runs."""
    if st.session_state.get(_PAGE) != page:
        st.session_state[_PAGE] = page
        _close()


def image_panel() -> None:
    """The panel, if an image is open. Called once, after the page."""
    if _OPEN not in st.session_state:
        return
    dataset = current_dataset()
    if dataset is None or not 0 <= st.session_state[_OPEN] < len(dataset):
        _close()
        return
    st.dialog("Image", width="large", on_dismiss=_close)(_panel)(dataset)


def _close() -> None:
    st.session_state.pop(_OPEN, None)


def _show_again() -> None:
    """Run the panel again; with the page behind it only where that is what is running."""
    try:
        st.rerun(scope="fragment")
    except StreamlitAPIException:
        st.rerun()


def _panel(dataset: EmbeddedDataset) -> None:
    row = st.session_state.get(_OPEN)
    if row is None:
        return
    picture, facts = st.columns([3, 2], gap="medium")
    with facts:
        _facts(dataset, row)
        why = _why_button(dataset)
        _findings(dataset, row)
        _tags(dataset, row)
        _ways_on(row)
    with picture:
        if why:
            show_why(dataset, row)
        else:
            large_picture(f"{address(dataset)}/image/{row}", alt=str(dataset.images["path"].iloc[row]))
    _neighbours(dataset, row)


def _why_button(dataset: EmbeddedDataset) -> bool:
    if not dataset.has_uncertainty:
        return False
    return st.toggle(
        "Why uncertain?",
        key="panel_why",
        help="Asks the model about parts of the picture: looked at alone, and covered. Takes a second or two.",
    )


def _findings(dataset: EmbeddedDataset, row: int) -> None:
    for finding in review_of(dataset.version, dataset).membership(row):
        st.markdown(f":material/flag: **{LIST_NAMES[finding.name]}**: {plain(finding.text)}")


def _facts(dataset: EmbeddedDataset, row: int) -> None:
    label = dataset.labels[row]
    image = dataset.images.iloc[row]
    st.subheader(plain(label if label is not None else image["path"].rsplit("/", 1)[-1]), anchor=False)
    st.caption(f"{image['width']:,} x {image['height']:,} pixels · {_size(int(image['bytes']))}")
    st.code(str(dataset.image_path(row)), language=None, wrap_lines=True)
    if dataset.has_uncertainty:
        _uncertainty(dataset, row)


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{max(count // 1024, 1):,} kB"


def _uncertainty(dataset: EmbeddedDataset, row: int) -> None:
    u = float(dataset.uncertainty[row])
    here, everywhere = st.columns(2)
    here.metric(
        "Uncertainty here",
        f"{dataset.percentiles[row]:.0f} %",
        help=f"This image is at least as uncertain as this share of the data set. u = {u:.3f}; its scale has no unit.",
    )
    reference = float(dataset.reference_percentile(u))
    if np.isfinite(reference):
        everywhere.metric(
            "Against the reference",
            f"{reference:.0f} %",
            help="The same among the pictures that the uncertainty head was measured on when it was made: the same "
            "yardstick for every data set.",
        )


def _tags(dataset: EmbeddedDataset, row: int) -> None:
    tags = Tags.of(dataset)
    now = tags.values.tag[row]
    key = f"panel_tag:{row}:{tags.version}"
    chosen = st.pills(
        "Tag",
        TAGS,
        default=now,
        key=key,
        help="Saved at once, beside the data set; the image is never touched. The same tag again takes it off.",
    )
    if chosen == now:
        return
    try:
        if chosen is None:
            tags.clear(row)
        elif chosen == "fix label":
            _new_label(dataset, tags, row)
            return
        else:
            tags.set(row, chosen)
    except PVUError as error:
        st.error(plain(error))
        return
    _show_again()


def _new_label(dataset: EmbeddedDataset, tags: Tags, row: int) -> None:
    known = sorted({str(label) for label in dataset.labels if label is not None})
    label = st.selectbox(
        "Right label",
        known,
        index=None,
        accept_new_options=True,
        key=f"panel_label:{row}",
        placeholder="choose or type",
    )
    if label:
        tags.set(row, "fix label", label)
        _show_again()


def _go_to(row: int) -> None:
    """From one image in the panel to another."""
    st.session_state[_OPEN] = st.session_state["pvu_last_image"] = row
    _show_again()


def _ways_on(row: int) -> None:
    left, right = st.columns(2)
    if left.button("Search with it", icon=":material/image_search:", width="stretch", key="panel_search"):
        _close()
        search_with(row)
    if right.button("Show on map", icon=":material/scatter_plot:", width="stretch", key="panel_map"):
        _close()
        show_on_map(row)
    trail = st.session_state.get(_TRAIL)
    if trail and st.button("Back to the image before", icon=":material/arrow_back:", width="stretch", key="panel_back"):
        _go_to(trail.pop())


def _neighbours(dataset: EmbeddedDataset, row: int) -> None:
    neighbors = dataset.neighbors[row][:SHOWN]
    if len(neighbors) == 0:
        return
    label = dataset.labels[row]
    cards = [
        Card(int(other), float(similarity), same_label=_same(label, dataset.labels[other]))
        for other, similarity in zip(neighbors, dataset.similarities[row], strict=False)
    ]
    st.markdown("**Nearest images**", help="By the cosine of their embeddings. A click looks at one of them.")
    clicked = gallery(dataset, cards, key="panel_neighbours", width=96)
    if clicked is not None:
        st.session_state.setdefault(_TRAIL, []).append(row)
        _go_to(clicked)


def _same(label: object, other: object) -> bool | None:
    return None if label is None or other is None else label == other
