"""One list of images to review: what is on it, in which order, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np

BESIDE = 5
"""Images shown beside each as evidence, at the most."""


def _no_text(_place: int) -> str:
    return ""


@dataclass(frozen=True)
class ReviewList:
    """Images with one thing to be said of them, the clearest case first.

    "Place" is where an image stands in the list, from 0.

    Args:
        name: "ambiguous", "mislabelled", "duplicates" or "outliers".
        sentence: what the list holds.
        rows: (m,) int64 rows of the data set.
        scores: (m,) float32, descending, but in duplicates group by group; what they mean depends on the list.
        cutoff: the lowest score listed.
        text: the evidence for a place, as a sentence made when it is asked for.
        beside: (m, at most 5) int32 rows to show as evidence, -1 for none.
        suggested: (m,) object, the label an image should perhaps have; None throughout where no label is suggested.
        group: (m,) int32, equal for images that belong together; each its own where that is not the question.
        leak: (m,) bool, whether an image's group lies in several splits, such as train and val.
        missing: why the list has to be empty, in a sentence; "" if it need not.
    """

    name: str
    sentence: str
    rows: np.ndarray
    scores: np.ndarray
    cutoff: float
    text: Callable[[int], str]
    beside: np.ndarray
    suggested: np.ndarray = field(default_factory=lambda: np.empty(0, object))
    group: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    leak: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    missing: str = ""

    def __post_init__(self) -> None:
        count = len(self.rows)
        defaults = {"suggested": np.full(count, None), "group": np.arange(count), "leak": np.zeros(count, bool)}
        for name, value in defaults.items():
            if len(getattr(self, name)) != count:
                object.__setattr__(self, name, value)

    @classmethod
    def empty(cls, name: str, sentence: str, *, missing: str = "") -> Self:
        """A list without images, and why."""
        nothing = np.empty(0, np.int64)
        return cls(name, sentence, nothing, nothing, 0, _no_text, np.empty((0, BESIDE), np.int32), missing=missing)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {row: place for place, row in enumerate(self.rows.tolist())}

    def place(self, row: int) -> int | None:
        """Where a row stands in the list; None if it is not on it."""
        return self._places.get(row)

    def above(self, cutoff: float) -> Self:
        """The same list with a higher cut-off, without looking at the images again. Not for duplicates, whose groups
        depend on the cut-off."""
        count = int(np.searchsorted(-self.scores, -cutoff, side="right"))
        parts = {
            name: getattr(self, name)[:count] for name in ("rows", "scores", "beside", "suggested", "group", "leak")
        }
        return replace(self, cutoff=cutoff, **parts)
