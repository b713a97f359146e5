from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pvu.errors import ModelError
from pvu.head import UncertaintyHead
from training import evaluate as evaluation
from training.degradations import KINDS, sweep


@pytest.fixture
def model(encoder):
    """The fake encoder with an untrained head, as pvu's Model."""
    torch.manual_seed(0)
    head = UncertaintyHead(48, 8)

    def encode(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = encoder.represent(torch.from_numpy(pixels))
        with torch.inference_mode():
            return z.numpy(), head(z).numpy()

    return SimpleNamespace(
        name="fake",
        fingerprint="f",
        device="cpu",
        head=head.requires_grad_(False),
        encode=encode,
        represent=encoder.represent,
        logits=encoder.logits,
        preprocessing=encoder.preprocessing,
    )


def random_set() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 300)
    z = rng.normal(size=(300, 6)) + 0.8 * np.eye(6)[labels] * 3
    return z.astype(np.float32), labels.astype(str), rng.normal(size=(300, 10)), rng.random(300) + 0.1


def test_recall_and_r_auroc_equal_a_naive_computation() -> None:
    z, labels, logits, u = random_set()
    found = evaluation.measure(z, labels, evaluation.uncertainties(z, logits, u))
    correct, nearest = [], []
    for i in range(len(z)):
        cosines = [
            -2.0 if i == j else float(z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j])) for j in range(len(z))
        ]
        correct.append(labels[int(np.argmax(cosines))] == labels[i])
        nearest.append(max(cosines))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    naive = {
        "u": -u,
        "norm": np.linalg.norm(z, axis=1),
        "entropy": (p * np.log(p)).sum(1),
        "energy": np.log(np.exp(logits).sum(1)),
        "similarity": np.array(nearest),
    }
    assert found["recall_at_1"] == pytest.approx(np.mean(correct), abs=1e-9)
    assert found["images"] == 300
    assert found["labels"] == 5
    for name, certainty in naive.items():
        assert found["r_auroc"][name] == pytest.approx(roc_auc_score(correct, certainty), abs=1e-6), name
    assert abs(found["r_auroc"]["random"] - 0.5) < 0.1


def test_combination_adds_up_what_two_scores_know() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2000))
    correct = a + b + rng.normal(size=2000) > 0
    both = evaluation.cross_fitted(correct, np.column_stack([a, b]))
    assert both > roc_auc_score(correct, a) + 0.05
    assert both > roc_auc_score(correct, b) + 0.05


def test_combination_does_not_see_what_it_is_scored_on() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(400) < 0.5
    assert abs(evaluation.cross_fitted(correct, rng.normal(size=(400, 20))) - 0.5) < 0.1
    assert np.isnan(evaluation.cross_fitted(np.ones(400, bool), rng.normal(size=(400, 2))))


def test_everything_is_measured_and_printed(model, data: Path) -> None:
    results = evaluation.evaluate(model, data, ["labelled"], workers=0)
    json.dumps(results)
    found = results["sets"]["labelled"]
    assert (found["images"], found["labels"]) == (20, 4)
    assert set(found["degradation"]) == set(KINDS)
    table = evaluation.markdown(results)
    assert "| labelled | 20 | 4 |" in table
    assert "-similarity" in table


def test_model_without_head_is_refused(data: Path) -> None:
    with pytest.raises(ModelError, match="no uncertainty head"):
        evaluation.evaluate(SimpleNamespace(name="bare", head=None), data, ["labelled"])  # type: ignore[arg-type]


def test_sweep_finds_an_uncertainty_that_follows_darkness(model, data: Path) -> None:
    model.encode = lambda pixels: (pixels, 1 - pixels.mean(axis=(1, 2, 3)) / 255)
    paths = sorted((data / "labelled").rglob("*.png"))
    found = sweep(model, paths, images=5)
    assert found["dimming"] > 0.95
    assert abs(found["blur"]) < 0.5
