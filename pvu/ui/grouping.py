"""The table of clusters beside the map: a click narrows the map to one."""

from __future__ import annotations

import numpy as np

from pvu.store import EmbeddedDataset


def cluster_table(dataset: EmbeddedDataset, shown: np.ndarray) -> None:
    return
