"""Groups of images that lie together on the map, each with a name, its size and how uncertain its images are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

NONE = -1
"""The cluster of an image that belongs to none."""
# HDBSCAN compares all pairs: 10,000 points take 0.3 seconds of a core, 20,000 1.2. Of more, so many are drawn.
LIMIT = 20_000
_SEED = 0
_SMALLEST = 5
_NEIGHBORS = 3
COLUMNS = ("cluster", "name", "label_share", "size", "median_uncertainty", "median_percentile")


@dataclass(frozen=True)
class Clusters:
    """Which images lie together.

    Args:
        assignment: (N,) int32: each image's cluster, 0 for the largest and so on; -1 for an image in none.
        table: a row a cluster, largest first: ``cluster`` (int), ``name`` (the commonest label or folder, or
            "group 3"), ``label_share`` (the share of its images that have it, NaN for a group without one),
            ``size`` (images), ``median_uncertainty`` (u) and ``median_percentile`` (of the data set, in percent); both
            NaN if the model has no head.
    """

    assignment: np.ndarray
    table: pd.DataFrame

    def rows(self, cluster: int) -> np.ndarray:
        """The rows (n,) of a cluster's images; -1 gives those of no cluster."""
        return np.flatnonzero(self.assignment == cluster)


def find_clusters(coords: np.ndarray, *, limit: int = LIMIT) -> np.ndarray:
    """Cluster places on the map by HDBSCAN (Campello et al. 2013). Gives the same every time.

    The map, not the neighbour graph: with the labels of four development sets the clusters of the map have a mean
    adjusted mutual information of .67, those of the graph .36 (benchmarks/clusters.py). A cluster has at least half
    the root of N images.
    Above ``limit`` points a random sample, which keeps the density, is clustered, and every other point goes with the
    sampled point nearest to it.

    Args:
        coords: (N, 2) float.
        limit: how many points are clustered at most.

    Returns:
        (N,) int32, 0 for the largest cluster; -1 for points in none.
    """
    count = len(coords)
    if count < 2 * _SMALLEST:
        return np.full(count, NONE, np.int32)
    if count <= limit:
        return by_size(_hdbscan(coords, math.sqrt(count) / 2))
    from scipy.spatial import cKDTree

    chosen = np.sort(np.random.default_rng(_SEED).choice(count, limit, replace=False))
    sampled = _hdbscan(coords[chosen], math.sqrt(count) / 2 * limit / count)
    _, nearest = cKDTree(coords[chosen]).query(coords)
    return by_size(sampled[nearest])


def _hdbscan(coords: np.ndarray, smallest: float) -> np.ndarray:
    from sklearn.cluster import HDBSCAN

    clusterer = HDBSCAN(min_cluster_size=max(_SMALLEST, round(smallest)), min_samples=_NEIGHBORS, copy=True)
    return clusterer.fit_predict(np.asarray(coords, np.float64))


def by_size(assignment: np.ndarray) -> np.ndarray:
    """Number clusters anew, the largest 0 (of equally large ones the one that comes first), and -1 as it is.

    Args:
        assignment: (N,) int, negative for none.

    Returns:
        (N,) int32.
    """
    ids, first, sizes = np.unique(assignment[assignment >= 0], return_index=True, return_counts=True)
    numbers = np.full(len(assignment) + 1, NONE, np.int32)
    numbers[ids[np.lexsort((first, -sizes))]] = np.arange(len(ids))
    return np.where(assignment >= 0, numbers[assignment], NONE).astype(np.int32)


def describe_clusters(
    assignment: np.ndarray,
    *,
    labels: np.ndarray,
    paths: Sequence[str],
    uncertainty: np.ndarray,
    percentiles: np.ndarray,
) -> pd.DataFrame:
    """Name and measure clusters.

    Args:
        assignment: (N,) int32, -1 for none.
        labels: (N,) object, str or None.
        paths: (N,) relative, with /.
        uncertainty: (N,) float, NaN without a head.
        percentiles: (N,) float, of u in the data set.

    Returns:
        See ``Clusters.table``.
    """
    names = _names_of(labels, paths)
    rows = []
    for cluster in range(int(assignment.max(initial=NONE)) + 1):
        own = np.flatnonzero(assignment == cluster)
        name, times = _commonest(names[own])
        rows.append(
            {
                "cluster": cluster,
                "name": name if name is not None else f"group {cluster + 1}",
                "label_share": times / len(own) if name is not None else np.nan,
                "size": len(own),
                "median_uncertainty": float(np.median(uncertainty[own])),
                "median_percentile": float(np.median(percentiles[own])),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"cluster": np.int32, "size": np.int64})


def _names_of(labels: np.ndarray, paths: Sequence[str]) -> np.ndarray:
    """(N,) object: what an image may give its name to: its label, else, where no image has one, its folder."""
    if any(label is not None for label in labels):
        return labels
    folders = [path.rpartition("/")[0] for path in paths]
    several = len(set(folders)) > 1  # one folder for all of them says nothing
    return np.array([folder or None for folder in folders] if several else [None] * len(folders), dtype=object)


def _commonest(names: np.ndarray) -> tuple[str | None, int]:
    counts = Counter(name for name in names if name is not None)
    if not counts:
        return None, 0
    # Of equally common ones the first of the alphabet, so that the name does not depend on the order of rows.
    name = min(counts, key=lambda name: (-counts[name], name))
    return name, counts[name]
