from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from training.config import TASK_LOSSES, TrainConfig, load_config
from training.loop import learning_rate
from training.shards import FACTS

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


# Those of heads; a backbone's own training has others.
HEADS = [path for path in sorted(CONFIGS.glob("*.yaml")) if "model" in yaml.safe_load(path.read_text())]


@pytest.mark.parametrize("path", HEADS, ids=lambda path: path.stem)
def test_the_committed_configurations_load(path: Path) -> None:
    config = load_config(path)
    assert config.model
    assert sum(source.passes for source in config.cache.sources) > 0
    assert any(source.held_out > 0 for source in config.cache.sources)


def test_values_and_defaults(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "model: m\ncache:\n  sources: [{name: a, passes: 2}]\n  augmentation: {scale: [0.2, 1]}\n"
        "train: {base_lr: 1e-4, betas: [0.9, 0.99], task_losses: {instance: 1}}\n"
    )
    config = load_config(path)
    assert config.cache.sources[0].passes == 2
    assert config.cache.augmentation.scale == (0.2, 1.0)
    assert config.cache.augmentation.jitter == 0.4
    assert config.train.base_lr == 1e-4
    assert config.train.betas == (0.9, 0.99)
    assert config.train.margin == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must hold a mapping"),
        ("model: m\ncache: {sources: [{name: a, passes: 1}]}\nepochs: 3", "there is no epochs"),
        ("model: m\ncache: {sources: [{name: a, paces: 1}]}", r"sources\[0\]: there is no paces"),
        ("model: m\ncache: {sources: [{name: a}]}", "passes"),
        ("model: m\ncache: {sources: []}", "must be named"),
        ("model: m\ncache: {sources: [{name: a, passes: 1}]}\ntrain: {batch: 3}", "batch must be even.*got 3"),
        ("model: m\ncache: {sources: [{name: a, passes: 1}]}\ntrain: {loss: l3}", "got 'l3'"),
        ("model: m\ncache: {sources: [{name: a, passes: 1}]}\ntrain: {precision: fp8}", "got 'fp8'"),
        ("model: m\ncache: {sources: [{name: a, passes: 1}]}\ntrain: {window: 100}", "at least a batch; got 0 and 100"),
        ("model: m\ncache: {sources: [{name: a, passes: 1}]}\ntrain: {task_losses: {luck: 1}}", "luck"),
    ],
)
def test_mistakes_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(path)


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_the_papers_vits_have_the_papers_hyperparameters(size: str) -> None:
    config = load_config(CONFIGS / f"vit_{size}_in21k.yaml")
    train, (source,), augmentation = config.train, config.cache.sources, config.cache.augmentation
    assert config.model == f"vit_{size}_patch16_224.augreg_in21k"
    assert (source.passes, source.compare) == (7, False)
    assert 0 < source.held_out * 13.15e6 < 50_000
    assert (augmentation.scale, augmentation.flip, augmentation.jitter) == ((0.08, 1), 0.5, 0.4)
    assert augmentation.ratio == pytest.approx((3 / 4, 4 / 3), abs=0)
    assert augmentation.degrade == 0
    assert (train.loss, train.margin, train.task_losses, train.pairs) == (
        "ranking",
        0.1,
        {"cross_entropy": 1},
        "across",
    )
    assert train.epochs * train.epoch_views == 92_000_000
    assert (train.batch, train.betas, train.weight_decay, train.hidden) == (16 * 128, (0.8, 0.95), 1e-4, 512)
    assert (train.best, train.seed, train.whole, train.standardize) == ("auroc", 1, False, False)
    assert (train.dropout, train.ema) == (0, 0)
    assert train.warmup == pytest.approx(25 / 460, abs=0)
    assert learning_rate(0, train) == pytest.approx(1e-4)
    assert learning_rate(train.warmup - 1e-9, train) == pytest.approx(2.83e-3, rel=1e-3)
    assert learning_rate(train.warmup, train) == pytest.approx(
        2.83e-3 * (1 + math.cos(math.pi * 25 / 460)) / 2, rel=1e-3
    )
    assert learning_rate(1, train) == pytest.approx(0, abs=1e-12)


def test_every_task_loss_is_in_the_cache() -> None:
    assert set(TASK_LOSSES) <= set(FACTS.names or ())
    assert set(TrainConfig().task_losses) <= set(TASK_LOSSES)
