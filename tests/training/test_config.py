from __future__ import annotations

from pathlib import Path

import pytest

from training.config import TASK_LOSSES, TrainConfig, load_config
from training.shards import FACTS

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
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
        ("model: m\ncache: {sources: [{name: a, passes: 1}]}\ntrain: {task_losses: {luck: 1}}", "luck"),
    ],
)
def test_mistakes_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(path)


def test_every_task_loss_is_in_the_cache() -> None:
    assert set(TASK_LOSSES) <= set(FACTS.names or ())
    assert set(TrainConfig().task_losses) <= set(TASK_LOSSES)
