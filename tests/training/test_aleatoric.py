from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn

from pvu.head import UncertaintyHead
from tests.training.small_cache import NAMES, make_set, make_views
from training.degradations import KINDS, LEVELS
from training.evaluate import SETS
from training.experiments import aleatoric, estimators
from training.experiments.aleatoric import Replicate, Scores, agreement, retrieval, split_labels, unfamiliar
from training.experiments.estimators import ClassifierConfig


def scores_of(count: int, seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    return {"a": rng.random(count), "b": rng.random(count)}


@pytest.fixture
def scores() -> dict[str, list[Scores]]:
    return {name: [scores_of(60, 10 * row + r) for r in range(2)] for row, name in enumerate((*SETS, "photographs"))}


def test_no_classifier_and_no_bank_sees_the_labels_that_are_left_out() -> None:
    views = make_views()
    split = split_labels(views, NAMES)
    assert split.unseen.tolist() == [3, 7]
    tiny = NAMES.index("tiny_imagenet_train")
    seen = {tuple(row) for row in split.z.tolist()}
    kept = {tuple(row) for row in split.bank.tolist()}
    photographs = {tuple(row) for row in split.photographs.tolist()}
    for z, facts, source, index, held_out, known in zip(
        views.z, views.facts, views.source, views.pass_index, views.held_out, views.known, strict=True
    ):
        row, left_out = tuple(z.tolist()), facts["label"] in (3, 7)
        assert (row in seen) == (source == tiny and not left_out)
        assert (row in kept) == (known and not left_out and index == 0 and not held_out)
        assert (row in photographs) == (source < 2 and index == 0 and held_out)
    assert sorted(set(split.labels.tolist())) == list(range(6))
    with pytest.raises(ValueError, match="no imagenet_photos"):
        split_labels(views, ["x", *NAMES[1:]])


def test_unfamiliar_is_the_auroc_of_outside_against_inside(scores: dict[str, list[Scores]]) -> None:
    unseen = np.arange(60) % 4 == 0
    found = unfamiliar(scores, unseen, repeats=20)
    tiny = scores["tiny_imagenet_val"]
    naive = [roc_auc_score(unseen, one["a"]) for one in tiny]
    assert found["unseen labels / known labels"]["a"]["values"] == pytest.approx(naive)
    far = roc_auc_score(
        np.repeat([False, True], [45, 60]), np.concatenate([tiny[1]["b"][~unseen], scores["cub_dev"][1]["b"]])
    )
    assert found["cub_dev / known labels"]["b"]["values"][1] == pytest.approx(far)
    assert set(found) >= {"cub_dev / photographs", "cifar10_dev / known labels"}
    assert "tiny_imagenet_val / known labels" not in found


def test_retrieval_is_the_r_auroc(scores: dict[str, list[Scores]]) -> None:
    answers = make_set(31, 60)
    found = retrieval(scores, {"cub_dev": answers}, repeats=20)["cub_dev"]["a"]
    naive = [answers.r_auroc(one["a"]) for one in scores["cub_dev"]]
    assert found["values"] == pytest.approx(naive)
    assert found["over_images"]["mean"] == pytest.approx(np.mean(naive))
    assert found["over_images"]["low"] < np.mean(naive) < found["over_images"]["high"]


def test_agreement_is_the_mean_correlation(scores: dict[str, list[Scores]]) -> None:
    for by_seed in scores.values():
        for one in by_seed:
            one["c"] = -one["a"]
    found = agreement(scores)
    naive = np.mean([spearmanr(one["a"], one["b"]).statistic for name in SETS for one in scores[name]])
    assert found["a"]["b"] == pytest.approx(naive) == found["b"]["a"]
    assert found["a"]["c"] == pytest.approx(-1)
    assert found["b"]["b"] == pytest.approx(1)


@pytest.fixture
def replicate(encoder) -> Replicate:
    """Estimators on the fake encoder, whose head only sees how dark an image is."""
    encoder.device = torch.device("cpu")
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(60, 48)).astype(np.float16), rng.integers(0, 3, 60)
    members = [estimators.train_classifier(z, labels, ClassifierConfig(hidden=8, epochs=1), s) for s in (1, 2)]
    head = UncertaintyHead(48, 4)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        head.layers[0].weight[0] = -1.0  # type: ignore[index]
        head.layers[0].bias[0] = 100.0  # type: ignore[index]
        head.layers[2].weight[0, 0] = head.layers[4].weight[0, 0] = 1.0  # type: ignore[index]
    return Replicate(encoder, {"dark": head}, members, z, 1)


