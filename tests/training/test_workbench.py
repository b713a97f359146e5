from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pvu.backbones import hash_weights
from tests.training.small_cache import NAMES, QUICK, draw, make_bench, make_set
from training.config import CacheConfig, Config
from training.data import SourceConfig
from training.experiments import workbench
from training.experiments.workbench import EncodedSet, answers_of, head_path, one_cache, trained_head, uncertainty
from training.pretrain import train_head


def test_a_head_is_trained_once_and_again_when_its_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(*arguments: object, **keywords: object) -> object:
        calls.append(1)
        return train_head(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(workbench, "train_head", counted)
    bench = make_bench(tmp_path)
    first = trained_head(bench, QUICK, "quick")
    again = trained_head(bench, QUICK, "quick")
    assert len(calls) == 1
    assert hash_weights(first) == hash_weights(again)
    other = trained_head(bench, replace(QUICK, margin=0.2), "quick")
    assert len(calls) == 2
    assert hash_weights(other) != hash_weights(first)
    trained_head(replace(bench, views=replace(bench.views, manifest={"backbone": "another"})), QUICK, "quick")
    assert len(calls) == 3
    assert head_path(bench, QUICK, "quick").name == "quick-seed1.head.safetensors"


def test_answers_and_r_auroc_equal_a_naive_computation() -> None:
    z, labels, spread = draw(120, 5)
    found = answers_of(EncodedSet(z, labels.astype(str)))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosines = unit @ unit.T - 9 * np.eye(len(z))
    correct = labels[cosines.argmax(1)] == labels
    assert found.correct.tolist() == correct.tolist()
    assert found.r_auroc(spread) == pytest.approx(roc_auc_score(correct, -spread))
    rows = np.arange(0, 120, 2)
    assert found.resampled(spread)(rows) == pytest.approx(roc_auc_score(correct[rows], -spread[rows]))


def test_uncertainty_is_the_heads(tmp_path: Path) -> None:
    head = trained_head(make_bench(tmp_path), QUICK, "quick")
    encoded = make_set(3).encoded
    assert uncertainty(head, encoded) == pytest.approx(head(torch.from_numpy(encoded.z)).numpy())


def test_a_set_is_encoded_once(encoder, data: Path, tmp_path: Path) -> None:
    encoder.precision = torch.float32
    first = workbench.encoded_set(encoder, data, "labelled", tmp_path / "work", workers=0)
    assert encoder.encoded == 20
    again = workbench.encoded_set(encoder, data, "labelled", tmp_path / "work", workers=0)
    assert encoder.encoded == 20
    assert (again.z == first.z).all()
    assert (again.labels == first.labels).all()
    assert len(set(first.labels)) == 4


def test_configurations_of_two_caches_are_refused() -> None:
    cache = CacheConfig(sources=tuple(SourceConfig(name, passes=1) for name in NAMES))
    config = Config("efficientnet-lite0", cache)
    other = replace(config, train=QUICK)
    assert one_cache({"a": config, "b": other}) == config
    with pytest.raises(ValueError, match="b and a must have the same model and cache"):
        one_cache({"a": config, "b": replace(config, cache=replace(cache, seed=1))})
