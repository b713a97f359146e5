"""How much people disagree on each image: the entropy of their labels, from an array or a table of votes.

.npy  (M, C) probabilities or counts, as CIFAR-10H's ``cifar10h-probs.npy``: row i belongs to the image whose file name
      ends in the number i (``cat/test_00042.png`` is row 42), so it does not matter how the images lie in folders.
.csv  one line an image and label: the columns path (relative to the set's folder), label and votes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from pvu.errors import SourceError

COLUMNS = ("path", "label", "votes")


def human_entropies(file: Path, paths: Sequence[str]) -> np.ndarray:
    """Entropies of human labels.

    Args:
        file: .npy or .csv, see above.
        paths: (N,) of the set's images, relative to its folder, with /.

    Returns:
        (N,) float64, nats; NaN for images without human labels.

    Raises:
        SourceError: if the file cannot be read, is of another form, or speaks of none of the images.
    """
    if not file.is_file():
        raise SourceError(f"There is no file of human labels at {file}.")
    if file.suffix == ".npy":
        found = _from_array(file, paths)
    elif file.suffix == ".csv":
        found = _from_votes(file, paths)
    else:
        raise SourceError(f"Human labels must be a .npy or .csv file, got {file.name}.")
    if np.isnan(found).all():
        raise SourceError(f"{file} has labels of none of the {len(paths)} images; the first is {paths[0]}.")
    return found


def entropy(votes: np.ndarray) -> np.ndarray:
    """Entropy in nats of each row of counts or probabilities (n, C), normalised; NaN where a row has none: (n,)."""
    total = votes.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = votes / total
        result = -np.where(p > 0, p * np.log(p), 0).sum(axis=1)
    return np.where(total[:, 0] > 0, np.abs(result), np.nan)  # abs: the entropy of one sure label is -0.0


def _from_array(file: Path, paths: Sequence[str]) -> np.ndarray:
    try:
        votes = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SourceError(f"Cannot read {file}: {error}. Expected a .npy array (images, classes).") from error
    if votes.ndim != 2 or votes.dtype.kind not in "iuf" or not (np.isfinite(votes).all() and (votes >= 0).all()):
        raise SourceError(f"{file} holds {votes.dtype} {votes.shape}; expected counts (images, classes) from 0 on.")
    numbers = [re.search(r"(\d+)$", PurePosixPath(path).stem) for path in paths]
    unnamed = next((path for path, number in zip(paths, numbers, strict=True) if number is None), None)
    if unnamed is not None:
        raise SourceError(
            f"Row i of {file.name} belongs to the image whose name ends in the number i, but {unnamed} ends in none. "
            "Rename the images, or give a CSV with the columns path, label and votes."
        )
    rows = np.array([int(number[1]) for number in numbers if number])
    if len(np.unique(rows)) < len(rows) or rows.max(initial=0) >= len(votes):
        raise SourceError(
            f"The numbers at the end of the images' names must be different rows of {file.name} (of {len(votes)}); "
            f"found {len(np.unique(rows))} of {len(rows)} different, up to {rows.max()}."
        )
    return entropy(np.asarray(votes[rows], np.float64))


def _from_votes(file: Path, paths: Sequence[str]) -> np.ndarray:
    try:
        table = pd.read_csv(file, dtype={"path": str, "label": str}, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise SourceError(f"Cannot read {file}: {error}. Expected a CSV in UTF-8.") from error
    if not set(COLUMNS) <= set(table.columns):
        raise SourceError(f"{file} has the columns {list(table.columns)}, but needs {', '.join(COLUMNS)}.")
    votes = pd.to_numeric(table["votes"], errors="coerce").to_numpy(np.float64)
    if not (np.isfinite(votes).all() and (votes >= 0).all()):
        line = int(np.flatnonzero(~(votes >= 0) | ~np.isfinite(votes))[0])
        raise SourceError(f"Votes must be numbers from 0 on; line {line + 2} of {file} has {table['votes'][line]!r}.")
    # (image, label) pairs, not (images, labels): ImageNet-ReaL would be 50,000 x 1,000 numbers, nearly all zero.
    pairs = table.assign(votes=votes).groupby(["path", "label"])["votes"].sum()
    total = pairs.groupby("path").transform("sum")
    share = (pairs / total)[(pairs > 0) & (total > 0)]
    by_image = -(share * np.log(share)).groupby("path").sum()
    return np.abs(by_image.reindex(list(paths)).to_numpy(np.float64))
