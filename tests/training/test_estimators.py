from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch import nn

from training.experiments import estimators
from training.experiments.estimators import ClassifierConfig

QUICK = ClassifierConfig(hidden=16, epochs=10, batch=32, lr=5e-3)


def clusters(count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    return (3 * np.eye(8)[labels] + rng.normal(size=(count, 8)) * 0.5).astype(np.float16), labels


def test_a_classifier_learns_and_repeats_itself() -> None:
    z, labels = clusters()
    first, again, other = (estimators.train_classifier(z, labels, QUICK, seed) for seed in (1, 1, 2))
    tested, truth = clusters(seed=1)
    inputs = torch.from_numpy(tested).float()
    assert (first(inputs).argmax(1).numpy() == truth).mean() > 0.95
    assert torch.equal(first(inputs), again(inputs))
    assert not torch.equal(first(inputs), other(inputs))


def test_entropies_of_several_predictions_add_up() -> None:
    p = torch.softmax(torch.randn(5, 20, 4, generator=torch.Generator().manual_seed(0)), -1)
    total = scipy_entropy(p.mean(0).numpy(), axis=1)
    expected = np.mean([scipy_entropy(one.numpy(), axis=1) for one in p], axis=0)
    assert estimators.expected_entropy(p) == pytest.approx(expected, abs=1e-5)
    assert estimators.mutual_information(p) == pytest.approx(total - expected, abs=1e-5)


def test_agreement_and_contradiction_are_the_ends_of_mutual_information() -> None:
    certain = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    undecided = torch.full((2, 1, 2), 0.5)
    assert estimators.mutual_information(certain) == pytest.approx(np.log(2))
    assert estimators.expected_entropy(certain) == pytest.approx(0)
    assert estimators.mutual_information(undecided) == pytest.approx(0)
    assert estimators.expected_entropy(undecided) == pytest.approx(np.log(2))


def test_dropout_disagrees_and_leaves_no_trace() -> None:
    z, labels = clusters()
    model = estimators.train_classifier(z, labels, QUICK, 1)
    before = torch.random.get_rng_state()
    p = estimators.dropout_probabilities(model, z, passes=3, seed=4)
    assert p.shape == (3, 300, 3)
    assert not torch.equal(p[0], p[1])
    assert torch.equal(p, estimators.dropout_probabilities(model, z, passes=3, seed=4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not any(module.training for module in model.modules())
    # Without dropout all passes would be the same.
    plain = estimators.ensemble_probabilities([model, model], z)
    assert torch.equal(plain[0], plain[1])


def test_dropout_that_drops_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a model with dropout"):
        estimators.dropout_probabilities(nn.Linear(2, 2), np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"got 0\.0"):
        ClassifierConfig(dropout=0.0)


def test_distance_to_the_bank_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    z, bank = rng.normal(size=(30, 6)).astype(np.float32), rng.normal(size=(40, 6)).astype(np.float16)
    naive = []
    for row in z:
        cosines = sorted(float(row @ b / np.linalg.norm(row) / np.linalg.norm(b)) for b in bank.astype(np.float32))
        naive.append(1 - cosines[-4])
    assert estimators.knn_distance(z, bank, k=4) == pytest.approx(naive, abs=1e-5)
    with pytest.raises(ValueError, match="holds 40 representations"):
        estimators.knn_distance(z, bank, k=41)
