"""Which images probably carry a wrong label: their neighbours agree on another one.

A vote on the kNN graph, after three ideas. Labels spread along similarities (Zhou et al., "Learning with local and
global consistency", 2004), two steps of it, so that one neighbour with a wrong label is outvoted by its own
neighbours; an image's own label never comes back to it. Support is divided by what is usual for a label, as in
confident learning (Northcutt et al., arXiv 1911.00068), so that a rare or mixed label is not suspect as a whole. And
u: the word of an uncertain image counts for less, and less is made of its label, since it may just be hard to tell.
Measured in benchmarks/review.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, diags

from pvu.lists import BESIDE, ReviewList
from pvu.store import WARN_ABOVE, EmbeddedDataset

OTHER_LABEL = 0.8
"""The usual cut-off: four fifths of the support for the two labels in question."""
_NEARNESS = 0.1
"""The fall in similarity over which a neighbour's vote falls to 1/e."""
_DOUBT = 0.3
"""How much less the most uncertain image counts than the most certain one, as a voter and as a suspect."""
_LEAST = 0.01
"""Support that every label has: without it two votes against none would be beyond doubt."""
_SENTENCE = "Images whose label may be wrong: the images that look like them agree on another one."


@dataclass(frozen=True)
class Suspicion:
    """What the neighbours say of each image's label.

    Args:
        score: (N,) float32 in [0, 1): the share of the support for the two labels that goes to the other one, drawn
            towards one half for uncertain images; 0 where an image has no label or no labelled neighbour.
        other: (N,) int32, the best supported other label's code; -1 where there is none.
    """

    score: np.ndarray
    other: np.ndarray


def mislabelled(dataset: EmbeddedDataset, *, cutoff: float = OTHER_LABEL) -> ReviewList:
    """Images whose neighbours agree on another label than theirs, clear ones first.

    Args:
        dataset: any; without two labels the list is empty and says so.
        cutoff: in [0.5, 1): the share of support that another label must have against the image's own.

    Returns:
        Scores are those shares; each image has the label that is suggested, and beside it those of its neighbours that
        carry it, nearest first.
    """
    if not dataset.has_labels:
        return ReviewList.empty("mislabelled", _SENTENCE, missing=_no_labels(dataset))
    codes, names = pd.factorize(pd.Series(dataset.labels, dtype=object), use_na_sentinel=True)
    percentiles = dataset.percentiles if dataset.has_uncertainty else np.zeros(len(dataset), np.float32)
    found = suspicion(dataset.neighbors, dataset.similarities, codes, percentiles)
    order = np.argsort(-found.score, kind="stable")
    rows = order[found.score[order] >= max(cutoff, 0.5)]
    suggested = np.asarray(names, dtype=object)[found.other[rows]]
    neighbor_codes = codes[dataset.neighbors[rows]]
    agrees = neighbor_codes == found.other[rows, None]
    same = (neighbor_codes == codes[rows, None]).sum(axis=1)

    def text(place: int) -> str:
        row = rows[place]
        count = dataset.neighbors.shape[1]
        own, other = dataset.labels[row], suggested[place]
        carry = f"{agrees[place].sum()} of its {count} nearest images are “{other}”, {same[place]} are “{own}”"
        carry += f"; the nearest and clearest count most, which makes {_share(found.score[row])} for “{other}”"
        if not dataset.has_uncertainty:
            return f"{carry}."
        if dataset.percentiles[row] > WARN_ABOVE:
            return f"{carry}; but the picture itself is hard to tell."
        return f"{carry}; {100 - dataset.percentiles[row]:.0f} % of the images are less clear."

    beside = _first(dataset.neighbors[rows], agrees)
    return ReviewList("mislabelled", _SENTENCE, rows, found.score[rows], cutoff, text, beside, suggested)


def _share(score: float) -> str:
    return f"{100 * score:.0f} %"


