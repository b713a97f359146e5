"""The training loop: it learns, goes on where it stopped, and leaves the trunk alone."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pvu.backbones import hash_weights, load_hybrid
from pvu.hybrid import own_state
from pvu.models import Model
from training.guards import TrainingError
from training.hybrid import distill
from training.hybrid.config import DistillConfig
from training.hybrid.distill import Distillation, learning_rate, represent, save_student, train
from training.hybrid.mapped import MappedViews


def test_it_learns_and_its_weights_load_as_a_model(
    views: MappedViews, config: DistillConfig, trunk_model: Model, tmp_path: Path
) -> None:
    before = hash_weights(trunk_model.backbone)
    run = train(config, views, trunk_model.backbone, tmp_path)
    first, last = run.history[0], run.history[-1]
    assert last["label"] < first["label"]
    assert hash_weights(trunk_model.backbone) == before
    save_student(run, tmp_path, "a command")
    model = load_hybrid(tmp_path / "hybrid-vit.safetensors").eval()
    pixels = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected, found = run.average(pixels), model(pixels)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)  # stored in float16
    assert json.loads((tmp_path / "distill.json").read_text()) == run.history


def test_the_start_is_the_teacher(views: MappedViews, config: DistillConfig, trunk_model: Model) -> None:
    run = Distillation(config, views, trunk_model.backbone)
    run.average.blocks = torch.nn.Identity()
    rows = run.pictures.whole[:10]
    maps = views.maps(rows, distill.Trunk(trunk_model.backbone))  # type: ignore[arg-type]
    z = represent(run.average, maps)
    target = run.pictures.targets[:10, : config.shape.width]
    similarity = torch.nn.functional.cosine_similarity(
        z - z.mean(1, keepdim=True), target - target.mean(1, keepdim=True)
    )
    assert similarity.min() > 0.98


def test_stopped_and_started_again_it_is_the_same_run(
    views: MappedViews, config: DistillConfig, trunk_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, steps=20)
    unbroken = train(config, views, trunk_model.backbone, tmp_path / "whole")
    whole = own_state(unbroken.average)
    learn = Distillation.learn

    def killed(self: Distillation, *batch: object) -> dict[str, float]:
        if self.step == 13:
            raise KeyboardInterrupt
        return learn(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Distillation, "learn", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, views, trunk_model.backbone, tmp_path / "parts")
    monkeypatch.setattr(Distillation, "learn", learn)
    run = train(config, views, trunk_model.backbone, tmp_path / "parts")
    assert run.step == 20
    assert run.history == unbroken.history
    for name, tensor in own_state(run.average).items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=0)


def test_another_configuration_does_not_go_on_from_a_checkpoint(
    views: MappedViews, config: DistillConfig, trunk_model: Model, tmp_path: Path
) -> None:
    short = dataclasses.replace(config, steps=2, checkpoint_every=1)
    train(short, views, trunk_model.backbone, tmp_path)
    with pytest.raises(TrainingError, match="another configuration"):
        train(dataclasses.replace(short, lr=1e-5), views, trunk_model.backbone, tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(
    views: MappedViews, config: DistillConfig, trunk_model: Model, tmp_path: Path
) -> None:
    views.pooled[views.usable] = np.nan
    with pytest.raises(TrainingError, match="representations are not finite"):
        train(config, views, trunk_model.backbone, tmp_path)
    run = Distillation.__new__(Distillation)
    run.step = 4
    with pytest.raises(TrainingError, match="The loss of step 5 is nan"):
        run._update(torch.tensor(float("nan")))


def test_a_trunk_that_changes_is_noticed(
    views: MappedViews, config: DistillConfig, trunk_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = copy.deepcopy(trunk_model.backbone)
    learn = Distillation.learn

    def leaking(self: Distillation, *batch: object) -> dict[str, float]:
        self.network.bn1.running_mean += 1  # what a batch norm does that was left in training mode
        return learn(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Distillation, "learn", leaking)
    with pytest.raises(TrainingError, match="weights of the trunk have changed"):
        train(dataclasses.replace(config, steps=1), views, network, tmp_path)


def test_other_maps_do_not_go_on_from_a_checkpoint(
    views: MappedViews, config: DistillConfig, trunk_model: Model, tmp_path: Path
) -> None:
    short = dataclasses.replace(config, steps=1, checkpoint_every=1)
    train(short, views, trunk_model.backbone, tmp_path)
    other = dataclasses.replace(views, manifest=views.manifest | {"images": {"labelled": [32, "another"]}})
    with pytest.raises(TrainingError, match="or of other maps"):
        train(short, other, trunk_model.backbone, tmp_path)


def test_the_learning_rate_rises_and_falls_to_zero(config: DistillConfig) -> None:
    config = dataclasses.replace(config, steps=100, warmup=0.1)
    rates = [learning_rate(step, config) for step in range(101)]
    assert np.argmax(rates) == 10
    assert rates[10] == pytest.approx(config.lr)
    assert rates[100] == pytest.approx(0)
    assert all(np.diff(rates[:11]) > 0)
    assert all(np.diff(rates[10:]) < 0)
