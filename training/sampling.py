"""Which views a training step sees. Everything random depends on the seed and the number of the step alone.

So a run that goes on after a stop needs no state of a generator, and draws what it would have drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from training.cached import CachedViews
from training.config import TrainConfig

BLOCK = 1024  # neighbouring views that a window takes together: read from disk in one piece
_PAIRS, _WINDOWS, _DROPOUT = range(3)  # what a generator is for


def _generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, purpose, number])


@dataclass(frozen=True)
class Pools:
    """Views by what the partners of a pair must have in common.

    Args:
        rows: (n,) int, the views, pool after pool.
        starts: (P,) int, where each pool begins.
        sizes: (P,) int.
        chances: (P,) float, cumulated: how often each is drawn from.
    """

    rows: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    chances: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, views: CachedViews, weights: np.ndarray, config: TrainConfig) -> Pools:
        """Sort views (n,) into pools: one a source, and for "alike" one for its whole pictures and one for the rest."""
        key = views.source[rows].astype(np.int64) * 2
        if config.pairs == "alike":
            key += views.pass_index[rows] == 0
        order = np.argsort(key, kind="stable")
        keys, starts, sizes = np.unique(key[order], return_index=True, return_counts=True)
        chances = np.cumsum(sizes * weights[keys // 2])
        return cls(rows[order], starts, sizes, chances / chances[-1])

    def draw(self, config: TrainConfig, rng: np.random.Generator) -> np.ndarray:
        """A batch of views (B,), with replacement; consecutive ones are pairs."""
        pool = np.searchsorted(self.chances, rng.random(config.batch), side="right")
        if config.pairs != "across":
            pool[1::2] = pool[0::2]
        return self.rows[self.starts[pool] + rng.integers(0, self.sizes[pool])]


def draw_pairs(
    rows: np.ndarray, views: CachedViews, weights: np.ndarray, config: TrainConfig, *, start: int = 0
) -> Iterator[np.ndarray]:
    """Endless batches of view rows; consecutive ones are pairs.

    Args:
        rows: (n,) int, the views to draw from, ascending.
        views: the cache.
        weights: (S,) float, how often each source's views are drawn, relative to their number.
        config: batch, pairs, window and seed.
        start: number of the first step.
    """
    window, pools = -1, None
    for step in itertools.count(start):
        wanted = step // (config.window // config.batch) if config.window else 0
        if pools is None or wanted != window:
            window, pools = wanted, Pools.of(window_rows(rows, wanted, config), views, weights, config)
        yield pools.draw(config, _generator(config.seed, _PAIRS, step))


def window_rows(rows: np.ndarray, number: int, config: TrainConfig) -> np.ndarray:
    """The views that are drawn from during one window; all of them where the configuration has none.

    A pass shuffles the blocks of BLOCK neighbouring views and cuts them into windows, so that each view is in one
    window of a pass and only a window's pages need to be in memory.
    """
    if not config.window or config.window >= len(rows):
        return rows
    blocks = -(-len(rows) // BLOCK)
    each = max(1, config.window // BLOCK)
    in_turn, place = divmod(number, -(-blocks // each))
    chosen = _generator(config.seed, _WINDOWS, in_turn).permutation(blocks)[place * each : (place + 1) * each]
    return np.concatenate([rows[block * BLOCK : (block + 1) * BLOCK] for block in np.sort(chosen)])


def drop_channels(z: torch.Tensor, share: float, *, seed: int, step: int) -> torch.Tensor:
    """Dropout, in place: zero a share of the numbers in z (B, D) and scale up the rest.

    As torch's, but ten times as quick on a CPU and free of its generator's state. The share is rounded to 1 / 65,536.
    """
    if share == 0:
        return z
    drawn = _generator(seed, _DROPOUT, step).integers(0, 2**16, tuple(z.shape), np.uint16)
    threshold = round(share * 2**16)
    return z.mul_(torch.from_numpy(drawn >= threshold)).mul_(2**16 / (2**16 - threshold))
