"""The labelled sets that a model is evaluated on: which images, which labels, and halves of the labels."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pvu.errors import SourceError
from pvu.metrics import has_label
from pvu.sources import find_images

HALVES = ("all", "first-half", "second-half")


@dataclass(frozen=True)
class ImageSet:
    """The images of one labelled set.

    Args:
        name: the folder under the data directory.
        root: that folder.
        paths: (N,) relative to it, with /, sorted.
        labels: (N,) object, str or None.
        identity: a hash of paths, sizes and times: whether this is the set that was encoded before.
    """

    name: str
    root: Path
    paths: tuple[str, ...]
    labels: np.ndarray
    identity: str

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def files(self) -> list[Path]:
        return [self.root / path for path in self.paths]


def find_set(data: Path, name: str, *, half: str = "all") -> ImageSet:
    """A set's images, with labels from its folder names or its labels.csv (see :func:`pvu.sources.find_images`).

    Args:
        data: the folder that holds the sets.
        name: of the set's folder.
        half: of HALVES: "all" labels, or one half of them in class order (URL tests CUB and CARS on the second).

    Raises:
        SourceError: if the set is missing, empty or without labels.
        ValueError: if there is no such half.
    """
    root = data / name
    if not root.is_dir():
        raise SourceError(f"There is no folder {name} in {data}. Unpack the data set there, or leave it out of --sets.")
    found = find_images(root)
    found = found[found["error"].isna()]
    labels = found["label"].to_numpy(dtype=object)
    if not has_label(labels).any():
        raise SourceError(
            f"The images in {root} have no labels, so Recall@1 cannot be measured. Put them into one folder per label, "
            "or add a labels.csv with the columns path and label."
        )
    kept = _of_half(labels, half)
    found, labels = found[kept], labels[kept]
    return ImageSet(name, root, tuple(found["path"]), labels, _identity(found))


def _of_half(labels: np.ndarray, half: str) -> np.ndarray:
    if half not in HALVES:
        raise ValueError(f"classes must be one of {', '.join(HALVES)}, got {half!r}.")
    if half == "all":
        return np.ones(len(labels), bool)
    ordered = sorted({str(label) for label in labels[has_label(labels)]}, key=class_order)
    middle = len(ordered) // 2
    chosen = set(ordered[:middle] if half == "first-half" else ordered[middle:])
    return np.array([label in chosen for label in labels], dtype=bool)


def class_order(label: str) -> list[tuple[int, int, str]]:
    """The key that sorts labels in class order: by name, numbers in it by value ("2" before "10")."""
    parts = re.findall(r"\d+|\D+", label)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _identity(found: pd.DataFrame) -> str:
    listed = found[["path", "bytes", "mtime_ns"]].to_json(orient="split")
    return hashlib.blake2b(str(listed).encode(), digest_size=16).hexdigest()
