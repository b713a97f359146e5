"""Kinds of upstream images that a head can be trained without, and judged on. Nothing downstream is read.

By what the pictures look like:

    small      Tiny-ImageNet; judged on its validation pictures
    photos     photographs of ImageNet; judged on Imagenette, against a gallery of 10 a label (with all of them only 78
               answers would be wrong), mean of 5 galleries
    guessed    the unlabelled photographs, the classifier's guess as the label

By what they show, of every source:

    animals    labels below 398 in ImageNet-1k's order; judged on those of Tiny-ImageNet validation, and on the
               unlabelled photographs that are guessed to be some
    things     the others
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pvu.metrics import auroc
from pvu.neighbors import nearest_neighbors, normalized
from training.cached import CachedViews

GALLERY = 10  # pictures a label
GALLERIES = 5
ANIMALS = 398  # ImageNet-1k's classes 0 to 397
Queries = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Fold:
    """One kind of images.

    Args:
        name: of the kind.
        left_out: (V,) bool, the views that are not trained on.
        queries: rows of whole pictures (n,) int and whether each answer is right (n,) bool, one pair a gallery.
        degraded: (d,) int, rows of degraded views of the kind.
    """

    name: str
    left_out: np.ndarray
    queries: list[Queries]
    degraded: np.ndarray

    def rows(self) -> np.ndarray:
        """Every view that the fold needs u of, ascending."""
        return np.unique(np.concatenate([self.degraded, *(rows for rows, _ in self.queries)]))

    def r_auroc(self, u: np.ndarray) -> float:
        """R-AUROC, mean over galleries, from u (V,) of which :meth:`rows` must be there."""
        return float(np.mean([auroc(correct, -u[rows]) for rows, correct in self.queries]))


def make_folds(views: CachedViews, names: list[str]) -> list[Fold]:
    """The five folds of a cache.

    Args:
        views: the cache.
        names: of its sources, in order.

    Raises:
        ValueError: if a source is missing.
    """
    needed = ("tiny_imagenet_train", "tiny_imagenet_val", "imagenet_photos", "imagenette_photos", "unlabelled_photos")
    if missing := sorted(set(needed) - set(names)):
        raise ValueError(f"The folds need the sources {', '.join(missing)}, which the configuration lacks.")
    index = {name: row for row, name in enumerate(names)}
    validation, unlabelled = (_whole(views, index[name]) for name in ("tiny_imagenet_val", "unlabelled_photos"))
    animal = views.facts["label"] < ANIMALS

    def of(*sources: str) -> np.ndarray:
        return np.isin(views.source, [index[name] for name in sources])

    def showing(kind: np.ndarray) -> list[Queries]:
        return [_all_others(views, rows[kind[rows]]) for rows in (validation, unlabelled)]

    kinds = {
        "small": (of("tiny_imagenet_train", "tiny_imagenet_val"), [_all_others(views, validation)]),
        "photos": (of("imagenet_photos", "imagenette_photos"), _small_galleries(views, index["imagenette_photos"])),
        "guessed": (of("unlabelled_photos"), [_all_others(views, unlabelled)]),
        "animals": (animal, showing(animal)),
        "things": (~animal, showing(~animal)),
    }
    degraded = views.facts["degradation"] > 0
    return [Fold(name, out, queries, np.flatnonzero(out & degraded)) for name, (out, queries) in kinds.items()]


def _whole(views: CachedViews, source: int) -> np.ndarray:
    return np.flatnonzero((views.source == source) & (views.pass_index == 0))


def _all_others(views: CachedViews, rows: np.ndarray) -> Queries:
    labels = views.facts["label"][rows]
    neighbors, _ = nearest_neighbors(views.z[rows], 1)
    return rows, labels[neighbors[:, 0]] == labels


def _small_galleries(views: CachedViews, source: int) -> list[Queries]:
    rows = _whole(views, source)
    labels, vectors = views.facts["label"][rows], normalized(views.z[rows])
    found = []
    for seed in range(GALLERIES):
        rng = np.random.default_rng(seed)
        drawn = [rng.choice(np.flatnonzero(labels == label), GALLERY, replace=False) for label in np.unique(labels)]
        gallery = np.concatenate(drawn)
        queries = np.setdiff1d(np.arange(len(rows)), gallery)
        nearest = (vectors[queries] @ vectors[gallery].T).argmax(axis=1)
        found.append((rows[queries], labels[gallery][nearest] == labels[queries]))
    return found
