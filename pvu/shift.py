"""A second data set on the map of a first: training against deployment, last month against this.

Two things can shift apart from each other: how uncertain the images are (blurred, dark, cropped), and what they show
(images that are like nothing in the first set). Both are measured against the first set, called A; the second is B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, wasserstein_distance

from pvu.clusters import NONE
from pvu.errors import QueryError
from pvu.neighbors import cross_neighbors
from pvu.progress import counted
from pvu.store import BROUGHT, EmbeddedDataset

NEIGHBORS = 15
"""Neighbours that the two-sample statistic looks at."""
# An image is placed by its ten nearest; a similarity of .05 less than the best has a third of its weight.
_PLACED_BY = 10
_SOFTNESS = 0.05
_BLOCK = 8192  # images placed in one go
_SAME = 0.9995  # an image that is on the map already lies where it lay
UNCERTAIN = 90.0
"""Percentile of A above which an image counts as uncertain."""
FAR = 95.0
"""An image of B is far if it is farther from A than this share, in percent, of A's own images are from each other."""
# Below these a difference is called none, however many images say so: with 50,000 any difference is significant.
_SMALL_STATISTIC, _SMALL_P = 0.05, 0.01
# A region of A counts as not visited if no image of B is there, of at least this many that would be.
_EXPECTED = 3.0


@dataclass(frozen=True)
class TwoSamples:
    """How one number is distributed in A and in B.

    Args:
        a: (N,) float32 values of A.
        b: (M,) float32 values of B.
        statistic: of Kolmogorov and Smirnov, in [0, 1]: the largest gap between the two cumulative distributions.
        p: how often two random parts of one set would differ as much; two-sided.
        distance: of Wasserstein, in the unit of the values: how far they have to be moved on average to be alike.
    """

    a: np.ndarray
    b: np.ndarray
    statistic: float
    p: float
    distance: float

    @property
    def alike(self) -> bool:
        """Whether the difference is too small, or too likely by chance, to speak of."""
        return self.statistic < _SMALL_STATISTIC or self.p > _SMALL_P


@dataclass(frozen=True)
class Shift:
    """How a set B differs from a set A.

    Args:
        coords: (M, 2) float32, where B's images lie on A's map.
        neighbors: (M, k) int32, the rows of A nearest to each image of B, nearest first.
        similarities: (M, k) float32, the cosines that belong to them.
        similarity: the cosine to the nearest image of A: for A the nearest other one, for B the nearest at all.
        percentiles: u as percentiles of A; None if there is no uncertainty.
        uncertain_share: of B above A's UNCERTAIN percentile; NaN without uncertainty. 0.1 if the sets are alike.
        far: (M,) bool, images of B that are farther from A than FAR percent of A's own.
        share_of_a: of A among the NEIGHBORS nearest images of an image of B in both sets together, on average
            (Schilling 1986, seen from B).
        expected_share: the same if who belongs to which set were drawn by lot.
        regions: a row for each cluster of A that has a name: ``cluster``, ``name``, ``images_a``, ``images_b``,
            ``share_a``, ``share_b`` and ``visited``, the least visited first. Far images of B visit none.
    """

    coords: np.ndarray
    neighbors: np.ndarray
    similarities: np.ndarray
    similarity: TwoSamples
    percentiles: TwoSamples | None
    uncertain_share: float
    far: np.ndarray
    share_of_a: float
    expected_share: float
    regions: pd.DataFrame

    @property
    def far_share(self) -> float:
        """The share of B that is far from A; 0.05 if the sets are alike."""
        return float(self.far.mean())

    @property
    def same_share(self) -> float:
        """The share of B that A has too: the same picture, or as good as."""
        return float((self.similarity.b > _SAME).mean())

    @property
    def farthest(self) -> np.ndarray:
        """(M,) int rows of B, the farthest from A first."""
        return np.argsort(self.similarity.b, kind="stable")


def why_not(a: EmbeddedDataset, b: EmbeddedDataset) -> str | None:
    """Why two data sets cannot be compared, in one sentence; None if they can."""
    return f"{b.name} is the open data set itself." if b.path == a.path else why_not_these(a.manifest, b.manifest)


