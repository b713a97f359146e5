from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pvu.errors import CheckpointError
from pvu.head import UncertaintyHead
from pvu.models import hash_weights
from training.state import TrainingState


def make(seed: int, *, averaged: bool = True) -> TrainingState:
    torch.manual_seed(seed)
    head, best = UncertaintyHead(6, 5), UncertaintyHead(6, 5)
    return TrainingState(
        head, UncertaintyHead(6, 5) if averaged else head, torch.optim.AdamW(head.parameters(), fused=True), best
    )


def step(state: TrainingState) -> None:
    state.optimizer.zero_grad()
    torch.manual_seed(5)
    state.head(torch.randn(8, 6)).sum().backward()
    state.optimizer.step()


@pytest.mark.parametrize("averaged", [True, False])
def test_everything_comes_back_bit_for_bit(tmp_path: Path, averaged: bool) -> None:
    saved, loaded = make(0, averaged=averaged), make(1, averaged=averaged)
    for _ in range(3):
        step(saved)
    saved.step, saved.loss, saved.best_epoch, saved.seconds = 3, 0.1 + 0.2, 1, 4.5
    saved.history.append({"auroc": 2 / 3, "spearman": float("nan")})
    saved.save(tmp_path / "out" / "c.safetensors", {"seed": 1})
    assert loaded.load(tmp_path / "out" / "c.safetensors", {"seed": 1})
    for name in ("head", "average", "best"):
        assert hash_weights(getattr(loaded, name)) == hash_weights(getattr(saved, name))
    assert (loaded.average is loaded.head) == (not averaged)
    assert (loaded.step, loaded.loss, loaded.best_epoch, loaded.seconds) == (3, 0.1 + 0.2, 1, 4.5)
    assert repr(loaded.history) == repr(saved.history)
    step(saved)
    step(loaded)  # the optimiser's moments and its count of steps are the same too
    assert hash_weights(loaded.head) == hash_weights(saved.head)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.safetensors"]


def test_a_state_before_the_first_step_comes_back(tmp_path: Path) -> None:
    saved, loaded = make(0), make(1)
    saved.save(tmp_path / "c.safetensors", {})
    assert loaded.load(tmp_path / "c.safetensors", {})
    step(saved)
    step(loaded)
    assert hash_weights(loaded.head) == hash_weights(saved.head)


def test_no_file_is_a_fresh_start(tmp_path: Path) -> None:
    assert not make(0).load(tmp_path / "c.safetensors", {})


def test_a_write_that_dies_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, state = tmp_path / "c.safetensors", make(0)
    state.save(path, {})
    before = path.read_bytes()

    def dies(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pvu.shards.os.fsync", dies)
    step(state)
    with pytest.raises(KeyboardInterrupt):
        state.save(path, {})
    assert path.read_bytes() == before


def test_another_run_or_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    make(0).save(path, {"seed": 1, "loss": "l2"})
    with pytest.raises(CheckpointError, match=r"run with another seed \(1, expected 2\)\. Give another --out"):
        make(0).load(path, {"seed": 2, "loss": "l2"})
    with pytest.raises(CheckpointError, match=r"another margin \(None, expected 0\.1\)"):
        make(0).load(path, {"seed": 1, "loss": "l2", "margin": 0.1})
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="is no checkpoint of a training run"):
        make(0).load(path, {})
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"Cannot read the checkpoint .* Delete it to start again"):
        make(0).load(path, {})
