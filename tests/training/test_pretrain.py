from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from pvu.checkpoint import load_head
from pvu.head import UncertaintyHead
from training import pretrain, validation
from training.cache import build_cache
from training.cached import CachedViews, targets
from training.config import CacheConfig, Config, TrainConfig
from training.pretrain import TrainingError, fold, learning_rate, parameter_groups, predict, train_head
from training.shards import FACTS, CacheError

DIM = 8
QUICK = TrainConfig(epochs=12, batch=64, hidden=16, base_lr=4e-3)


@pytest.fixture
def views() -> CachedViews:
    """2,000 views whose task loss is a smooth function of z; the wrong half of the answers has the higher losses."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, DIM)).astype(np.float16)
    facts = np.zeros(2000, FACTS)
    facts["cross_entropy"] = np.exp(z[:, 0].astype(np.float32)) + 0.1 * rng.random(2000)
    facts["instance"] = -z[:, 1]
    facts["distance"] = z[:, 2]
    facts["correct"] = facts["cross_entropy"] < np.median(facts["cross_entropy"])
    facts["label"] = rng.integers(0, 3, 2000)
    facts["area"], facts["image"] = 1, np.arange(2000)
    source = (np.arange(2000) >= 1200).astype(np.int16)
    held_out = rng.random(2000) < 0.3
    return CachedViews(z, facts, source, np.zeros(2000, np.int16), held_out, np.ones(2000, bool), {})


def train(views: CachedViews, config: TrainConfig, weights: tuple[float, float] = (1, 1)) -> pretrain.Trained:
    return train_head(views, config, np.array(weights), validation.prepare(views, ["a", "b"]))


@pytest.mark.parametrize(
    "config",
    [
        QUICK,
        replace(QUICK, loss="l2"),
        replace(QUICK, pairs="within", standardize=True),
        replace(QUICK, ema=0.9),
        replace(QUICK, dropout=0.3),
    ],
    ids=["paper", "l2", "within", "ema", "dropout"],
)
def test_training_learns(views: CachedViews, config: TrainConfig) -> None:
    trained = train(views, config)
    assert trained.history[trained.epoch - 1]["auroc"] > 0.95
    assert trained.history[trained.epoch - 1]["auroc"] == max(numbers["auroc"] for numbers in trained.history)
    assert len(trained.history) == config.epochs


def test_one_seed_gives_one_head(views: CachedViews) -> None:
    config = replace(QUICK, epochs=2)
    z = views.z[:10]
    first, again = (predict(train(views, config).head, z) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, predict(train(views, replace(config, seed=2)).head, z))


def test_a_collapsed_head_is_an_error(views: CachedViews) -> None:
    with pytest.raises(TrainingError, match="collapsed"):
        # Weights that decay at once: u is the same for every image.
        train(views, replace(QUICK, weight_decay=1e3, base_lr=1e-3, epochs=3))


def test_losses_that_are_not_finite_are_an_error(views: CachedViews) -> None:
    checks = validation.prepare(views, ["a", "b"])
    views.z[:] = np.inf
    with pytest.raises(TrainingError, match="training loss is nan"):
        train_head(views, QUICK, np.ones(2), checks)


def test_too_few_views_are_refused(views: CachedViews) -> None:
    with pytest.raises(ValueError, match="a batch is 4096"):
        train(views, replace(QUICK, batch=4096))


def test_single_task_loss_is_the_target_of_training_views_alone(views: CachedViews) -> None:
    goal = targets(views, QUICK)
    assert np.isnan(goal[views.held_out]).all()
    np.testing.assert_array_equal(goal[~views.held_out], views.facts["cross_entropy"][~views.held_out])


def test_several_task_losses_are_averaged_as_ranks_in_their_source(views: CachedViews) -> None:
    views.facts["instance"][5] = np.nan  # has one of the two losses: its target is that one's rank
    views.held_out[5] = False
    goal = targets(views, replace(QUICK, task_losses={"cross_entropy": 3.0, "instance": 1.0}))
    for source in (0, 1):
        rows = np.flatnonzero((views.source == source) & ~views.held_out)
        ce = rankdata(views.facts["cross_entropy"][rows]) / len(rows)
        both = rows != 5
        instance = rankdata(views.facts["instance"][rows[both]]) / both.sum()
        np.testing.assert_allclose(goal[rows[both]], (3 * ce[both] + instance) / 4, rtol=1e-6)
        np.testing.assert_allclose(goal[rows[~both]], ce[~both], rtol=1e-6)
    assert np.isnan(goal[views.held_out]).all()


def test_degraded_views_can_be_left_out(views: CachedViews) -> None:
    views.facts["degradation"][:100] = 1
    goal = targets(views, replace(QUICK, degraded=False))
    assert np.isnan(goal[:100]).all()


@pytest.mark.parametrize("pairs", ["across", "within", "alike"])
def test_pairs_and_weights(views: CachedViews, pairs: str) -> None:
    views.pass_index[::2] = 1
    rows = np.flatnonzero(~views.held_out)
    config = replace(QUICK, batch=2000, pairs=pairs)
    batch = next(pretrain.draw_pairs(rows, views, np.array([1.0, 3.0]), config))
    assert not views.held_out[batch].any()
    drawn = views.source[batch]
    assert (drawn == 1).mean() == pytest.approx(3 * 800 / (1200 + 3 * 800), abs=0.05)
    same_source = (drawn[0::2] == drawn[1::2]).mean()
    assert same_source == 1 if pairs != "across" else 0.45 < same_source < 0.7
    same_kind = (views.pass_index[batch[0::2]] == views.pass_index[batch[1::2]]).mean()
    assert same_kind == 1 if pairs == "alike" else 0.4 < same_kind < 0.6


def test_a_source_of_weight_zero_teaches_nothing(views: CachedViews) -> None:
    config = replace(QUICK, epochs=2)
    before = predict(train(views, config, weights=(1, 0)).head, views.z[:10])
    views.facts["cross_entropy"][views.source == 1] = np.random.default_rng(1).random(800)
    np.testing.assert_array_equal(predict(train(views, config, weights=(1, 0)).head, views.z[:10]), before)


def test_folded_standardisation_is_the_same_function() -> None:
    torch.manual_seed(0)
    head = UncertaintyHead(DIM, 16)
    z, mean, std = torch.randn(20, DIM), torch.randn(DIM), torch.rand(DIM) + 0.5
    torch.testing.assert_close(fold(head, mean, std)(z), head((z - mean) / std))


def test_biases_are_not_decayed() -> None:
    decayed, biases = parameter_groups(UncertaintyHead(DIM, 16), 0.5)
    assert (decayed["weight_decay"], biases["weight_decay"]) == (0.5, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(16, DIM), (16, 16), (1, 16)]
    assert [p.ndim for p in biases["params"]] == [1, 1, 1]


def test_learning_rate_warms_up_inside_the_cosine() -> None:
    config = TrainConfig(batch=2048, base_lr=1e-3, warmup=0.1, warmup_lr=1e-4)
    peak = 1e-3 * 8**0.5
    assert learning_rate(0, config) == pytest.approx(1e-4)
    assert learning_rate(0.05, config) == pytest.approx((1e-4 + peak) / 2)
    assert learning_rate(0.5, config) == pytest.approx(peak / 2)
    assert learning_rate(1, config) == pytest.approx(0)


def test_run_saves_a_head_that_says_what_it_was_made_from(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    rng = np.random.default_rng(0)
    for path in (tmp_path / "cache" / "shards").glob("*/facts.npy"):
        facts = np.load(path)
        facts["correct"] = rng.random(len(facts)) < 0.5  # the fake classifier is always wrong
        np.save(path, facts)
    config = Config("fake", cache_config, TrainConfig(epochs=2, batch=8, hidden=16))
    trained = pretrain.run(config, tmp_path / "cache", tmp_path / "out", command="train me")
    head, metadata = load_head(tmp_path / "out" / "head.safetensors")
    z = rng.normal(size=(5, 48)).astype(np.float32)
    np.testing.assert_allclose(predict(head, z), predict(trained.head, z), rtol=1e-2)
    assert metadata["backbone"] == "fake"
    assert metadata["command"] == "train me"
    assert metadata["config"]["train"]["batch"] == 8
    assert len(metadata["reference_quantiles"]) == 101
    assert metadata["reference_quantiles"] == sorted(metadata["reference_quantiles"])
    assert metadata["training_data"]["plain"] == 7 * 2
    assert (tmp_path / "out" / "history.json").is_file()
    (tmp_path / "cache" / "manifest.json").unlink()
    with pytest.raises(CacheError):
        pretrain.run(config, tmp_path / "cache", tmp_path / "out", command="")
