"""Do the clusters of the map go with labels, better than those of the neighbour graph, and are they quick?

    python -m benchmarks.clusters [DATASET ...]

DATASET is a labelled folder that was embedded (default: the demo, which is embedded if need be). For each: how many
clusters, the share of images in one, purity (the share of those that have their cluster's commonest label) and adjusted
mutual information with the labels (1: the same, 0: by chance; images in no cluster count as one more cluster), for the
map (``pvu.clusters.find_clusters``) and for HDBSCAN with the same settings on the cosine distances of the neighbour
graph. Then the time for made-up maps of several sizes.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, csr_matrix
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_mutual_info_score

from pvu.clusters import LIMIT, find_clusters
from pvu.demo import make_demo
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset

SIZES = (10_000, 20_000, 50_000, 300_000)
_NEIGHBORS = 15  # as many as UMAP looks at


def of_graph(dataset: EmbeddedDataset) -> np.ndarray:
    """(N,) clusters by HDBSCAN on the graph; images without a common neighbour are as far as opposite vectors."""
    count = len(dataset)
    k = min(_NEIGHBORS, dataset.neighbors.shape[1])
    distances = np.maximum(1 - dataset.similarities[:, :k].astype(float), 1e-6)
    edges = (np.repeat(np.arange(count), k), dataset.neighbors[:, :k].ravel())
    graph = csr_array((distances.ravel(), edges), shape=(count, count))
    smallest = max(5, round(math.sqrt(count) / 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts that are not connected
        clusterer = HDBSCAN(
            min_cluster_size=smallest,
            min_samples=3,
            metric="precomputed",
            metric_params={"max_dist": 2.0},
            copy=True,
        )
        return clusterer.fit_predict(csr_matrix(graph.maximum(graph.T)))


def describe(assignment: np.ndarray, labels: np.ndarray) -> str:
    inside = assignment >= 0
    counts = pd.crosstab(assignment[inside], labels[inside])
    purity = counts.max(axis=1).sum() / max(inside.sum(), 1)
    information = adjusted_mutual_info_score(labels, assignment)
    return f"{counts.shape[0]:10}{inside.mean():10.2f}{purity:10.3f}{information:10.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("datasets", nargs="*", help="labelled folders that were embedded, or stores")
    arguments = parser.parse_args()
    opened = [EmbeddedDataset.open(name) for name in arguments.datasets] or [embed(make_demo())]
    print(f"{'':28}{'clusters':>10}{'in one':>10}{'purity':>10}{'AMI':>10}")
    for dataset in opened:
        known = np.array([label is not None for label in dataset.labels])
        labels = dataset.labels[known].astype(str)
        for name, assignment in (("map", find_clusters(dataset.coords)), ("graph", of_graph(dataset))):
            print(f"{dataset.name[:20]:20}{name:>8}{describe(assignment[known], labels)}")
    rng = np.random.default_rng(0)
    for size in SIZES:
        centres = rng.uniform(-10, 10, (100, 2))
        coords = centres[rng.integers(100, size=size)] + 0.3 * rng.standard_normal((size, 2))
        start = time.process_time()
        found = find_clusters(coords)
        seconds = time.process_time() - start
        sampled = f"of {LIMIT:,} sampled" if size > LIMIT else ""
        print(f"{size:>9,} points: {seconds:6.2f} CPU seconds, {found.max() + 1} clusters {sampled}")


if __name__ == "__main__":
    main()
