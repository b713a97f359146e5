"""The closed form against a loop over all pairs, and the linear function inside the paper's architecture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import rankdata, spearmanr
from sklearn.linear_model import Ridge

from tests.training.cached_views import make_views, train
from training.config import TrainConfig
from training.guards import TrainingError
from training.linear import as_head, fit_linear, pools

LINEAR = TrainConfig(head="linear", pairs="within", ridge=0.1, standardize=True)
EQUAL = np.ones(2)


def direction(head: object) -> np.ndarray:
    """The weights (D,) of a linear head, scaled to length 1."""
    first = head.layers[0].weight[0].numpy().astype(np.float64)  # type: ignore[attr-defined]
    return first / np.linalg.norm(first)


def test_a_linear_function_survives_the_two_layers_exactly() -> None:
    rng = np.random.default_rng(0)
    weight, z = rng.normal(size=5), torch.from_numpy(rng.normal(size=(40, 5)).astype(np.float32))
    u = as_head(weight, -0.3)(z)
    x = z.numpy() @ weight - 0.3
    np.testing.assert_allclose(u.numpy(), np.log1p(np.exp(x)) + 1e-6, rtol=1e-5)


def test_it_minimises_the_squared_error_over_all_pairs_of_a_pool() -> None:
    rng = np.random.default_rng(0)
    views = make_views()
    goal = np.full(2000, np.nan)
    rows = np.concatenate([rng.choice(1200, 30, replace=False), 1200 + rng.choice(800, 30, replace=False)])
    goal[rows] = views.z[rows, 0] + views.source[rows] * 100 + rng.normal(size=60)
    head = fit_linear(views, goal, EQUAL, replace(LINEAR, ridge=1e-9))
    z = views.z.astype(np.float64)

    def error(weight: np.ndarray) -> float:
        total = 0.0
        for source in (0, 1):
            mine = rows[views.source[rows] == source]
            ranks = rankdata(goal[mine]) / len(mine)
            du = (z[mine] @ weight)[:, None] - (z[mine] @ weight)[None]
            total += float(((du - (ranks[:, None] - ranks[None])) ** 2).mean())
        return total

    best = minimize(error, np.zeros(z.shape[1]), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(direction(head), best / np.linalg.norm(best), atol=1e-3)


def test_with_a_ridge_it_is_sklearns_on_standardised_centred_pools() -> None:
    views = make_views()
    goal = np.where(views.held_out, np.nan, views.facts["cross_entropy"])
    head = fit_linear(views, goal, EQUAL, LINEAR)
    z, ranks, kept = views.z.astype(np.float64), np.full(2000, np.nan), np.flatnonzero(~views.held_out)
    for source in (0, 1):
        mine = kept[views.source[kept] == source]
        z[mine] -= z[mine].mean(axis=0)
        ranks[mine] = rankdata(goal[mine]) / len(mine)
        ranks[mine] -= ranks[mine].mean()
    std = z[kept].std(axis=0)
    peer = Ridge(alpha=0.1 * len(kept), fit_intercept=False).fit(z[kept] / std, ranks[kept]).coef_ / std
    np.testing.assert_allclose(direction(head), peer / np.linalg.norm(peer), atol=1e-3)


def test_statistics_stand_behind_z() -> None:
    views = make_views()
    goal = np.where(views.held_out, np.nan, views.facts["cross_entropy"])
    parted = replace(views, z=views.z[:, :3], statistics=views.z[:, 3:])
    torch.testing.assert_close(
        fit_linear(parted, goal, EQUAL, LINEAR).layers[0].weight,
        fit_linear(views, goal, EQUAL, LINEAR).layers[0].weight,
    )


def test_unstandardised_channels_of_little_variance_are_shrunk_more() -> None:
    views = make_views()
    goal = np.where(views.held_out, np.nan, views.z[:, 0].astype(np.float32) + views.z[:, 1])  # both alike
    small = replace(views, z=views.z * np.float16([0.1, *[1] * 7]))
    shares = {}
    for flag in (False, True):
        weight = np.abs(direction(fit_linear(small, goal, EQUAL, replace(LINEAR, standardize=flag))))
        shares[flag] = 0.1 * weight[0] / weight[1]
    assert shares[True] == pytest.approx(1, abs=0.1)
    assert shares[False] < 0.2


def test_it_is_free_of_the_losses_scale_and_of_other_pools_levels() -> None:
    views = make_views()
    goal = np.where(views.held_out, np.nan, views.facts["cross_entropy"])
    plain = fit_linear(views, goal, EQUAL, LINEAR)
    scaled = fit_linear(views, np.exp(goal) * 100 + 1000 * views.source, EQUAL, LINEAR)
    torch.testing.assert_close(plain.layers[0].weight, scaled.layers[0].weight)


def test_sources_without_weight_and_views_without_goal_do_not_count() -> None:
    views = make_views()
    goal = np.where(views.held_out, np.nan, views.facts["cross_entropy"])
    only = fit_linear(views, goal, np.array([1.0, 0.0]), LINEAR)
    same = fit_linear(views, np.where(views.source == 0, goal, np.nan), EQUAL, LINEAR)
    torch.testing.assert_close(only.layers[0].weight, same.layers[0].weight)
    doubled = fit_linear(views, goal, np.array([2.0, 2.0]), LINEAR)
    torch.testing.assert_close(doubled.layers[0].weight, fit_linear(views, goal, EQUAL, LINEAR).layers[0].weight)


def test_training_takes_it_from_the_configuration() -> None:
    views = make_views()
    trained = train(views, LINEAR)
    held_out = np.flatnonzero(views.held_out)
    with torch.inference_mode():
        u = trained.head(torch.from_numpy(views.z[held_out]).float()).numpy()
    assert spearmanr(u, views.facts["cross_entropy"][held_out]).statistic > 0.95
    assert trained.epoch == 1
    assert trained.history[0]["auroc"] > 0.95


def test_pools_hold_what_may_be_compared() -> None:
    views = replace(make_views(), pass_index=np.tile([0, 1], 1000).astype(np.int16))
    rows = np.arange(2000)
    for pairs, count in (("across", 1), ("within", 2), ("alike", 4)):
        found = pools(views, rows, pairs)
        assert len(found) == count
        np.testing.assert_array_equal(np.sort(np.concatenate(found)), rows)
    for members in pools(views, rows, "alike"):
        assert len(np.unique(views.source[members])) == len(np.unique(views.pass_index[members])) == 1


def test_what_cannot_be_fitted_is_said() -> None:
    views = make_views()
    with pytest.raises(ValueError, match="Found 1 training views"):
        fit_linear(views, np.where(np.arange(2000) == 3, 1.0, np.nan), EQUAL, LINEAR)
    with pytest.raises(TrainingError, match="no linear relation"):
        fit_linear(views, np.ones(2000), EQUAL, LINEAR)
    damaged = views.z.copy()
    damaged[5] = np.inf
    with pytest.raises(TrainingError, match="not finite"):
        fit_linear(replace(views, z=damaged), np.arange(2000.0), EQUAL, LINEAR)
    with pytest.raises(ValueError, match='head must be "mlp" or "linear"'):
        TrainConfig(head="forest")