def why_not_these(a: dict[str, Any], b: dict[str, Any]) -> str | None:
    """As :func:`why_not`, from the manifests of two stores alone, so that neither need be opened."""
    if a["fingerprint"] != b["fingerprint"]:
        if BROUGHT in (a["model"], b["model"]):
            if a["model"] != b["model"]:
                brought, made = (a, b) if a["model"] == BROUGHT else (b, a)
                return f"The embeddings of {brought['name']} were brought, those of {made['name']} made here."
            return (
                f"Nothing says that the embeddings of {b['name']} and {a['name']} are from one model: bring both with "
                "the same name for what made them."
            )
        if a["model"] == b["model"]:
            return f"{b['name']} was embedded with other weights of {b['model']} than {a['name']}: embed both again."
        return f"{b['name']} was embedded with {b['model']}, {a['name']} with {a['model']}: embed both with one model."
    small = next((manifest["name"] for manifest in (a, b) if manifest["counts"]["images"] < 2), None)
    return None if small is None else f"{small} has one image only."


def compare(a: EmbeddedDataset, b: EmbeddedDataset, *, progress: Callable[[float], None] | None = None) -> Shift:
    """How B differs from A, and where its images lie on A's map.

    Args:
        a: the set that is compared with, whose map it is.
        b: the other one, made with the same model.
        progress: gets the share that is done, in [0, 1], now and then.

    Raises:
        QueryError: if they cannot be compared; the message is :func:`why_not`'s.
    """
    reason = why_not(a, b)
    if reason is not None:
        raise QueryError(reason)
    indices, similarities = cross_neighbors(b.embeddings, a.embeddings, NEIGHBORS, progress=progress)
    similarity = two_samples(a.similarities[:, 0], similarities[:, 0])
    far = similarity.b < np.percentile(similarity.a, 100 - FAR)
    known = a.has_uncertainty and b.has_uncertainty
    return Shift(
        coords=place(a.coords, indices, similarities),
        neighbors=indices,
        similarities=similarities,
        similarity=similarity,
        percentiles=two_samples(a.percentiles, a.percentile(b.uncertainty)) if known else None,
        uncertain_share=float((a.percentile(b.uncertainty) > UNCERTAIN).mean()) if known else float("nan"),
        far=far,
        share_of_a=share_of_others(b.similarities, similarities),
        expected_share=len(a) / (len(a) + len(b) - 1),
        regions=visits(a, indices[:, 0], far),
    )


