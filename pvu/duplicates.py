"""Which images show the same picture: exactly, by the content of their files, or nearly, by their embeddings."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pvu.lists import BESIDE, ReviewList
from pvu.store import EmbeddedDataset

_NAMED = 4  # labels or splits that a sentence lists
SAME_PICTURE = 0.95
_SPLIT = re.compile(r"(train|val|dev|test)(ing|idation|id|el)?s?(?=$|[-_ .\d])", re.IGNORECASE)
_SPLIT_COLUMNS = ("split", "subset", "partition")
_SENTENCE = "Groups of images that look like one picture: the same file, or a copy recompressed, enlarged or mirrored."


def duplicates(dataset: EmbeddedDataset, *, cutoff: float = SAME_PICTURE) -> ReviewList:
    """Groups of the same picture. Groups that lie in several splits come first, then those with the most alike.

    Args:
        dataset: any.
        cutoff: cosine similarity from which two images count as one picture; copies of the same file always do.

    Returns:
        Scores are each image's similarity to the most similar of its group, 1 for copies of a file. The images of a
        group follow each other, the largest and then the most certain first: the one to keep. Beside each image are
        others of its group.
    """
    pairs, similarity, exact = _pairs(dataset, cutoff)
    if len(pairs) == 0:
        return ReviewList.empty("duplicates", _SENTENCE)
    count = len(dataset)
    links = csr_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    _, component = connected_components(links, directed=False)
    score, is_copy = np.zeros(count, np.float32), np.zeros(count, bool)
    np.maximum.at(score, pairs.ravel(), np.repeat(similarity, 2))
    is_copy[pairs[exact].ravel()] = True
    members = np.unique(pairs)
    splits = split_of(dataset)
    rows, group, leak = _ordered(dataset, members, component[members], score, splits)
    size = np.bincount(group)
    start = np.cumsum(size) - size

    def text(place: int) -> str:
        first = start[group[place]]
        others = rows[first : first + size[group[place]]]
        parts = [_likeness(len(others) - 1, float(score[rows[place]]), is_copy=bool(is_copy[rows[place]]))]
        if leak[place]:
            parts.append(f"It is in {_listed(splits[others])}.")
        if len({label for label in dataset.labels[others] if label is not None}) > 1:
            parts.append(f"Labels differ: {_listed(dataset.labels[others])}.")
        return " ".join(parts)

    beside = _others(rows, group, start, size)
    return ReviewList(
        "duplicates", _SENTENCE, rows, score[rows], cutoff, text, beside, group=group.astype(np.int32), leak=leak
    )


def _likeness(others: int, similarity: float, *, is_copy: bool) -> str:
    if others == 1:
        return "The same file as another image." if is_copy else f"Looks like another image, alike by {similarity:.2f}."
    how = "at least one is the same file" if is_copy else f"the nearest alike by {similarity:.2f}"
    return f"Looks like {others} other images, {how}."


def split_of(dataset: EmbeddedDataset) -> np.ndarray:
    """The split that each image belongs to: (N,) object, "train", "val", "test", or None if nothing says so.

    From a column "split", "subset" or "partition" of the user's table, where there is one; else from the folders of
    the image's path: train, training, train2017, val, valid, validation, dev, test, testing, test_images, ...
    """
    column = next((name for name in dataset.metadata_columns if name.lower() in _SPLIT_COLUMNS), None)
    if column is not None:
        values = dataset.images[column]
        splits = np.full(len(dataset), None, dtype=object)
        splits[values.notna()] = values.dropna().astype(str)
        return splits
    folders = dataset.images["path"].str.rpartition("/")[0]
    codes, names = pd.factorize(folders)  # as many folders as labels, not as many as images
    return np.array([_split_in(folder) for folder in names], dtype=object)[codes]


def _split_in(folders: str) -> str | None:
    for part in folders.split("/"):
        match = _SPLIT.match(part)
        if match:
            name = match[1].lower()
            return "val" if name == "dev" else name
    return None


def _pairs(dataset: EmbeddedDataset, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (p, 2) of rows that are one picture, their similarity (p,), and whether they are the same file (p,)."""
    near, place = np.nonzero(dataset.similarities >= cutoff)
    near_pairs = np.stack([near, dataset.neighbors[near, place]], axis=1)
    hashes = pd.factorize(dataset.images["content_hash"].replace("", pd.NA))[0]
    order = np.argsort(hashes, kind="stable")
    same = (hashes[order][1:] == hashes[order][:-1]) & (hashes[order][1:] >= 0)
    copies = np.stack([order[:-1][same], order[1:][same]], axis=1)
    pairs = np.concatenate([near_pairs, copies]).astype(np.int64)
    # float16 embeddings make a cosine of 1.0000007 now and then.
    similarity = np.minimum(np.concatenate([dataset.similarities[near, place], np.ones(len(copies), np.float32)]), 1)
    exact = np.arange(len(pairs)) >= len(near_pairs)
    return pairs, similarity, exact


def _ordered(
    dataset: EmbeddedDataset, members: np.ndarray, component: np.ndarray, score: np.ndarray, splits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows sorted group by group, their group numbers from 0 in that order, and whether each group leaks."""
    group = pd.factorize(component)[0]
    best = np.zeros(group.max() + 1, np.float32)
    np.maximum.at(best, group, score[members])
    pairs = pd.DataFrame({"group": group, "split": splits[members]}).dropna().drop_duplicates()
    leaking = np.bincount(pairs["group"].to_numpy(np.int64), minlength=len(best)) > 1
    rank = np.empty(len(best), np.int64)
    rank[np.lexsort((-best, ~leaking))] = np.arange(len(best))
    images = dataset.images
    pixels = images["width"].to_numpy(np.int64)[members] * images["height"].to_numpy(np.int64)[members]
    order = np.lexsort((members, dataset.uncertainty[members], -pixels, rank[group]))
    return members[order], rank[group][order], leaking[group][order]


def _others(rows: np.ndarray, group: np.ndarray, start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The first few others of each image's group, -1 behind them. (m, 5) int32."""
    own = np.arange(len(rows)) - start[group]
    step = np.arange(BESIDE)
    place = step[None] + (step[None] >= own[:, None])  # counts on over the image itself
    known = place < size[group][:, None]
    return np.where(known, rows[np.where(known, start[group][:, None] + place, 0)], -1).astype(np.int32)


def _listed(values: np.ndarray) -> str:
    names = sorted({str(value) for value in values if value is not None})
    if len(names) > _NAMED:
        names = [*names[:_NAMED], f"{len(names) - _NAMED:,} others"]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
