"""What is measured over a whole data set, computed once for all pages that show it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pvu.analysis import recall_by_kept
from pvu.store import EmbeddedDataset


@st.cache_data(max_entries=8, show_spinner="Searching with every image …")
def kept_recalls(version: str, _dataset: EmbeddedDataset) -> dict[str, np.ndarray]:
    """Recall@1 at each share of ``pvu.analysis.KEEPS``, for the gallery, the queries and both."""
    del version  # the key
    return {part: recall_by_kept(_dataset, part) for part in ("gallery", "queries", "both")}
