"""How good a head is on upstream images that it was not trained on. Nothing downstream is looked at here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from pvu.metrics import auroc
from pvu.neighbors import nearest_neighbors
from training.cached import CachedViews


@dataclass(frozen=True)
class Retrieval:
    """The whole pictures of one source, and whether each held-out one's nearest other picture has its label.

    Args:
        rows: (n,) int, the held-out views in the cache.
        correct: (n,) bool.
    """

    rows: np.ndarray
    correct: np.ndarray


@dataclass(frozen=True)
class Validation:
    """What every head of a cache is validated on; made once, since none of it depends on the head.

    Args:
        views: the cache.
        rows: (n,) int, its held-out views.
        classified: (m,) int, positions in ``rows`` of views whose label is true.
        whole: (w,) int, positions in ``rows`` of whole pictures.
        retrieval: by source, where enough answers are wrong to tell heads apart.
    """

    views: CachedViews
    rows: np.ndarray
    classified: np.ndarray
    whole: np.ndarray
    retrieval: dict[str, Retrieval]

    def measure(self, u: np.ndarray) -> dict[str, float]:
        """Numbers of a head, from its uncertainty of the held-out views.

        Args:
            u: (n,) float, for ``rows``.

        Returns:
            auroc: of -u for the classifier being right, the paper's criterion for the best epoch.
            r_auroc/SOURCE: of -u for the nearest whole picture having the label.
            r_auroc: their mean; NaN where there is none.
            spearman/area, spearman/strength: of u and how much was cropped away, and how strongly it was degraded.
        """
        facts = self.views.facts[self.rows]
        known = self.classified
        numbers = {"auroc": auroc(facts["correct"][known], -u[known])}
        place = np.full(len(self.views), -1)
        place[self.rows] = np.arange(len(self.rows))
        for name, found in self.retrieval.items():
            numbers[f"r_auroc/{name}"] = auroc(found.correct, -u[place[found.rows]])
        r_aurocs = [value for name, value in numbers.items() if name.startswith("r_auroc/")]
        numbers["r_auroc"] = float(np.mean(r_aurocs)) if r_aurocs else float("nan")
        augmented = self.views.pass_index[self.rows] > 0
        numbers["spearman/area"] = _spearman(u[augmented], -facts["area"][augmented])
        degraded = augmented & (facts["degradation"] > 0)
        numbers["spearman/strength"] = _spearman(u[degraded], facts["strength"][degraded])
        return numbers


def prepare(views: CachedViews, names: list[str], *, least_wrong: int = 10, most_pictures: int = 100_000) -> Validation:
    """Find the held-out views of a cache and their nearest pictures.

    Args:
        views: the cache.
        names: of its sources, in order.
        least_wrong: a source with fewer wrong (or right) answers than this gives no R-AUROC.
        most_pictures: neither does one with more whole pictures, among which a search would take longer than training.

    Raises:
        ValueError: if nothing is held out, or the classifier is always right or always wrong there. Where no image has
            a true label there is no AUROC, and training can go without.
    """
    rows = np.flatnonzero(views.held_out & np.isfinite(views.facts["cross_entropy"]))
    classified = np.flatnonzero(views.known[rows])
    correct = views.facts["correct"][rows[classified]]
    if len(rows) == 0 or (len(correct) and (not correct.any() or correct.all())):
        raise ValueError(
            f"Validation needs held-out images with true labels that the classifier gets right and wrong; "
            f"found {correct.sum()} right of {len(correct)}. Set held_out of a source."
        )
    retrieval = {}
    for index, name in enumerate(names):
        found = _retrieve(views, index, most_pictures)
        if found is not None and min(found.correct.sum(), (~found.correct).sum()) >= least_wrong:
            retrieval[name] = found
    return Validation(views, rows, classified, np.flatnonzero(views.pass_index[rows] == 0), retrieval)


def _retrieve(views: CachedViews, source: int, most_pictures: int) -> Retrieval | None:
    gallery = np.flatnonzero((views.source == source) & (views.pass_index == 0))
    if not 2 <= len(gallery) <= most_pictures or not views.held_out[gallery].any():
        return None
    labels = views.facts["label"][gallery]
    if len(np.unique(labels)) == len(labels):
        return None  # one picture a label: no answer can be right
    neighbors, _ = nearest_neighbors(views.z[gallery], 1)
    queries = np.flatnonzero(views.held_out[gallery])
    return Retrieval(gallery[queries], labels[neighbors[queries, 0]] == labels[queries])


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)
