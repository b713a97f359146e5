from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from pvu.errors import CheckpointError
from pvu.head import UncertaintyHead, fold, parameter_groups, predict
from tests.training.cached_views import DIM, EVERYTHING, QUICK, make_views, train
from training import validation
from training.cached import CachedViews, targets
from training.config import TrainConfig
from training.guards import TrainingError
from training.loop import Trainer, evaluate_epoch, learning_rate, train_head
from training.rows import MappedRows


@pytest.fixture
def views() -> CachedViews:
    return make_views()


@pytest.mark.parametrize(
    "config",
    [
        QUICK,
        replace(QUICK, loss="l2"),
        replace(QUICK, pairs="within", standardize=True),
        replace(QUICK, ema=0.9),
        replace(QUICK, dropout=0.3),
        replace(QUICK, precision="bfloat16"),
        replace(QUICK, epoch_views=640, window=1024),
    ],
    ids=["paper", "l2", "within", "ema", "dropout", "bfloat16", "window"],
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
    views.z[7] = np.inf
    views.held_out[:] = True
    views.held_out[:200] = False
    with pytest.raises(TrainingError, match=r"training loss is nan: the representation of view 7 .* is not finite"):
        train_head(views, QUICK, np.ones(2), checks)


def test_representations_of_validation_images_that_are_not_finite_are_an_error(views: CachedViews) -> None:
    checks = validation.prepare(views, ["a", "b"])
    views.z[checks.rows[3]] = np.nan
    with pytest.raises(TrainingError, match=f"gives 1 of {len(checks.rows)} validation images an uncertainty that is"):
        train_head(views, replace(QUICK, epochs=1), np.ones(2), checks)


@pytest.mark.parametrize(("pairs", "message"), [("across", "views of the cache is 2"), ("within", "of source 1 is 2")])
def test_losses_that_do_not_vary_are_refused_before_training(views: CachedViews, pairs: str, message: str) -> None:
    constant = views.source == 1 if pairs == "within" else np.ones(len(views), bool)
    views.facts["cross_entropy"][constant] = 2
    with pytest.raises(TrainingError, match=rf"{message}: there is no order to learn"):
        train(views, replace(QUICK, pairs=pairs))


def test_the_criterion_of_the_best_epoch_must_be_measurable(views: CachedViews) -> None:
    views.facts["label"] = np.arange(2000)  # one picture a label: nothing to find
    with pytest.raises(ValueError, match='best is "r_auroc", but no source'):
        train(views, replace(QUICK, best="r_auroc"))


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


def test_a_source_of_weight_zero_teaches_nothing(views: CachedViews) -> None:
    config = replace(QUICK, epochs=2)
    before = predict(train(views, config, weights=(1, 0)).head, views.z[:10])
    views.facts["cross_entropy"][views.source == 1] = np.random.default_rng(1).random(800)
    np.testing.assert_array_equal(predict(train(views, config, weights=(1, 0)).head, views.z[:10]), before)


def test_whole_pictures_can_be_left_out(views: CachedViews) -> None:
    views.pass_index[::2] = 1
    config = replace(QUICK, whole=False, epochs=2)
    before = weights_of(train(views, config).head)
    views.facts["cross_entropy"][1::2] = np.random.default_rng(1).random(1000)
    assert weights_of(train(views, config).head) == before


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


def weights_of(head: UncertaintyHead) -> list[float]:
    return torch.cat([parameter.flatten() for parameter in head.parameters()]).tolist()


class Stopped(BaseException):
    """Thrown where a run is to end without a word."""


@pytest.mark.parametrize("config", [EVERYTHING, replace(QUICK, epochs=3, batch=500)], ids=["everything", "plain"])
def test_a_run_that_was_stopped_at_any_step_ends_with_the_same_head(
    views: CachedViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: TrainConfig
) -> None:
    whole = train(views, config)
    step, taken = Trainer.step, 0

    def stopping(trainer: Trainer, rows: np.ndarray) -> None:
        nonlocal taken
        taken += 1
        if taken % 3 == 0:  # three runs in a row get two steps further each
            raise Stopped
        step(trainer, rows)

    monkeypatch.setattr(Trainer, "step", stopping)
    stops = 0
    while True:
        try:
            resumed = train(views, config, checkpoint=tmp_path / "c.safetensors")
            break
        except Stopped:
            stops += 1
    assert stops >= 3
    assert weights_of(resumed.head) == weights_of(whole.head)
    assert weights_of(resumed.last) == weights_of(whole.last)
    assert resumed.epoch == whole.epoch
    timings = {"seconds", "views_per_second"}
    for found, expected in zip(resumed.history, whole.history, strict=True):
        assert {k: v for k, v in found.items() if k not in timings} == pytest.approx(
            {k: v for k, v in expected.items() if k not in timings}, rel=0, abs=0, nan_ok=True
        )


def test_a_finished_run_is_not_repeated(views: CachedViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(QUICK, epochs=2)
    first = train(views, config, checkpoint=tmp_path / "c.safetensors")
    monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("a step was taken"))
    again = train(views, config, checkpoint=tmp_path / "c.safetensors")
    assert weights_of(again.head) == weights_of(first.head)
    assert repr(again.history) == repr(first.history)  # repr, as some numbers are NaN


def test_a_checkpoint_of_other_losses_or_settings_is_not_gone_on_from(views: CachedViews, tmp_path: Path) -> None:
    config = replace(QUICK, epochs=1)
    train(views, config, checkpoint=tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match=r"another margin \(0.1, expected 0.2\)"):
        train(views, replace(config, margin=0.2), checkpoint=tmp_path / "c.safetensors")
    views.facts["cross_entropy"][~views.held_out] += 1
    with pytest.raises(CheckpointError, match="another training views"):
        train(views, config, checkpoint=tmp_path / "c.safetensors")


def test_mapped_rows_are_read_a_batch_at_a_time(views: CachedViews, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", views.z)
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    read = []

    class Counting(MappedRows):
        def __getitem__(self, index: object) -> np.ndarray:
            found = super().__getitem__(index)  # type: ignore[arg-type]
            read.append(len(found))
            return found

    config = replace(QUICK, epochs=2, standardize=True)
    expected = weights_of(train(views, config).head)
    rows = Counting([mapped[:700], mapped[700:]])
    checks = validation.prepare(views, ["a", "b"])
    read.clear()
    on_disk = replace(views, z=rows)  # type: ignore[arg-type]
    found = train_head(on_disk, config, np.ones(2), replace(checks, views=on_disk))
    assert weights_of(found.head) == expected
    held_out = len(checks.rows)
    assert sorted(set(read)) == sorted({QUICK.batch, held_out, 2000 - held_out})  # the last: channel statistics
    assert read.count(2000 - held_out) == 1


def test_u_of_large_arrays_is_computed_in_blocks(views: CachedViews) -> None:
    torch.manual_seed(0)
    head = UncertaintyHead(DIM, 16)
    expected = head(torch.from_numpy(views.z).float()).detach().numpy()
    np.testing.assert_allclose(predict(head, views.z, block=300), expected, rtol=1e-6)
    rows = np.array([5, 3, 1999, 3])
    np.testing.assert_allclose(predict(head, views.z, rows=rows, block=3), expected[rows], rtol=1e-6)


def test_progress_says_losses_speed_and_time_left(
    views: CachedViews, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.loop.TELL", 0.0)
    train(views, replace(QUICK, epochs=1))
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"step 1 of 2\d, loss 0\.\d{4}, [\d,]+ representations/s, \d+ s left", lines[0])
    assert "auroc 0." in lines[-2]
    assert lines[-1].endswith("0 s left")


def test_the_gradient_of_blocks_is_that_of_the_batch(views: CachedViews, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(views, replace(QUICK, batch=1200), np.ones(2), validation.prepare(views, ["a", "b"]))
    z, goal = torch.randn(1200, DIM), torch.rand(1200)
    found = {}
    for block in (1200, 512):
        monkeypatch.setattr("training.loop.BLOCK", block)
        loss = trainer.accumulate(z, goal)
        found[block] = [loss, *(parameter.grad.clone() for parameter in trainer.state.head.parameters())]
    torch.testing.assert_close(found[512], found[1200])
    u = trainer.state.head(z)
    expected = torch.relu(0.1 - torch.sign(goal[::2] - goal[1::2]) * (u[::2] - u[1::2])).mean()
    assert found[512][0] == pytest.approx(float(expected.detach()), rel=1e-5)


def test_validation_notices_a_head_that_orders_nothing(views: CachedViews) -> None:
    head = UncertaintyHead(DIM, 16)
    torch.nn.init.zeros_(head.layers[-1].weight)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="has collapsed: u varies by"):
        evaluate_epoch(head, validation.prepare(views, ["a", "b"]))
