"""Take out what was found and decided: tables, embeddings, copies of the images, a report for a colleague."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pvu.progress import Progress, counted
from pvu.report import report_html
from pvu.store import EmbeddedDataset
from pvu.ui.copy_form import copy_form
from pvu.ui.exporting import (
    CERTAIN,
    FORMATS,
    UNCERTAIN,
    choices,
    chosen_rows,
    embeddings_download,
    report_key,
    table_download,
)
from pvu.ui.gallery import gallery_of
from pvu.ui.panel import open_image
from pvu.ui.state import PAGES, require_dataset

_SHOWN = 8


def main() -> None:
    st.title("Export")
    dataset = require_dataset("ways to take out what you found: tables, embeddings, copies of the images, a report")
    rows = what_to_export(dataset)
    st.subheader("How", anchor=False)
    table, images, embeddings, report = st.tabs(
        [
            ":material/table: Table or list",
            ":material/folder_copy: Images, to a new folder",
            ":material/data_array: Embeddings",
            ":material/description: Report",
        ],
        key="export_tab",
    )
    with table:
        table_form(dataset, rows)
    with images:
        copy_form(dataset, rows)
    with embeddings:
        st.markdown(
            f"The embeddings of these images, {dataset.embeddings.shape[1]} numbers each, as `.npy`, and their table "
            "as Parquet: row by row the same images. FiftyOne and Hugging Face *datasets* take both in three lines, "
            "see the README."
        )
        embeddings_download(dataset, rows)
    with report:
        report_form(dataset)


def what_to_export(dataset: EmbeddedDataset) -> np.ndarray:
    st.subheader("What", anchor=False)
    offered = choices(dataset)
    what = st.radio(
        "What to export",
        list(offered),
        format_func=lambda key: str(offered[key]),
        key="export_what",
        persist_state="session",
        horizontal=True,
        label_visibility="collapsed",
    )
    share = 10
    if what in (CERTAIN, UNCERTAIN):
        share = st.slider(
            "Share of all images", 1, 100, 10, format="%d %%", key="export_share", persist_state="session", width=420
        )
    rows = chosen_rows(dataset, what, share)
    st.markdown(f"**{len(rows):,} of {counted(len(dataset), 'image')}**")
    places = np.linspace(0, len(rows) - 1, min(len(rows), _SHOWN)).astype(int)
    open_image(gallery_of(dataset, rows[places], key="export_gallery", width=96))
    if len(offered) < 5:
        st.caption("Images that you select on the map or tag in the review can be chosen here too.")
        st.page_link(PAGES["map"], label="Select some on the map", icon=":material/scatter_plot:")
    return rows


def table_form(dataset: EmbeddedDataset, rows: np.ndarray) -> None:
    suffix = st.segmented_control(
        "Format",
        list(FORMATS),
        default=".csv",
        required=True,
        format_func=lambda key: FORMATS[key][0],
        key="export_format",
        label_visibility="collapsed",
    )
    if suffix == ".txt":
        st.caption("One full path of an original a line.")
    else:
        st.caption(
            "A row an image: the original's full path, label, uncertainty, percentile, tag and new label, place on the "
            "map, cluster, and all other columns."
        )
    table_download(dataset, rows, suffix or ".csv")


def report_form(dataset: EmbeddedDataset) -> None:
    st.markdown(
        "One page about the whole data set that opens anywhere: map, histogram, curves, the most uncertain images, the "
        "review lists and your tags. It holds thumbnails, not the originals."
    )
    full_paths = st.checkbox(
        "Say where the originals lie", key="report_paths", help="Otherwise only paths within the folder are in it."
    )
    key = report_key(dataset, full_paths=full_paths)
    if st.session_state.get("report", ("", ""))[0] != key:
        place = st.empty()
        if not place.button("Write the report", type="primary", icon=":material/description:", key="report_start"):
            return

        def show(progress: Progress) -> None:
            place.progress(progress.done / progress.total, text=str(progress))

        st.session_state["report"] = (key, report_html(dataset, full_paths=full_paths, progress=show))
        place.empty()
    page = st.session_state["report"][1]
    st.download_button(
        f"Download the report ({len(page) / 1e6:.1f} MB)",
        data=page,
        file_name=f"{dataset.name}.html",
        mime="text/html",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        key="download_report",
    )


main()
