"""The downstream sets on which experiments report a head, and nothing is chosen: R-AUROC, crop test, degradations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from pvu.demo import make_demo
from pvu.head import UncertaintyHead
from pvu.metrics import auroc, correct_at_1, within_label_auroc
from pvu.models import Model
from pvu.neighbors import nearest_neighbors
from training.evaluate import SETS
from training.evaluation.encoding import encode_set
from training.evaluation.sets import ImageSet, find_set
from training.pretrain import predict

DEMO = "demo"
CROPPED = 500  # images of a set that the crop test looks at


@dataclass(frozen=True)
class ReportedSet:
    """A labelled set as a head sees it.

    Args:
        name: of the set.
        features: (N, D) float.
        labels: (N,) str.
        correct: (N,) bool, whether the nearest other image has the label.
        cropped: (n, D) float, of the crops of ``whole``; empty for the demo data set.
        whole: (n,) int, the images that have a crop.
        strength: (N,) float, of the degradation; empty but for the demo data set.
    """

    name: str
    features: np.ndarray
    labels: np.ndarray
    correct: np.ndarray
    cropped: np.ndarray
    whole: np.ndarray
    strength: np.ndarray

    def transformed(self, transform: Callable[[np.ndarray], np.ndarray]) -> ReportedSet:
        """The same set with other features."""
        cropped = transform(self.cropped) if len(self.cropped) else self.cropped
        return replace(self, features=transform(self.features), cropped=cropped)


@dataclass(frozen=True)
class Reports:
    """u of one head on every set: by name, of the images and of their crops."""

    sets: Sequence[ReportedSet]
    u: dict[str, np.ndarray]
    cropped: dict[str, np.ndarray]

    @classmethod
    def of(cls, sets: Sequence[ReportedSet], head: UncertaintyHead) -> Reports:
        """Compute them."""
        u = {each.name: predict(head, each.features) for each in sets}
        cropped = {each.name: predict(head, each.cropped) for each in sets if len(each.cropped)}
        return cls(sets, u, cropped)

    def numbers(self) -> dict[str, float]:
        """R-AUROC of each set and its mean, its mean within labels, the crop test's mean, Spearman on the demo."""
        labelled = [each for each in self.sets if each.name != DEMO]
        if not labelled:
            return {}
        r_auroc = {each.name: auroc(each.correct, -self.u[each.name]) for each in labelled}
        found = {"reported mean": float(np.mean(list(r_auroc.values())))}
        found |= {f"reported {name}": value for name, value in r_auroc.items()}
        inside = [within_label_auroc(each.correct, each.labels, self.u[each.name])[0] for each in labelled]
        found["reported within labels"] = float(np.mean(inside))
        whole = {each.name: self.u[each.name][each.whole] for each in self.sets}
        shares = [np.mean(whole[name] < cropped) for name, cropped in self.cropped.items()]
        found["reported crop"] = float(np.mean(shares))
        for each in self.sets:
            if each.name == DEMO:
                found["reported demo"] = float(spearmanr(self.u[DEMO], each.strength).statistic)
        return found


def load_reported(model: Model, data: Path, work: Path) -> list[ReportedSet]:
    """The four development sets and the demo, with the statistics of the trunk's stages behind z.

    Args:
        model: the backbone.
        data: the folder that holds the sets.
        work: where representations and the demo data set are kept.

    Raises:
        SourceError: if a set is missing, empty or without labels.
    """
    demo = make_demo(work / DEMO)
    strength = pd.read_csv(demo / "labels.csv", keep_default_na=False).set_index("path")["strength"]
    return [_load(model, find_set(work if name == DEMO else data, name), work, strength) for name in (*SETS, DEMO)]


def _load(model: Model, images: ImageSet, work: Path, strength: pd.Series) -> ReportedSet:
    kept = work / "encodings"
    found, decoded = encode_set(model, images, statistics=True, kept=kept)
    features, labels = found["whole"][decoded], images.labels[decoded].astype(str)
    neighbors, _ = nearest_neighbors(features[:, : model.dim], 1)
    correct, _ = correct_at_1(neighbors, labels)
    strengths, cropped, whole = np.empty(0), features[:0], np.empty(0, np.int64)
    if images.name == DEMO:
        strengths = strength[np.array(images.paths)[decoded]].to_numpy(np.float64)
    else:
        some = np.unique(np.linspace(0, len(images) - 1, CROPPED).astype(int))
        crops, readable = encode_set(model, _only(images, some), ("crop",), statistics=True, kept=kept)
        cropped, whole = crops["crop"][readable], (np.cumsum(decoded) - 1)[some[readable]]
    return ReportedSet(images.name, features, labels, correct, cropped, whole, strengths)


def _only(images: ImageSet, rows: np.ndarray) -> ImageSet:
    """A part of a set."""
    paths = tuple(images.paths[row] for row in rows)
    return replace(images, paths=paths, labels=images.labels[rows], identity=f"{images.identity}/{len(rows)}")
