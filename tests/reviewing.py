"""Data sets for the tests of the review lists: an EmbeddedDataset of arrays, without files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pvu.neighbors import nearest_neighbors
from pvu.store import EmbeddedDataset


def dataset_of(
    embeddings: np.ndarray,
    *,
    labels: Sequence[str | None] | None = None,
    uncertainty: np.ndarray | None = None,
    paths: Sequence[str] | None = None,
    hashes: Sequence[str] | None = None,
    k: int = 30,
    **columns: Sequence[object],
) -> EmbeddedDataset:
    """A data set with these embeddings and their true neighbours.

    Args:
        embeddings: (N, D) float.
        labels: (N,); None for none at all.
        uncertainty: (N,) float; None for a model without a head.
        paths: (N,); by default 0.jpg, 1.jpg, ...
        hashes: (N,) content hashes; by default all different.
        k: neighbours each.
        columns: of the user's table.
    """
    count = len(embeddings)
    names = list(paths) if paths is not None else [f"{row}.jpg" for row in range(count)]
    dataset = EmbeddedDataset.__new__(EmbeddedDataset)
    dataset.path = Path("/nowhere/store")
    dataset.manifest = {
        "name": "set",
        "source": "/nowhere/set",
        "model": "fake",
        "fingerprint": "fake-1",
        "has_head": uncertainty is not None,
        "metadata_columns": list(columns),
        "created": "now",
    }
    dataset.images = pd.DataFrame(
        {
            "path": names,
            "label": pd.Series(labels if labels is not None else [None] * count, dtype=object),
            "width": 40,
            "height": 30,
            "content_hash": list(hashes) if hashes is not None else [f"hash-{name}" for name in names],
            "uncertainty": np.full(count, np.nan) if uncertainty is None else uncertainty,
            **columns,
        }
    )
    dataset.embeddings = embeddings
    dataset.neighbors, dataset.similarities = (
        nearest_neighbors(embeddings, k)
        if count > 1
        else (np.empty((count, 0), np.int32), np.empty((count, 0), np.float32))
    )
    return dataset


def clusters(labels: int, each: int, *, spread: float = 0.6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, 16) around a centre a label, and their labels (N,) int."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(labels), each)
    centres = rng.standard_normal((labels, 16))
    return centres[codes] + spread * rng.standard_normal((len(codes), 16)), codes