def test_scores_are_those_of_the_estimators(replicate: Replicate) -> None:
    z = np.random.default_rng(1).normal(size=(30, 48)).astype(np.float32)
    found = replicate.scores(z)
    assert {len(values) for values in found.values()} == {30}
    p = np.exp(replicate.model.logits(torch.from_numpy(z)).numpy())
    p /= p.sum(1, keepdims=True)
    assert found["class entropy"] == pytest.approx(-(p * np.log(p + 1e-30)).sum(1), abs=1e-3)
    assert found["k-NN distance"] == pytest.approx(estimators.knn_distance(z, replicate.bank))
    assert found["u, dark"] == pytest.approx(100 - z.sum(1), rel=1e-3)
    ensemble = estimators.ensemble_probabilities(replicate.members, z)
    assert found["ensemble, mutual information"] == pytest.approx(estimators.mutual_information(ensemble))


def test_an_uncertainty_that_sees_darkness_follows_dimming(replicate: Replicate, data: Path) -> None:
    found = aleatoric.degraded([replicate, replace(replicate, seed=2)], data, "labelled", images=5, repeats=20)
    assert set(found) == set(KINDS)
    assert found["dimming"]["u, dark"]["over_seeds"]["mean"] > 0.9
    assert abs(found["blur"]["u, dark"]["over_seeds"]["mean"]) < 0.5


def test_correlation_with_strength_equals_a_naive_one() -> None:
    values = np.random.default_rng(0).random((7, len(LEVELS)))
    rows = np.array([0, 2, 2, 5])
    naive = spearmanr(np.concatenate([values[row] for row in rows]), list(LEVELS) * 4).statistic
    assert aleatoric.with_strength(values.ravel(), rows) == pytest.approx(naive)


def test_everything_is_run_and_printed(
    replicate: Replicate, scores: dict[str, list[Scores]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    views = make_views()
    split = split_labels(views, NAMES)
    config = SimpleNamespace(cache=SimpleNamespace(sources=[SimpleNamespace(name=n) for n in NAMES]), model="fake")
    monkeypatch.setattr(aleatoric, "one_cache", lambda configs: config)
    monkeypatch.setattr(aleatoric, "open_workbench", lambda *_: SimpleNamespace(views=views))
    monkeypatch.setattr(aleatoric, "load_model", lambda _: replicate.model)
    monkeypatch.setattr(aleatoric, "encoded_set", lambda model, data, name, work: make_set(len(name)).encoded)
    monkeypatch.setattr(aleatoric, "imagenet_classes", lambda: {str(label): label for label in range(8)})
    monkeypatch.setattr(aleatoric, "SWEPT", ())
    made = SimpleNamespace(scores=lambda z: scores_of(len(z), len(z)))
    monkeypatch.setattr(aleatoric, "make_replicate", lambda *_: made)
    results = aleatoric.run({}, tmp_path, tmp_path, tmp_path, replicates=2, images=2, repeats=5)
    assert results["counts"] == {
        "left-out labels": 2,
        "training views": len(split.z),
        "bank": len(split.bank),
        "photographs": len(split.photographs),
    }
    table = aleatoric.markdown(results)
    assert table.count("\n| a |") == 3
    assert "unseen labels / known labels" in table
