"""A linear head in closed form: least squares on the differences of all pairs, seconds instead of epochs.

The ranking loss looks at the order of one pair at a time. Here u is to differ, within every pair, by as much as the
ranks of the two task losses do (squared error), and large weights are shrunk by a ridge: RankRLS (Pahikkala et al.,
"Learning to Rank with Regularized Least-Squares", 2007). Over all pairs of a pool that is ridge regression on what is
left of representations and ranks after each pool's own mean is taken off. Ranks make it as free of the losses' scale
as the ranking loss. There is no draw in it, and so no seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata

from pvu.head import UncertaintyHead
from training.cached import CachedViews
from training.config import TrainConfig
from training.guards import TrainingError

BLOCK = 4096  # views at a time
FLAT = 1e-6  # spread of the fitted ranks, in [0, 1], below which they are rounding errors
SLOPE = 0.01  # of the head's LeakyReLU below zero


@dataclass(frozen=True)
class Moments:
    """What least squares over all pairs needs of the views: sums of products within pools.

    Args:
        scatter: (D, D) float64, of the features about their pool's mean.
        products: (D,) float64, of features and ranks about theirs.
        mean: (D,) float64, over all views.
        count: weighted number of views.
    """

    scatter: np.ndarray
    products: np.ndarray
    mean: np.ndarray
    count: float


def fit_linear(views: CachedViews, goal: np.ndarray, weights: np.ndarray, config: TrainConfig) -> UncertaintyHead:
    """The head that minimises the mean over pairs of ((u0 - u1) - (rank0 - rank1))^2, before its softplus.

    Args:
        views: the cache.
        goal: (V,) float, what u is to be ordered by; NaN where a view is not trained on.
        weights: (S,) float, how much each source's views count.
        config: ``pairs`` says which views are compared, ``standardize`` whether channels are brought to one variance,
            ``ridge`` how strongly weights are shrunk then.

    Returns:
        A head on ``views.features`` as they are, see :func:`as_head`; softplus leaves the order as it is.

    Raises:
        ValueError: if fewer than two views have a goal.
        TrainingError: if a representation is not finite, or the ranks have nothing to do with the representations.
    """
    rows = np.flatnonzero(np.isfinite(goal) & (weights[views.source] > 0))
    if len(rows) < 2:
        raise ValueError(f"Found {len(rows)} training views with {config.task_losses}; a pair needs 2.")
    with np.errstate(invalid="ignore"):  # said below
        found = _moments(views.features, pools(views, rows, config.pairs), goal, weights[views.source])
    if not np.isfinite(found.scatter).all():
        raise TrainingError("A representation is not finite: a shard of the cache is damaged. Make the cache again.")
    std = np.sqrt(found.scatter.diagonal() / found.count)
    # As in training.loop: channels that hardly move are not blown up.
    std = np.maximum(std, 0.1 * std.mean()) if config.standardize else np.ones(len(std))
    correlation = found.scatter / np.outer(std, std) / found.count
    shrunk = correlation + config.ridge * correlation.diagonal().mean() * np.eye(len(std))
    weight = np.linalg.solve(shrunk, found.products / std / found.count) / std
    spread = float(np.sqrt(weight @ found.scatter @ weight / found.count))
    if not spread > FLAT:
        raise TrainingError("The task losses have no linear relation to the representations: u would be constant.")
    return as_head(weight / spread, -float(weight @ found.mean) / spread)


def pools(views: CachedViews, rows: np.ndarray, pairs: str) -> list[np.ndarray]:
    """Views (n,) by what the partners of a pair have in common, see :class:`training.config.TrainConfig`."""
    key = np.zeros(len(rows), np.int64)
    if pairs != "across":
        key = views.source[rows].astype(np.int64) * 2
    if pairs == "alike":
        key += views.pass_index[rows] == 0
    return [rows[key == value] for value in np.unique(key)]


def _moments(features: np.ndarray, members: list[np.ndarray], goal: np.ndarray, weight: np.ndarray) -> Moments:
    dim = features.shape[1]
    scatter, products, total, count = np.zeros((dim, dim)), np.zeros(dim), np.zeros(dim), 0.0
    for rows in members:
        w = weight[rows].astype(np.float64)
        ranks = rankdata(goal[rows]) / len(rows)
        ranks -= np.average(ranks, weights=w)
        sums, squares, mixed = np.zeros(dim), np.zeros((dim, dim)), np.zeros(dim)
        for start in range(0, len(rows), BLOCK):
            inside = slice(start, start + BLOCK)
            block = np.asarray(features[rows[inside]], np.float32)
            weighted = block * w[inside, None].astype(np.float32)
            squares += weighted.T @ block
            sums += weighted.sum(axis=0, dtype=np.float64)
            mixed += weighted.T @ ranks[inside].astype(np.float32)
        scatter += squares - np.outer(sums, sums) / w.sum()
        products += mixed  # the ranks have no mean left, so the representations' does not matter
        total += sums
        count += float(w.sum())
    return Moments(scatter, products, total / count, count)


def as_head(weight: np.ndarray, bias: float) -> UncertaintyHead:
    """The head with u = softplus(z @ weight + bias) + 1e-6, in the paper's architecture with two units a layer.

    One unit carries x and the other -x: LeakyReLU(x) - LeakyReLU(-x) is 1.01 x on either side of zero.

    Args:
        weight: (D,) float.
        bias: of the linear function.
    """
    head = UncertaintyHead(len(weight), hidden=2).eval().requires_grad_(False)
    first, second, third = (layer for layer in head.layers if isinstance(layer, torch.nn.Linear))
    row = torch.from_numpy(np.asarray(weight, np.float32))
    first.weight.copy_(torch.stack([row, -row]))
    first.bias.copy_(torch.tensor([bias, -bias]))
    pair = torch.tensor([[1.0, -1.0]]) / (1 + SLOPE)
    second.weight.copy_(torch.cat([pair, -pair]))
    third.weight.copy_(pair)
    torch.nn.init.zeros_(second.bias)
    torch.nn.init.zeros_(third.bias)
    return head
