from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pvu.checkpoint import load_head
from pvu.models import hash_weights
from tests.training.cached_views import EVERYTHING, make_views
from tests.training.cached_views import train as train_in_memory
from training import pretrain
from training.cache import build_cache
from training.config import CacheConfig, Config, TrainConfig
from training.guards import TrainingError
from training.pretrain import predict
from training.shards import CacheError
from training.state import TrainingState

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(cache_config: CacheConfig) -> Config:
    return Config("fake", cache_config, TrainConfig(epochs=2, batch=8, hidden=16))


@pytest.fixture
def cache(data: Path, cache_config: CacheConfig, encoder, tmp_path: Path) -> Path:
    """A cache of two sources; the fake classifier is always wrong, so who is right is drawn."""
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    rng = np.random.default_rng(0)
    for path in (tmp_path / "cache" / "shards").glob("*/facts.npy"):
        facts = np.load(path)
        facts["correct"] = rng.random(len(facts)) < 0.5
        np.save(path, facts)
    return tmp_path / "cache"


def test_run_saves_a_head_that_says_what_it_was_made_from(config: Config, cache: Path, tmp_path: Path) -> None:
    trained = pretrain.run(config, cache, tmp_path / "out", command="train me")
    head, metadata = load_head(tmp_path / "out" / "head.safetensors")
    z = np.random.default_rng(0).normal(size=(5, 48)).astype(np.float32)
    np.testing.assert_allclose(predict(head, z), predict(trained.head, z), rtol=1e-2)
    assert metadata["backbone"] == "fake"
    assert metadata["backbone_hash"] == json.loads((cache / "manifest.json").read_text())["backbone"]
    assert metadata["command"] == "train me"
    assert metadata["config"]["train"]["batch"] == 8
    assert len(metadata["reference_quantiles"]) == 101
    assert metadata["reference_quantiles"] == sorted(metadata["reference_quantiles"])
    assert metadata["training_data"]["plain"] == 7 * 2
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [numbers["epoch"] for numbers in history] == [1, 2]


def test_the_head_of_a_run_gone_on_with_is_the_same_file(config: Config, cache: Path, tmp_path: Path) -> None:
    for _ in range(2):
        pretrain.run(config, cache, tmp_path / "out", command="")
    first = load_head(tmp_path / "out" / "head.safetensors")[0]
    pretrain.run(config, cache, tmp_path / "other", command="")
    assert hash_weights(first) == hash_weights(load_head(tmp_path / "other" / "head.safetensors")[0])


def test_the_cache_of_another_backbone_is_refused(config: Config, cache: Path, encoder, tmp_path: Path) -> None:
    own = hash_weights(encoder.backbone)
    pretrain.run(config, cache, tmp_path / "out", command="", backbone=own)
    with torch.no_grad():
        encoder.backbone.weight[0, 0] += 1
    with pytest.raises(TrainingError, match=rf"other weights than those of fake: their hash is {own}, expected"):
        pretrain.run(config, cache, tmp_path / "out", command="", backbone=hash_weights(encoder.backbone))


def test_a_stale_cache_is_refused(config: Config, cache: Path, tmp_path: Path) -> None:
    other = replace(config, cache=replace(config.cache, seed=5))
    with pytest.raises(CacheError, match=r"made with another seed \(0, expected 5\)"):
        pretrain.run(other, cache, tmp_path / "out", command="")
    (cache / "shards" / "plain-01-0000000").rename(cache / "shards" / "elsewhere")
    with pytest.raises(CacheError, match="not finished"):
        pretrain.run(config, cache, tmp_path / "out", command="")


def test_several_seeds_are_summed_up(config: Config, cache: Path, tmp_path: Path) -> None:
    pretrain.run_seeds(config, [1, 2], cache, tmp_path / "out", command="", backbone=None)
    found = json.loads((tmp_path / "out" / "seeds.json").read_text())
    values = [found["seeds"][seed]["loss"] for seed in ("1", "2")]
    assert values[0] != values[1]
    assert found["summary"]["loss"]["mean"] == pytest.approx(np.mean(values))
    assert found["summary"]["loss"]["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    for seed in (1, 2):
        metadata = load_head(tmp_path / "out" / f"seed-{seed}" / "head.safetensors")[1]
        assert metadata["config"]["train"]["seed"] == seed


def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The one line on standard error with which the command ends."""
    monkeypatch.setattr(sys, "argv", ["training.pretrain", *arguments])
    with pytest.raises(SystemExit) as ended:
        pretrain.main()
    found = capsys.readouterr()
    assert (ended.value.code, found.out) == (2, "")
    (sentence,) = found.err.splitlines()
    return sentence


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_without_a_cache_one_sentence_says_what_data_and_which_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.chdir(ROOT)
    config, cache = f"training/configs/vit_{size}_in21k.yaml", f"runs/vit_{size}_in21k/cache"
    sentence = refusal(capsys, monkeypatch, config)
    assert sentence.startswith(f"There is no cache at {cache}. It is made from ImageNet-21k (Winter 2021")
    for fact in ("one tar of images for each wnid", "DATA/imagenet21k/n00004475.tar", "Hugging Face hub"):
        assert fact in sentence
    assert sentence.endswith(f"python -m training.cache {config} --data DATA --out {cache}")


def test_without_a_cache_other_configurations_name_their_folders(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = str(ROOT / "training" / "configs" / "efficientnet_lite0.yaml")
    sentence = refusal(capsys, monkeypatch, config, "--out", str(tmp_path))
    assert f"no cache at {tmp_path}/cache. It is made from a folder DATA that holds imagenet_photos, " in sentence


def test_an_absent_configuration_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "There is no configuration at absent.yaml" in refusal(capsys, monkeypatch, "absent.yaml")


def test_a_process_that_was_killed_goes_on_and_ends_with_the_same_head(tmp_path: Path) -> None:
    config, path = replace(EVERYTHING, epochs=2000), tmp_path / "c.safetensors"
    command = [sys.executable, "-m", "tests.training.cached_views", str(path)]
    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        _wait_for(path)
    finally:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    at = _steps(path)
    assert 0 < at < 4000
    # The rest is taken in this process, as far as a few epochs behind the kill, against a run that is not interrupted.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ends = _until(config, at // 2 + 3, path)
        expected = _until(config, at // 2 + 3, None)
    finally:
        torch.set_num_threads(threads)
    assert hash_weights(ends.head) == hash_weights(expected.head)
    assert hash_weights(ends.average) == hash_weights(expected.average)
    assert ends.step == expected.step > at


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.is_file():
        assert time.monotonic() < deadline, "the run wrote no checkpoint"
        time.sleep(0.005)
    time.sleep(0.05)


def _steps(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["pvu"])["step"])


def _until(config: TrainConfig, epochs: int, checkpoint: Path | None) -> TrainingState:
    """The state after some epochs of a longer run."""
    from training.loop import Trainer

    class Enough(BaseException):
        pass

    states: list[TrainingState] = []
    end_epoch = Trainer.end_epoch

    def stopping(trainer: Trainer) -> None:
        end_epoch(trainer)
        if len(trainer.state.history) >= epochs:
            states.append(trainer.state)
            raise Enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "end_epoch", stopping)
        with pytest.raises(Enough):
            train_in_memory(make_views(), config, checkpoint=checkpoint)
    return states[0]
