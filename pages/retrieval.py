"""Search by image, with and without the uncertain images side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from pvu.analysis import KEEPS, why_not
from pvu.figures import kept_figure
from pvu.store import EmbeddedDataset
from pvu.ui.comparison import comparison_cards, precision
from pvu.ui.gallery import gallery
from pvu.ui.measures import kept_recalls
from pvu.ui.querying import ChosenQuery, choose_query, show_query, show_uncertainty
from pvu.ui.state import require_dataset, search_with
from pvu.ui.text import plain


def main() -> None:
    st.title("Search by image")
    dataset = require_dataset("the images most similar to a picture, with and without the uncertain ones")
    query = choose_query(dataset)
    if query is None:
        return
    picture, settings = st.columns([1, 4], gap="large")
    with picture:
        show_query(query)
    with settings:
        label = query.label(dataset)
        st.subheader(plain(label or query.name), anchor=False)
        if label:
            st.caption(plain(query.name))
        show_uncertainty(dataset, query)
        hide, k = controls(dataset)
    compare(dataset, query, hide, k)
    if dataset.has_uncertainty:
        whole_set(dataset, hide)


def controls(dataset: EmbeddedDataset) -> tuple[int, int]:
    left, right = st.columns([2, 1], gap="medium")
    hide = left.slider(
        "Hide the most uncertain",
        0,
        90,
        10,
        5,
        format="%d %%",
        key="hide",
        persist_state="session",
        disabled=not dataset.has_uncertainty,
        help="The share of this data set that is left out of the search on the right, the most uncertain first.",
    )
    k = right.slider(
        "Results", 4, 48, 12, 4, key="k", persist_state="session", help="How many similar images to show on each side."
    )
    return hide if dataset.has_uncertainty else 0, k


def compare(dataset: EmbeddedDataset, query: ChosenQuery, hide: int, k: int) -> None:
    limit = dataset.threshold(1 - hide / 100) if dataset.has_uncertainty else None
    everything = dataset.search(query.search_key, k)
    filtered = dataset.search(query.search_key, k, max_uncertainty=limit)
    label = query.label(dataset)
    left_cards, right_cards = comparison_cards(everything, filtered, limit=limit, label=label)
    left, right = st.columns(2, gap="large")
    with left:
        heading("All images", everything, label)
        first = gallery(dataset, left_cards, key="all", width=116)
    with right:
        heading(f"Without the most uncertain {hide} %", filtered, label)
        second = gallery(dataset, right_cards, key="filtered", width=116)
    removed = sum(card.tone == "removed" for card in left_cards)
    st.caption(summary(dataset, removed, hide))
    clicked = first if first is not None else second
    if clicked is not None:
        search_with(clicked)


def heading(title: str, results: pd.DataFrame, label: str | None) -> None:
    share = precision(results, label)
    st.subheader(title, anchor=False)
    if share is not None:
        text = f"Precision@{len(results)}: **{100 * share:.0f} %**"
        st.markdown(text, help="The share of these results that have the query's label.")


def summary(dataset: EmbeddedDataset, removed: int, hide: int) -> str:
    numbers = "Under each image: similarity, then the share of this data set that is at most as uncertain."
    if not dataset.has_uncertainty:
        return f"{numbers} This model has no uncertainty head, so both sides are the same."
    if hide == 0:
        return f"{numbers} Nothing is hidden yet: move the slider."
    if len(dataset) < 2:
        return "There is no other image to compare with."
    if removed == 0:
        return f"{numbers} None of these results is among the most uncertain {hide} %, so both sides agree."
    return f"{numbers} {removed} of the results on the left are hidden on the right; others moved up in their place."


def verdict(recalls: dict[str, np.ndarray], hide: int) -> str:
    """What the curve says at the slider's place (or the nearest one that was measured), in words."""
    place = int(np.abs(np.array(KEEPS) - (1 - hide / 100)).argmin())
    before = 100 * recalls["queries"][0]
    if place == 0:
        return f"With every image, the most similar one has the query's label in **{before:.1f} %** of the cases."
    changes = ", ".join(
        f"{part} **{100 * values[place]:.1f} %** ({100 * values[place] - before:+.1f})"
        for part, values in recalls.items()
    )
    left_out = 100 - 100 * KEEPS[place]
    return f"Recall@1 is {before:.1f} % with every image. Without the most uncertain {left_out:.0f} %: {changes}."


def whole_set(dataset: EmbeddedDataset, hide: int) -> None:
    st.subheader("Does hiding help on the whole data set?", anchor=False)
    reason = why_not(dataset)
    if reason is not None:
        st.info(plain(reason), icon=":material/label:")
        return
    recalls = kept_recalls(dataset.version, dataset)
    st.markdown(verdict(recalls, hide))
    figure = kept_figure(np.array(KEEPS), recalls, marked=1 - hide / 100)
    st.plotly_chart(figure, key="kept", config={"displayModeBar": False})
    st.caption(
        "Recall@1: how often the most similar image has the query's label, when the most uncertain images are left out "
        "of what is searched (gallery), of what is asked (queries), or of both."
    )


main()
