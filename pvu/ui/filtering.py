"""The map's filters: a range of uncertainty, words in paths and labels, and one cluster."""

from __future__ import annotations

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pvu.store import EmbeddedDataset

CLUSTER = "map_cluster"
"""Session key of the cluster that the map is narrowed to; set by the table of clusters."""


def map_filter(dataset: EmbeddedDataset, left: DeltaGenerator, right: DeltaGenerator) -> np.ndarray:
    """Show the filters.

    Args:
        dataset: any.
        left: where the search field goes.
        right: where the range of uncertainty goes.

    Returns:
        (N,) bool, the images that pass all of them.
    """
    text = left.text_input(
        "Find in paths and labels", key="map_find", bind="query-params", placeholder="cat, 2021/05, …"
    )
    shown = matching(dataset.version, text.strip(), dataset)
    if dataset.has_uncertainty:
        low, high = right.slider(
            "Show uncertainty percentiles",
            0,
            100,
            (0, 100),
            format="%d %%",
            key="range",
            bind="query-params",
            help="0 is the most certain image of this data set, 100 the most uncertain.",
        )
        if (low, high) != (0, 100):
            shown = shown & (dataset.percentiles >= low) & (dataset.percentiles <= high)
    cluster = chosen_cluster(dataset)
    if cluster is not None:
        shown = shown & (dataset.clusters.assignment == cluster)
    return shown


def chosen_cluster(dataset: EmbeddedDataset) -> int | None:
    """The cluster that the map is narrowed to."""
    version, cluster = st.session_state.get(CLUSTER, (None, None))
    return cluster if version == dataset.version else None


@st.cache_data(max_entries=32, show_spinner=False)
def matching(version: str, text: str, _dataset: EmbeddedDataset) -> np.ndarray:
    """(N,) bool: the images whose path or label holds a text, in upper or lower case."""
    del version  # the key
    if not text:
        return np.ones(len(_dataset), bool)
    found = _dataset.images["path"].str.contains(text, case=False, regex=False)
    found |= _dataset.images["label"].fillna("").astype(str).str.contains(text, case=False, regex=False)
    return found.to_numpy(bool)