def suspicion(neighbors: np.ndarray, similarities: np.ndarray, codes: np.ndarray, percentiles: np.ndarray) -> Suspicion:
    """Weigh each image's label against its neighbours' labels.

    Args:
        neighbors: (N, k) int rows of the kNN graph, nearest first.
        similarities: (N, k) float, their cosines.
        codes: (N,) int labels from 0; -1 for none.
        percentiles: (N,) float in [0, 100] of u; zeros if there is no u.
    """
    codes = np.asarray(codes, np.int32)
    trust = (1 - _DOUBT * percentiles / 100).astype(np.float32)
    support = label_support(neighbors, similarities, codes, trust)
    voted = np.repeat(np.arange(len(codes)), np.diff(support.indptr))
    is_own = support.indices == codes[voted]
    own = np.bincount(voted[is_own], support.data[is_own], len(codes))
    labelled = codes >= 0
    usual = np.bincount(codes[labelled], own[labelled]) / np.maximum(np.bincount(codes[labelled]), 1)
    usual = np.sqrt(np.maximum(usual, 0.05))
    own = np.where(labelled, own / usual[codes], 0)
    values = np.where(is_own, 0, support.data / usual[support.indices])
    best, other = _best(values, support, voted)
    odds = np.log(best + _LEAST) - np.log(own + _LEAST)
    score = 1 / (1 + np.exp(-odds * np.where(odds > 0, trust, 1)))
    silent = ~labelled | (best <= 0)
    score[silent], other[silent] = 0, -1
    return Suspicion(score.astype(np.float32), other)


def label_support(neighbors: np.ndarray, similarities: np.ndarray, codes: np.ndarray, trust: np.ndarray) -> csr_matrix:
    """How much of each image's neighbourhood speaks for each label, its own word left out.

    The mean of two distributions: the labels of its neighbours in the graph, in either direction, and the labels of
    theirs.

    Args:
        neighbors: (N, k) int.
        similarities: (N, k) float.
        codes: (N,) int; -1 for none.
        trust: (N,) float, what each image's word counts.

    Returns:
        (N, C) sparse float32; rows sum to 1, or are empty where no neighbour has a label.
    """
    count, k = neighbors.shape
    labelled = codes >= 0
    closeness = np.exp((similarities - similarities[:, :1]) / _NEARNESS).astype(np.float32)
    one_way = csr_matrix((closeness.ravel(), neighbors.ravel(), np.arange(count + 1) * k), (count, count))
    links = (one_way + one_way.T).tocsr()
    links.data *= (trust * labelled)[links.indices]
    rows = np.flatnonzero(labelled)
    shape = (count, int(codes.max(initial=0)) + 1)
    given = csr_matrix((np.ones(len(rows), np.float32), (rows, codes[rows])), shape)
    inverse = _inverse(links)
    direct = inverse @ (links @ given)
    # What an image has told its neighbours comes back in the second step, and is taken out of it.
    echo = np.asarray(links.multiply((inverse @ links).T).sum(axis=1)).ravel()[rows]
    further = links @ direct - csr_matrix((echo, (rows, codes[rows])), shape)
    further.data = np.maximum(further.data, 0)
    return ((direct + _inverse(further) @ further) / 2).tocsr()


def _inverse(matrix: csr_matrix) -> csr_matrix:
    """A diagonal that makes rows sum to 1; rows of zeros stay so."""
    total = np.asarray(matrix.sum(axis=1), np.float32).ravel()
    return diags(np.divide(1, total, out=np.zeros_like(total), where=total > 0))


def _best(values: np.ndarray, support: csr_matrix, voted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's largest value, and its column."""
    count = support.shape[0]
    best, column = np.zeros(count), np.full(count, -1, np.int32)
    filled = np.diff(support.indptr) > 0
    if filled.any():
        best[filled] = np.maximum.reduceat(values, support.indptr[:-1][filled])
    hits = np.flatnonzero((values == best[voted]) & (values > 0))[::-1]
    column[voted[hits]] = support.indices[hits]  # of equals the last written stays: the lowest code
    return best, column


def _first(neighbors: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The first few wanted neighbours of each row, -1 behind them. (m, at most 5) int32."""
    order = np.argsort(~wanted, axis=1, kind="stable")[:, :BESIDE]
    chosen = np.take_along_axis(neighbors, order, axis=1)
    return np.where(np.take_along_axis(wanted, order, axis=1), chosen, -1).astype(np.int32)


def _no_labels(dataset: EmbeddedDataset) -> str:
    return (
        f"This list compares labels, and {dataset.name} has "
        + ("one label only" if any(label is not None for label in dataset.labels) else "none")
        + ". Put the images into one folder per label, or add a labels.csv with the columns path and label."
    )
