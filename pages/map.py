"""The map: every image at its place, coloured by uncertainty; draw around some to see them."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pvu.coloring import UNCERTAINTY, color_choices, drawn_count
from pvu.export import export_table, table_bytes
from pvu.progress import counted
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from pvu.ui.filtering import map_filter
from pvu.ui.gallery import paged_gallery
from pvu.ui.grouping import cluster_chip, cluster_table
from pvu.ui.panel import last_image, open_image
from pvu.ui.pointmap import Drawn, point_map
from pvu.ui.state import require_dataset, selection, set_selection
from pvu.ui.tagging import tag_bar
from pvu.ui.text import plain

_NAMES = {
    UNCERTAINTY: "uncertainty",
    "width": "width (pixels)",
    "height": "height (pixels)",
    "duplicates": "duplicate group",
    "cluster": "group on the map",
}
_ORDERS = ("uncertain first", "certain first")


def main() -> None:
    st.title("Map")
    dataset = require_dataset("every image as a point, similar images near each other, coloured by uncertainty")
    st.caption(plain(f"{dataset.name} · {counted(len(dataset), 'image')} · {dataset.manifest['model']}"))
    color_by, sized, shown = controls(dataset)
    cluster_chip(dataset)
    left, right = st.columns([2, 1], gap="medium")
    with left:
        if shown.any():
            draw(dataset, color_by, sized, shown)
        else:
            st.info(
                "No image passes the filters. Widen the range, or empty the search field.", icon=":material/search:"
            )
        cluster_table(dataset)
    with right:
        side(dataset, shown)


def controls(dataset: EmbeddedDataset) -> tuple[str, bool, np.ndarray]:
    """One row: the map's look, and which images it shows."""
    colors, find, share, size = st.columns([2, 2, 3, 2], gap="medium", vertical_alignment="bottom")
    color_by = colors.selectbox(
        "Colour by",
        color_choices(dataset),
        format_func=lambda name: _NAMES.get(name, name),
        key="color_by",
        bind="query-params",
        help="Uncertainty is shown as a percentile of this data set: dark blue is certain, yellow uncertain. Of words "
        "the commonest have a colour of their own.",
    )
    sized = dataset.has_uncertainty and size.toggle(
        "Size by uncertainty",
        key="sized",
        bind="query-params",
        help="Uncertain images large and faint, certain ones small and solid: as the paper draws embeddings, a point "
        "is a spot whose size says how sure its place is.",
    )
    return color_by, sized, map_filter(dataset, find, share)


def draw(dataset: EmbeddedDataset, color_by: str, sized: bool, shown: np.ndarray) -> None:
    rows = selection(dataset)
    row = last_image()

    def on_drawn(shape: Drawn) -> None:
        set_selection(dataset, shape.rows(dataset.coords, shown, selection(dataset)))

    clicked = point_map(
        dataset,
        key="map",
        color_by=color_by,
        color_title=_NAMES.get(color_by, color_by),
        color_version=Tags.of(dataset).version if color_by == "tag" else "",
        shown=shown,
        selected=rows[shown[rows]],
        ring=() if row is None else (row,),
        size_by_uncertainty=sized,
        on_drawn=on_drawn,
    )
    open_image(clicked)
    drawn = drawn_count(len(dataset))
    if drawn < len(dataset):
        st.caption(f"{drawn:,} of {len(dataset):,} points are drawn, a random sample; a lasso counts all of them.")


def side(dataset: EmbeddedDataset, shown: np.ndarray) -> None:
    rows = selection(dataset)
    rows = rows[shown[rows]]
    chosen = len(rows) > 0
    if not chosen:
        rows = np.flatnonzero(shown)
    title, button = st.columns([3, 1], vertical_alignment="bottom")
    heading = "All" if shown.all() else "Filtered:"
    title.subheader(f"{len(rows):,} selected" if chosen else f"{heading} {counted(len(rows), 'image')}", anchor=False)
    if chosen and button.button("Clear", width="stretch", help="Select nothing"):
        set_selection(dataset, np.empty(0, np.int64))
        st.rerun()
    if dataset.has_uncertainty:
        order = st.segmented_control("Order", _ORDERS, default=_ORDERS[0], key="order", label_visibility="collapsed")
        direction = 1 if order == _ORDERS[1] else -1
        rows = rows[np.argsort(direction * dataset.uncertainty[rows], kind="stable")]
    open_image(paged_gallery(dataset, rows, key="map_gallery"))
    if chosen:
        with st.expander("Tag all that are selected", icon=":material/sell:"):
            tag_bar(dataset, rows.tolist(), key="map_tags", legend="")
    else:
        st.caption("Draw around points to select images. A click on a point or a picture looks at it closely.")
    st.download_button(
        f"Download {counted(len(rows), 'row')} as CSV",
        data=lambda: table_bytes(export_table(dataset, rows), ".csv"),
        file_name=f"{dataset.name}.csv",
        mime="text/csv",
        icon=":material/download:",
        disabled=len(rows) == 0,
        on_click="ignore",
        help="Original paths, labels, uncertainties and all columns of these images, in this order.",
    )


main()
