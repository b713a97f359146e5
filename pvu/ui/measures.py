"""What is measured over a whole data set, computed once for all pages that show it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pvu.analysis import KEEPS, recall_by_kept, why_not
from pvu.review import Review, review
from pvu.risk import Risk, calibrate, why_no_risk
from pvu.store import EmbeddedDataset


@st.cache_data(max_entries=8, show_spinner="Searching with every image …")
def kept_recalls(version: str, _dataset: EmbeddedDataset) -> dict[str, np.ndarray]:
    """Recall@1 at each share of ``pvu.analysis.KEEPS``, for the gallery, the queries and both."""
    del version  # the key
    return {part: recall_by_kept(_dataset, part) for part in ("gallery", "queries", "both")}


@st.cache_data(max_entries=16, show_spinner=False)
def risk_reason(version: str, _dataset: EmbeddedDataset) -> str | None:
    """Why there is no risk, in one sentence; None if there is."""
    del version  # the key
    return why_no_risk(_dataset)


@st.cache_resource(max_entries=8, show_spinner="Learning the risk from the labels …")
def risk_of(version: str, _dataset: EmbeddedDataset) -> Risk:
    """The risk of a data set for which :func:`risk_reason` is None."""
    del version  # the key
    return calibrate(_dataset)


@st.cache_data(max_entries=16, show_spinner=False)
def evaluation_reason(version: str, _dataset: EmbeddedDataset) -> str | None:
    """Why a data set cannot be evaluated, in one sentence; None if it can."""
    del version  # the key
    return why_not(_dataset)


def verdict(recalls: dict[str, np.ndarray], hide: float) -> str:
    """What :func:`kept_recalls` say at the filter's place (or the nearest one that was measured), in words."""
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


@st.cache_resource(max_entries=8, show_spinner="Looking through the data set …")
def review_of(version: str, _dataset: EmbeddedDataset) -> Review:
    """The four review lists of a data set at their usual cut-offs."""
    del version  # the key
    return review(_dataset)
