"""What is worth a look: four lists of images, each with its own score and its own reason, never mixed into one.

*Ambiguous* images are hard to tell by themselves. *Likely mislabelled* ones are clear, but look like another label
(:mod:`pvu.mislabelled`). *Duplicates* show the same picture (:mod:`pvu.duplicates`). *Outliers* are clear and like
nothing else in the set. All come from the store: u, labels, content hashes, and the kNN graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pvu.duplicates import SAME_PICTURE, duplicates
from pvu.lists import BESIDE, ReviewList
from pvu.mislabelled import OTHER_LABEL, mislabelled
from pvu.store import EmbeddedDataset

AMBIGUOUS_FROM = 90.0
OUTLIERS_FROM = 98.0
CLEAR_UP_TO = 50.0
_NEAREST = 5
"""Neighbours whose mean distance makes an outlier: a rare image and its copy are still rare."""


@dataclass(frozen=True)
class Finding:
    """Why one image is on one list.

    Args:
        name: of the list.
        text: the evidence, in a sentence.
    """

    name: str
    text: str


@dataclass(frozen=True)
class Review:
    """The four lists of a data set at their usual cut-offs.

    Args:
        lists: "ambiguous", "mislabelled", "duplicates", "outliers", by name.
    """

    lists: dict[str, ReviewList]

    def membership(self, row: int) -> list[Finding]:
        """Which lists an image is on, and why. Takes microseconds."""
        findings = []
        for name, found in self.lists.items():
            place = found.place(row)
            if place is not None:
                findings.append(Finding(name, found.text(place)))
        return findings


def review(dataset: EmbeddedDataset) -> Review:
    """All four lists; some seconds for 50,000 labelled images. Keep the result by ``dataset.version``."""
    makers = (ambiguous, mislabelled, duplicates, outliers)
    return Review({found.name: found for found in (make(dataset) for make in makers)})


def ambiguous(dataset: EmbeddedDataset, *, cutoff: float = AMBIGUOUS_FROM) -> ReviewList:
    """Images with a high u: what they show is hard to tell, whatever they are labelled.

    Args:
        dataset: any; without uncertainties the list is empty and says so.
        cutoff: in [0, 100]: at least as uncertain as this percentage of the data set.

    Returns:
        Scores are percentiles of this data set; beside each image are its nearest neighbours.
    """
    sentence = (
        "The most uncertain images of this data set: hard to tell by themselves, be it that they are blurred, dark, "
        "cropped, covered, or of several things."
    )
    if not dataset.has_uncertainty:
        return ReviewList.empty("ambiguous", sentence, missing=_no_head(dataset))
    order = np.argsort(-dataset.uncertainty, kind="stable")
    rows = order[dataset.percentiles[order] >= cutoff]
    reference = dataset.reference_percentile(dataset.uncertainty[rows])

    def text(place: int) -> str:
        here = f"At least as uncertain as {_percent(dataset.percentiles[rows[place]])} of this data set"
        if np.isnan(reference[place]):
            return f"{here}."
        elsewhere = f"{_percent(reference[place])} of the pictures that its model was measured on"
        if reference[place] < 50:
            return f"{here}; clear beside other pictures, though: as uncertain as {elsewhere}."
        return f"{here}, and as {elsewhere}."

    beside = dataset.neighbors[rows, :BESIDE]
    if len(rows) and np.median(reference) < 50:  # False for NaN, where there is no reference
        sentence += (
            f" This set is clear as a whole: the typical image of this list is as uncertain as "
            f"{_percent(np.median(reference))} of the pictures that its model was measured on."
        )
    return ReviewList("ambiguous", sentence, rows, dataset.percentiles[rows], cutoff, text, beside)


def outliers(
    dataset: EmbeddedDataset, *, cutoff: float = OUTLIERS_FROM, clear_up_to: float = CLEAR_UP_TO
) -> ReviewList:
    """Clear images that are far from all others: rare, or strays, but not bad pictures.

    How far is one minus the mean similarity to the five nearest images, so that a pair of rare images counts as rare.

    Args:
        dataset: any; without uncertainties unclear images are among them, and the sentence says so.
        cutoff: in [0, 100]: farther from its neighbours than this percentage of the clear images.
        clear_up_to: in [0, 100]: clear means a u at or below this percentile of the data set.

    Returns:
        Scores are percentiles of that distance among the clear images; beside each image are its nearest neighbours.
    """
    sentence = "Clear images that look like nothing else here: rare cases to keep, or strays to take out."
    if not dataset.has_uncertainty:
        sentence = "Images that look like nothing else here. Without uncertainties, bad pictures are among them."
    if dataset.neighbors.shape[1] == 0:
        return ReviewList.empty("outliers", sentence, missing="One image alone has no others to be far from.")
    distance = 1 - dataset.similarities[:, :_NEAREST].mean(axis=1)
    clear = dataset.percentiles <= clear_up_to if dataset.has_uncertainty else np.ones(len(dataset), bool)
    ranked = np.sort(distance[clear])
    scores = (100 * np.searchsorted(ranked, distance) / max(len(ranked), 1)).astype(np.float32)
    order = np.argsort(-distance, kind="stable")
    rows = order[clear[order] & (scores[order] >= cutoff)]
    typical = float(np.median(dataset.similarities[:, 0]))

    def text(place: int) -> str:
        row = rows[place]
        far = f"Its most similar image is alike by {dataset.similarities[row, 0]:.2f}, usual here is {typical:.2f}"
        if not dataset.has_uncertainty:
            return f"{far}."
        return f"{far}; {_percent(100 - dataset.percentiles[row])} of the images are less clear."

    return ReviewList("outliers", sentence, rows, scores[rows], cutoff, text, dataset.neighbors[rows, :BESIDE])


def _percent(value: float) -> str:
    return f"{value:.0f} %"


def _no_head(dataset: EmbeddedDataset) -> str:
    return (
        f"The model {dataset.manifest['model']} has no uncertainty head, so it cannot say which images are ambiguous. "
        "Embed with the default model, or fit a head for this one."
    )


__all__ = [
    "AMBIGUOUS_FROM",
    "CLEAR_UP_TO",
    "OTHER_LABEL",
    "OUTLIERS_FROM",
    "SAME_PICTURE",
    "Finding",
    "Review",
    "ReviewList",
    "ambiguous",
    "duplicates",
    "mislabelled",
    "outliers",
    "review",
]
