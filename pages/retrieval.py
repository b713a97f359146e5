"""Search by image, with and without the uncertain images side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from pvu.analysis import KEEPS
from pvu.figures import kept_figure
from pvu.progress import counted
from pvu.store import EmbeddedDataset
from pvu.ui.comparison import comparison_cards, precision, results_table
from pvu.ui.gallery import gallery
from pvu.ui.linking import current_view, remember, set_page
from pvu.ui.measures import evaluation_reason, kept_recalls, verdict
from pvu.ui.narrowing import Narrowing, allowed_images, column_filter, uncertainty_filter
from pvu.ui.panel import open_image
from pvu.ui.querying import ChosenQuery, choose_query, show_query
from pvu.ui.searching import find
from pvu.ui.standing import known_risk, show_standing
from pvu.ui.state import require_dataset
from pvu.ui.text import plain
from pvu.ui.view import RESULTS, View


def main() -> None:
    st.title("Search by image")
    dataset = require_dataset("the images most similar to a picture, with and without the uncertain ones")
    st.caption(plain(f"{dataset.name} · {counted(len(dataset), 'image')} · {dataset.manifest['model']}"))
    before = current_view(dataset)
    query = choose_query(dataset, before)
    if query is None:
        remember(dataset, before)
        return
    picture, settings = st.columns([1, 4], gap="large")
    with picture:
        show_query(query)
    with settings:
        st.subheader(plain(query.title), anchor=False)
        if query.title not in query.names:
            st.caption(plain(", ".join(query.names)))
        standing = st.container()
        narrowing, view = controls(dataset, before)
    if replace(view, page=1) != replace(before, page=1):
        set_page(1)
    compare(dataset, query, narrowing, view)
    with standing:  # the first time the risk is learned from the labels: the results need not wait for it
        show_standing(dataset, query)
    if dataset.has_uncertainty:
        whole_set(dataset, narrowing)


def controls(dataset: EmbeddedDataset, before: View) -> tuple[Narrowing, View]:
    """Every setting of the page but the results' page number."""
    narrowing, view = uncertainty_filter(dataset, before)
    left, middle, right = st.columns([3, 1, 1], gap="medium")
    with left:
        view = column_filter(dataset, view)
    similarity = middle.slider(
        "Similarity at least",
        0.0,
        1.0,
        step=0.01,
        key="similarity",
        help="The cosine to the query, for both sides; 1 is identical. Empty at 0: no limit.",
    )
    k = right.slider("Results", *RESULTS, step=4, key="k", help="How many similar images a page has on each side.")
    return narrowing, replace(view, similarity=similarity, k=k)


def compare(dataset: EmbeddedDataset, query: ChosenQuery, narrowing: Narrowing, view: View) -> None:
    found = find(dataset, query, narrowing, view, allowed_images(dataset, view))
    holder = st.container()
    with st.container(horizontal_alignment="center"):
        page = found.page_number()
    view = replace(view, page=page)
    remember(dataset, view)
    shown = slice((page - 1) * view.k, page * view.k)
    cards = comparison_cards(
        found.everything, found.filtered, kept=narrowing.kept, label=query.label, mark=narrowing.mark, page=shown
    )
    with holder:
        columns = st.columns(2, gap="large")
        titles = ("All images" if not view.where else "All images that meet the conditions", narrowing.title)
        for column, side, title, results, own in zip(
            columns, ("all", "filtered"), titles, (found.everything, found.filtered), cards, strict=True
        ):
            with column:
                heading(title, results[shown], query.label)
                open_image(gallery(dataset, own, key=side, width=116))
                download(dataset, results, side)
    st.caption(found.summary(narrowing, sum(card.tone == "removed" for card in cards[0])))


def heading(title: str, results: pd.DataFrame, label: str | None) -> None:
    share = precision(results, label)
    st.subheader(title, anchor=False)
    if share is not None:
        text = f"Precision@{len(results)}: **{100 * share:.0f} %**"
        st.markdown(text, help="The share of these results that have the query's label.")


def download(dataset: EmbeddedDataset, results: pd.DataFrame, side: str) -> None:
    st.download_button(
        f"Download {counted(len(results), 'result')} as CSV",
        data=lambda: results_table(dataset, results, known_risk(dataset)).to_csv(index=False),
        file_name=f"{dataset.name}-{side}.csv",
        mime="text/csv",
        icon=":material/download:",
        key=f"download_{side}",
        type="tertiary",
        disabled=results.empty,
        on_click="ignore",
        help="All pages of this column: original paths, similarities, uncertainties, percentiles, risks, your columns.",
    )


def whole_set(dataset: EmbeddedDataset, narrowing: Narrowing) -> None:
    st.subheader("Does hiding help on the whole data set?", anchor=False)
    reason = evaluation_reason(dataset.version, dataset)
    if reason is not None:
        st.info(plain(reason), icon=":material/label:")
        return
    hide = 0.0 if narrowing.kept is None or narrowing.mark != "too uncertain" else 100 * (1 - narrowing.kept.mean())
    recalls = kept_recalls(dataset.version, dataset)
    st.markdown(verdict(recalls, hide))
    figure = kept_figure(np.array(KEEPS), recalls, marked=1 - hide / 100)
    st.plotly_chart(figure, key="kept", config={"displayModeBar": False})
    st.caption(
        "Recall@1: how often the most similar image has the query's label, when the most uncertain images are left out "
        "of what is searched (gallery), of what is asked (queries), or of both."
    )


main()
