from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from tests.training.cached_views import QUICK, make_views
from training.cached import CachedViews
from training.sampling import BLOCK, draw_pairs, drop_channels, window_rows


@pytest.fixture
def views() -> CachedViews:
    return make_views()


@pytest.mark.parametrize("pairs", ["across", "within", "alike"])
def test_pairs_and_weights(views: CachedViews, pairs: str) -> None:
    views.pass_index[::2] = 1
    rows = np.flatnonzero(~views.held_out)
    config = replace(QUICK, batch=2000, pairs=pairs)
    batch = next(draw_pairs(rows, views, np.array([1.0, 3.0]), config))
    assert not views.held_out[batch].any()
    drawn = views.source[batch]
    assert (drawn == 1).mean() == pytest.approx(3 * 800 / (1200 + 3 * 800), abs=0.05)
    same_source = (drawn[0::2] == drawn[1::2]).mean()
    assert same_source == 1 if pairs != "across" else 0.45 < same_source < 0.7
    same_kind = (views.pass_index[batch[0::2]] == views.pass_index[batch[1::2]]).mean()
    assert same_kind == 1 if pairs == "alike" else 0.4 < same_kind < 0.6


def test_every_view_of_a_pool_is_drawn_equally_often(views: CachedViews) -> None:
    rows = np.flatnonzero(~views.held_out)
    config = replace(QUICK, batch=1000)
    drawn = np.concatenate(list(islice(draw_pairs(rows, views, np.ones(2), config), 140)))
    counts = np.bincount(drawn, minlength=len(views))[rows]
    assert (counts > 0).all()
    assert counts.sum() == 140_000
    expected = 140_000 / len(rows)
    assert ((counts - expected) ** 2 / expected).sum() / len(rows) == pytest.approx(1, abs=0.15)  # chi-squared


def test_a_later_start_draws_what_would_have_come(views: CachedViews) -> None:
    rows = np.arange(2000)
    config = replace(QUICK, window=1024, pairs="within")
    steps = list(islice(draw_pairs(rows, views, np.ones(2), config), 60))
    assert not np.array_equal(steps[0], steps[1])
    for start in (1, 17, 40):
        later = islice(draw_pairs(rows, views, np.ones(2), config, start=start), 20)
        np.testing.assert_array_equal(list(later), steps[start : start + 20])


def test_windows_are_whole_blocks_and_each_view_is_in_one_window_of_a_pass() -> None:
    rows = np.arange(0, 3 * 7 * BLOCK, 3)  # seven blocks
    config = replace(QUICK, window=2 * BLOCK)
    passes = [[window_rows(rows, number, config) for number in range(first, first + 4)] for first in (0, 4)]
    for windows in passes:
        assert sorted(map(len, windows)) == [BLOCK, 2 * BLOCK, 2 * BLOCK, 2 * BLOCK]
        np.testing.assert_array_equal(np.sort(np.concatenate(windows)), rows)
    assert not np.array_equal(passes[0][0], passes[1][0])


def test_a_batch_stays_inside_its_window(views: CachedViews) -> None:
    rows, config = np.arange(2000), replace(QUICK, window=1024)
    draws = draw_pairs(rows, views, np.ones(2), config)
    for step in range(64):  # 16 steps a window
        assert np.isin(next(draws), window_rows(rows, step // 16, config)).all()
    assert len(window_rows(rows, 0, config)) < 2000 == len(window_rows(rows, 0, QUICK))


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    z = torch.ones(400, 500)
    dropped = drop_channels(z.clone(), 0.3, seed=1, step=5)
    assert (dropped == 0).float().mean() == pytest.approx(0.3, abs=0.005)
    assert dropped.mean() == pytest.approx(1, abs=0.005)
    assert torch.equal(dropped, drop_channels(z.clone(), 0.3, seed=1, step=5))
    assert not torch.equal(dropped, drop_channels(z.clone(), 0.3, seed=1, step=6))
    assert torch.equal(drop_channels(z.clone(), 0.0, seed=1, step=5), z)
