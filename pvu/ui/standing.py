"""How the query itself stands: its uncertainty among this data set and among all kinds of pictures, and its risk."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pvu.risk import Risk
from pvu.store import WARN_ABOVE, EmbeddedDataset
from pvu.ui.measures import risk_of, risk_reason
from pvu.ui.querying import ChosenQuery
from pvu.ui.text import plain


def known_risk(dataset: EmbeddedDataset) -> Risk | None:
    """The data set's risk; None where there is none."""
    return None if risk_reason(dataset.version, dataset) else risk_of(dataset.version, dataset)


def show_standing(dataset: EmbeddedDataset, query: ChosenQuery) -> None:
    """The query's uncertainty and risk in words, with a warning when it is uncertain."""
    if not np.isfinite(query.uncertainty):
        return
    percentile = float(dataset.percentile(query.uncertainty))
    elsewhere = float(dataset.reference_percentile(query.uncertainty))
    subject = "This picture is" if query.count == 1 else "The most uncertain of them is"
    kinds = f", and as **{elsewhere:.0f} %** of pictures of all kinds" if np.isfinite(elsewhere) else ""
    st.markdown(
        f"{subject} at least as uncertain as **{percentile:.0f} %** of the data set{kinds}.",
        help=f"u = {query.uncertainty:.3f}. Its scale has no unit; what counts is the rank, among the images here and "
        "among the pictures that the uncertainty head was measured on when it was made.",
    )
    _show_risk(dataset, query)
    if percentile >= WARN_ABOVE:
        st.warning("The picture is itself uncertain, so its results may be of little use.", icon=":material/warning:")


def _show_risk(dataset: EmbeddedDataset, query: ChosenQuery) -> None:
    reason = risk_reason(dataset.version, dataset)
    if query.count > 1:
        reason = "A risk is known for single pictures only, and these are several."
    if reason is not None:
        st.caption("Its risk is not known.", help=plain(reason))
        return
    risk = risk_of(dataset.version, dataset)
    value, proved = query_risk(dataset, query, risk)
    among = [f"{100 * alpha:g} %" for alpha, kept in proved.items() if kept]
    st.markdown(
        f"Risk that the most similar image has another label: **{100 * value:.0f} %**."
        + (f" It belongs to a group of queries of which, on average, at most {among[0]} are wrong." if among else ""),
        help="Learned from the labels: how often the nearest image was wrong for images of this data set with such an "
        "uncertainty and such a similarity to it. What is said of the queries it belongs to is proved on other images "
        "than those it was learned from, with 90 % certainty, for queries that come as the labelled images came.",
    )


def query_risk(dataset: EmbeddedDataset, query: ChosenQuery, risk: Risk) -> tuple[float, dict[float, bool]]:
    """P(the most similar image has another label) of a single picture, and which guarantees keep it."""
    if query.rows:
        row = query.rows[0]
        proved = {alpha: found is not None and bool(risk.keeps(alpha)[row]) for alpha, found in risk.guarantees.items()}
        return float(risk.values[row]), proved
    nearest = dataset.search(query.search_key, 1)
    return risk.of_query(dataset, query.uncertainty, int(nearest["row"][0]), float(nearest["similarity"][0]))