def two_samples(a: np.ndarray, b: np.ndarray) -> TwoSamples:
    """Compare the distributions of a number: (N,) and (M,) float."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    test = ks_2samp(a, b, method="asymp")
    return TwoSamples(a, b, float(test.statistic), float(test.pvalue), float(wasserstein_distance(a, b)))


def place(coords: np.ndarray, neighbors: np.ndarray, similarities: np.ndarray) -> np.ndarray:
    """Where new images lie on a map: amid that half of their nearest images on it that lie together.

    The weighted mean of the ten nearest would lie in the empty space between two groups of them. So the neighbour is
    taken that lies nearest to all others (the weighted medoid), and the mean of the half that is nearest to it. Of
    held-out fifths of three development sets half come within 1.4, 1.3 and 4.8 % of the way between two random images
    of where UMAP itself had put them, and their neighbours on the map have their label as often as after
    ``umap.transform`` or more often, which takes a hundred times as long.

    Args:
        coords: (N, 2) float32, the map.
        neighbors: (M, k) int rows on it, nearest first.
        similarities: (M, k) float32 cosines.

    Returns:
        (M, 2) float32.
    """
    placed = np.empty((len(neighbors), 2), np.float32)
    for start in range(0, len(neighbors), _BLOCK):
        part = slice(start, start + _BLOCK)
        near, cosines = coords[neighbors[part, :_PLACED_BY]], similarities[part, :_PLACED_BY]
        weights = np.exp((cosines - cosines[:, :1]) / _SOFTNESS)
        weights[cosines[:, 0] > _SAME, 1:] = 0
        apart = np.linalg.norm(near[:, :, None] - near[:, None], axis=3)
        medoid = np.einsum("mij,mj->mi", apart, weights).argmin(axis=1)
        from_medoid = apart[np.arange(len(near)), medoid]
        weights[from_medoid > np.median(from_medoid, axis=1, keepdims=True)] = 0
        placed[part] = np.einsum("mk,mkc->mc", weights / weights.sum(axis=1, keepdims=True), near)
    return placed


def share_of_others(own: np.ndarray, others: np.ndarray, *, k: int = NEIGHBORS) -> float:
    """The share of another set among the k nearest images, in both sets together, of a set's images.

    Args:
        own: (M, i) float32, each image's similarities to its nearest others of its own set, best first.
        others: (M, j) float32, to the nearest of the other set, best first.
        k: neighbours; fewer where there are fewer.
    """
    together = np.concatenate([own[:, :k], others[:, :k]], axis=1)
    is_other = np.arange(together.shape[1]) >= min(k, own.shape[1])
    k = min(k, together.shape[1])
    nearest = np.argsort(-together, axis=1, kind="stable")[:, :k]
    return float(is_other[nearest].mean())


def visits(a: EmbeddedDataset, nearest: np.ndarray, far: np.ndarray) -> pd.DataFrame:
    """How many images of B lie in each cluster of A, as ``Shift.regions``.

    Args:
        a: the set whose clusters they are.
        nearest: (M,) int, the row of A nearest to each image of B.
        far: (M,) bool, images that lie nowhere in A.
    """
    clusters = a.clusters
    there = clusters.assignment[nearest[~far]]
    regions = clusters.table.loc[clusters.table["cluster"] != NONE, ["cluster", "name", "size"]]
    regions = regions.rename(columns={"size": "images_a"}).reset_index(drop=True)
    counts = np.bincount(there[there >= 0], minlength=int(regions["cluster"].max()) + 1 if len(regions) else 0)
    regions["images_b"] = counts[regions["cluster"].to_numpy(int)] if len(regions) else 0
    regions["share_a"] = regions["images_a"] / len(a)
    regions["share_b"] = regions["images_b"] / len(nearest)
    regions["visited"] = (regions["images_b"] > 0) | (regions["share_a"] * len(nearest) < _EXPECTED)
    order = (regions["share_b"] / regions["share_a"]).to_numpy(float)
    return regions.iloc[np.lexsort((-regions["images_a"].to_numpy(), order))].reset_index(drop=True)


def sentences(a: EmbeddedDataset, b: EmbeddedDataset, shift: Shift) -> dict[str, str]:
    """What each number means for these two sets, in one sentence: "uncertainty", "distance", "mixing" and "regions"."""
    said = {"distance": _distance(a, b, shift), "mixing": _mixing(a, b, shift), "regions": _regions(a, b, shift)}
    return said if shift.percentiles is None else {"uncertainty": _uncertainty(a, b, shift), **said}


def _uncertainty(a: EmbeddedDataset, b: EmbeddedDataset, shift: Shift) -> str:
    found = shift.percentiles
    assert found is not None
    if found.alike:
        return f"{b.name} is about as uncertain as {a.name}."
    more = np.median(found.b) > np.median(found.a)
    share = f"{100 * shift.uncertain_share:.0f} % of {b.name} is more uncertain than 90 % of {a.name}"
    return (
        f"{b.name} is {'more' if more else 'less'} uncertain than {a.name}: {share} (10 % if they were alike), and the "
        f"distributions lie {found.distance:.0f} percentiles apart."
    )


def _distance(a: EmbeddedDataset, b: EmbeddedDataset, shift: Shift) -> str:
    share = f"{100 * shift.far_share:.0f} % of {b.name} is farther from {a.name} than 95 % of {a.name}'s own images are"
    # Half a percent would be written as 1 %, less as none.
    same = f" {100 * shift.same_share:.0f} % of {b.name} is in {a.name} too." if shift.same_share >= 0.005 else ""
    if shift.similarity.alike:
        return f"{b.name} lies as near to {a.name} as {a.name}'s images lie to each other.{same}"
    if np.median(shift.similarity.b) > np.median(shift.similarity.a) and shift.far_share <= 1 - FAR / 100:
        return f"{b.name} lies nearer to {a.name} than {a.name}'s images lie to each other.{same}"
    return f"{b.name} shows other things than {a.name}: {share} (5 % if they were alike).{same}"


def _mixing(a: EmbeddedDataset, b: EmbeddedDataset, shift: Shift) -> str:
    ratio = shift.share_of_a / shift.expected_share
    how = "hardly mix" if ratio < 0.5 else "mix in part" if ratio < 0.9 else "mix well"
    return (
        f"The two sets {how}: of the {NEIGHBORS} images nearest to one of {b.name}, {100 * shift.share_of_a:.0f} % are "
        f"from {a.name} ({100 * shift.expected_share:.0f} % if it were by lot)."
    )


def _regions(a: EmbeddedDataset, b: EmbeddedDataset, shift: Shift) -> str:
    missed = shift.regions[~shift.regions["visited"]]
    if shift.regions.empty:
        return f"{a.name} has no clusters that {b.name} could miss."
    if missed.empty:
        return f"{b.name} has images in every cluster of {a.name} that is large enough to tell."
    return (
        f"{b.name} has no image in {len(missed):,} of {counted(len(shift.regions), 'cluster')} of {a.name}, which "
        f"{'holds' if len(missed) == 1 else 'hold'} {100 * missed['share_a'].sum():.0f} % of {a.name}."
    )
