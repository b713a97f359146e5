"""The map: every image at its place, coloured by uncertainty; draw around some to see them."""

from __future__ import annotations

import hashlib

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from pvu.export import export_table
from pvu.figures import MAP_LIMIT, UNCERTAINTY, map_rows, umap_map
from pvu.progress import counted
from pvu.store import EmbeddedDataset
from pvu.ui.gallery import paged_gallery
from pvu.ui.selecting import selected_rows
from pvu.ui.state import enter_through_app, require_dataset, search_with, selection, set_selection

_NAMES = {UNCERTAINTY: "uncertainty", "label": "label", "width": "width (pixels)", "height": "height (pixels)"}
_ORDERS = ("uncertain first", "certain first")


@st.cache_resource(max_entries=8, show_spinner="Drawing the map …")
def _figure(
    version: str,
    color_by: str,
    low: float,
    high: float,
    kept_digest: str,
    _kept: np.ndarray,
    _dataset: EmbeddedDataset,
    _shown: np.ndarray,
) -> go.Figure:
    del version, low, high, kept_digest  # the key: hashing long arrays would take longer than drawing them
    rows = np.flatnonzero(_shown)
    rows = rows[map_rows(len(rows))]
    return umap_map(_dataset, color_by=color_by, rows=rows, selected=_kept if len(_kept) else None)


def main() -> None:
    st.title("Map")
    dataset = require_dataset("every image as a point, similar images near each other, coloured by uncertainty")
    color_by, low, high = controls(dataset)
    shown = shown_images(dataset, low, high)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        if shown.any():
            draw(dataset, color_by, low, high, shown)
        else:
            st.info("No image lies in this range. Widen the uncertainty filter above.")
    with right:
        side(dataset, shown)


def controls(dataset: EmbeddedDataset) -> tuple[str, float, float]:
    choices = [UNCERTAINTY] if dataset.has_uncertainty else []
    choices += ["label"] if dataset.has_labels else []
    choices += [*dataset.metadata_columns, "width", "height"]
    left, right = st.columns([1, 2], gap="large")
    color_by = left.selectbox(
        "Colour by",
        choices,
        format_func=lambda name: _NAMES.get(name, name),
        key="color_by",
        persist_state="session",
        help="Uncertainty is shown as a percentile of this data set: dark blue is certain, yellow uncertain.",
    )
    if not dataset.has_uncertainty:
        return color_by, 0, 100
    low, high = right.slider(
        "Show uncertainty percentiles",
        0,
        100,
        (0, 100),
        format="%d %%",
        key="range",
        persist_state="session",
        help="0 is the most certain image of this data set, 100 the most uncertain.",
    )
    return color_by, low, high


def shown_images(dataset: EmbeddedDataset, low: float, high: float) -> np.ndarray:
    if not dataset.has_uncertainty or (low, high) == (0, 100):
        return np.ones(len(dataset), bool)
    return (dataset.percentiles >= low) & (dataset.percentiles <= high)


def draw(dataset: EmbeddedDataset, color_by: str, low: float, high: float, shown: np.ndarray) -> None:
    # A new colour or range, or a visit to another page, makes a new chart, and what was drawn on the old one is gone.
    # Our selection is not: the session keeps it, and the new chart shows it. While one chart stays, its own is seen.
    view = (dataset.version, color_by, low, high, st.session_state.get("map_cleared", 0))
    key = f"map_{abs(hash(view))}"
    if st.session_state.get("map_view", (None, None))[0] != view or key not in st.session_state:
        st.session_state["map_view"] = (view, selection(dataset))
    kept = st.session_state["map_view"][1]
    digest = hashlib.blake2b(kept.tobytes(), digest_size=8).hexdigest()
    figure = _figure(dataset.version, color_by, low, high, digest, kept, dataset, shown)

    def on_select() -> None:
        set_selection(dataset, selected_rows(st.session_state[key], dataset.coords, shown))

    st.plotly_chart(
        figure,
        key=key,
        on_select=on_select,
        selection_mode=("points", "box", "lasso"),
        config={"scrollZoom": True, "displaylogo": False, "modeBarButtonsToRemove": ["autoScale2d", "toImage"]},
        alt="Map of all images; similar images lie near each other.",
    )
    count = int(shown.sum())
    drawn = f"{MAP_LIMIT:,} of {count:,} points are drawn, evenly; a lasso counts all." if count > MAP_LIMIT else ""
    # While the lasso or the box is the chosen tool, Streamlit ignores clicks on points.
    st.caption(
        "Draw around points to see them; to click single points, choose :material/drag_pan: above the map first. "
        f"Scroll to zoom, double-click to undo. {drawn}"
    )


def side(dataset: EmbeddedDataset, shown: np.ndarray) -> None:
    rows = selection(dataset)
    rows = rows[shown[rows]]
    chosen = len(rows) > 0
    if not chosen:
        rows = np.flatnonzero(shown)
    title, button = st.columns([3, 1], vertical_alignment="bottom")
    title.subheader(f"{len(rows):,} selected" if chosen else f"All {counted(len(rows), 'image')}", anchor=False)
    if chosen and button.button("Clear", width="stretch", help="Select nothing"):
        set_selection(dataset, np.empty(0, np.int64))
        # Another chart: the browser cannot be told to take away the lasso that it has drawn.
        st.session_state["map_cleared"] = st.session_state.get("map_cleared", 0) + 1
        st.rerun()
    if dataset.has_uncertainty:
        order = st.segmented_control("Order", _ORDERS, default=_ORDERS[0], key="order", label_visibility="collapsed")
        direction = 1 if order == _ORDERS[1] else -1
        rows = rows[np.argsort(direction * dataset.uncertainty[rows], kind="stable")]
    clicked = paged_gallery(dataset, rows, key="map_gallery")
    st.caption("Click an image to search with it.")
    st.download_button(
        f"Download {counted(len(rows), 'row')} as CSV",
        data=lambda: export_table(dataset).iloc[rows].to_csv(index=False),
        file_name=f"{dataset.name}.csv",
        mime="text/csv",
        icon=":material/download:",
        disabled=len(rows) == 0,
        on_click="ignore",
        help="Original paths, labels, uncertainties and all columns of these images, in this order.",
    )
    if clicked is not None:
        search_with(clicked)


enter_through_app()
main()
