"""One search for both columns, deep enough to page through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from pvu.conditions import to_json
from pvu.store import EmbeddedDataset, Queries
from pvu.ui.linking import page_number
from pvu.ui.narrowing import Narrowing
from pvu.ui.querying import ChosenQuery
from pvu.ui.text import plain
from pvu.ui.view import View

DEPTH = 480
"""Results of each column at the most: ten pages of the largest size."""


@dataclass(frozen=True)
class Found:
    """What was found.

    Args:
        everything: results without the filter by uncertainty, as ``EmbeddedDataset.search`` gives them.
        filtered: results with it.
        k: on a page of each column.
        why_empty: what to do if there are none.
    """

    everything: pd.DataFrame
    filtered: pd.DataFrame
    k: int
    why_empty: str

    def page_number(self) -> int:
        """Show the page numbers, and give the chosen one."""
        return page_number(max(1, -(-max(len(self.everything), len(self.filtered)) // self.k)))

    def summary(self, narrowing: Narrowing, removed: int) -> str:
        """What the two columns show, in words.

        Args:
            narrowing: the filter of the right one.
            removed: how many images of the left one's page the right one hides.
        """
        numbers = "Under each image: similarity, then the share of this data set that is at most as uncertain."
        if self.everything.empty:
            return self.why_empty
        if narrowing.reason is not None:
            return f"{numbers} {narrowing.reason}, so both sides are the same."
        if removed == 0:
            return f"{numbers} None of these results is among {narrowing.hidden}, so both sides agree on them."
        return (
            f"{numbers} {removed} of the results on the left are hidden on the right; others moved up in their place."
        )


def find(
    dataset: EmbeddedDataset, query: ChosenQuery, narrowing: Narrowing, view: View, allowed: np.ndarray | None
) -> Found:
    """Search with and without the filter by uncertainty, both under the conditions on columns.

    Args:
        dataset: what is searched.
        query: what with.
        narrowing: the filter of the right column.
        view: the page's settings.
        allowed: (N,) bool, the images that meet the conditions on columns; None for all.
    """
    key = (dataset.version, query.cache_key, view.similarity, to_json(view.where))
    everything = _search(*key, "", dataset, query.search_key, allowed)
    filtered = everything
    if narrowing.kept is not None:
        both = narrowing.kept if allowed is None else narrowing.kept & allowed
        filtered = _search(*key, narrowing.key, dataset, query.search_key, both)
    return Found(everything, filtered, view.k, _why_empty(dataset, view, allowed))


@st.cache_data(max_entries=64, show_spinner="Searching …")
def _search(
    version: str,
    query: str,
    similarity: float,
    where: str,
    narrowed: str,
    _dataset: EmbeddedDataset,
    _query: Queries,
    _allowed: np.ndarray | None,
) -> pd.DataFrame:
    del version, query, where, narrowed  # the key: hashing masks would take longer than searching
    return _dataset.search(_query, DEPTH, allowed=_allowed, min_similarity=similarity if similarity > 0 else None)


def _why_empty(dataset: EmbeddedDataset, view: View, allowed: np.ndarray | None) -> str:
    if len(dataset) < 2:
        return "There is no other image to compare with."
    if allowed is not None and not allowed.any():
        return plain("No image meets the conditions. Take one of them back under “Only images with”.")
    if view.similarity > 0:
        return f"No image is as similar as {view.similarity:.2f}. Lower the limit under “Similarity at least”."
    return "No other image meets the conditions."
