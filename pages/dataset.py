"""Choose images and a model, watch the run, and see what came out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from pvu.figures import uncertainty_histogram
from pvu.jobs import Status
from pvu.progress import counted
from pvu.store import EmbeddedDataset
from pvu.ui.explainer import explainer
from pvu.ui.gallery import gallery_of
from pvu.ui.intake import choose_source, demo_button
from pvu.ui.library import known_sets, open_again, stopped_runs
from pvu.ui.panel import open_image
from pvu.ui.runs import show_run, watched_job
from pvu.ui.state import PAGES, close_store, current_dataset, open_store
from pvu.ui.text import plain

SHOWN = 12
FEW = 10  # images, below which shares of the data set say little


def main() -> None:
    dataset = current_dataset()
    job = watched_job("embed") or watched_job("bring")
    if job is not None:
        st.title("Looking at your images")
        show_run(job, open_result)
    elif dataset is None:
        welcome()
    else:
        overview(dataset)


def open_result(status: Status) -> None:
    open_store(Path(status.store))


def welcome() -> None:
    st.title("Which of your images are uncertain?")
    known = known_sets()
    if not known:
        meaning()
        demo()
    stopped_runs()
    open_again(known)
    st.subheader("Your own images", anchor=False)
    choose_source()
    if known:
        st.subheader("What uncertainty means here", anchor=False)
        meaning()
        demo()


def meaning() -> None:
    st.markdown(
        "pvu gives every image a number that says **how hard it is to tell what it shows**: high for blurred, cropped, "
        "dark, covered or ambiguous pictures, low for clear ones. It needs no labels and no training on your images."
    )
    explainer()


def demo() -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        demo_button()
        st.caption("432 views of 18 photographs, clear and made worse by a known amount. No download, about a minute.")


def overview(dataset: EmbeddedDataset) -> None:
    title, other = st.columns([4, 1], vertical_alignment="bottom")
    title.title(plain(dataset.name))
    made = f"embedded with {dataset.manifest['model']}" if dataset.has_encoder else "embeddings of your own"
    title.caption(plain(f"{dataset.source} · {made}"))
    if other.button("Other images …", icon=":material/folder_open:", width="stretch"):
        close_store()
        st.rerun()
    counts(dataset)
    ways_on()
    if dataset.has_uncertainty and len(dataset) < FEW:
        st.subheader("Your images, the most uncertain first", anchor=False)
        open_image(gallery_of(dataset, np.argsort(-dataset.uncertainty, kind="stable"), key="few"))
        st.caption(f"Of fewer than {FEW} images shares of the data set say little: look at the pictures.")
    elif dataset.has_uncertainty:
        st.subheader("The most certain and the most uncertain", anchor=False)
        extremes(dataset)
        st.subheader("How uncertainty is spread", anchor=False)
        st.plotly_chart(uncertainty_histogram(dataset), key="histogram", config={"displayModeBar": False})
    elif not dataset.has_encoder:
        st.warning(
            "These embeddings came without uncertainties: the map and the search work, but nothing can be said about "
            "those. Bring them again with a column named uncertainty, or let the default model look at the images.",
            icon=":material/help:",
        )
    else:
        st.warning(
            f"The model {plain(dataset.manifest['model'])} has no uncertainty head, so the map and the search work, "
            "but nothing can be said about uncertainty. Choose the default model, or fit a head for this one to "
            "labelled images.",
            icon=":material/help:",
        )
        st.page_link(PAGES["training"], label="Fit a head to your labels", icon=":material/school:")


def ways_on() -> None:
    with st.container(horizontal=True, gap="medium"):
        st.page_link(PAGES["map"], label="See them on the map", icon=":material/scatter_plot:")
        st.page_link(PAGES["review"], label="Review the doubtful ones", icon=":material/rule:")
        st.page_link(PAGES["retrieval"], label="Search by image", icon=":material/image_search:")
        st.page_link(PAGES["evaluation"], label="Measure against labels", icon=":material/query_stats:")
        st.page_link(PAGES["export"], label="Export", icon=":material/ios_share:")


def counts(dataset: EmbeddedDataset) -> None:
    labels = len({label for label in dataset.labels if label is not None})
    columns = st.columns(3)
    columns[0].metric("Images", f"{len(dataset):,}", help="Images that were read and embedded.", border=True)
    columns[1].metric(
        "Left out",
        f"{len(dataset.failed):,}",
        help="Files that are no images or could not be read. They are listed below with the reason.",
        border=True,
    )
    columns[2].metric(
        "Labels", f"{labels:,}" if labels else "none", help="From folder names, or from a labels.csv.", border=True
    )
    if len(dataset.failed):
        with st.expander(f"{counted(len(dataset.failed), 'file')} left out", icon=":material/broken_image:"):
            st.dataframe(
                dataset.failed.rename(columns={"path": "File", "error": "Why"}), hide_index=True, width="stretch"
            )


def extremes(dataset: EmbeddedDataset) -> None:
    order = np.argsort(dataset.uncertainty, kind="stable")
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Most certain**: usually clear, whole and in focus")
        certain = gallery_of(dataset, order[:SHOWN], key="certain", width=104)
    with right:
        st.markdown("**Most uncertain**: usually blurred, dark, cropped or ambiguous")
        uncertain = gallery_of(dataset, order[::-1][:SHOWN], key="uncertain", width=104)
    st.caption(
        "Under each image: the share of this data set that is at most as uncertain. Click one to look at it closely."
    )
    open_image(certain if certain is not None else uncertain)


main()
