from __future__ import annotations

import numpy as np
import pytest
import torch

from pvu.neighbors import normalized
from training import tasks


def test_cross_entropy_by_hand() -> None:
    def logits(z: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))

    loss, correct = tasks.cross_entropy(np.zeros((2, 4)), np.array([1, 2]), logits)
    np.testing.assert_allclose(loss, [np.log(4), -np.log(0.8)], rtol=1e-5)
    assert correct.tolist() == [False, True]


def test_retrieval_and_instance_loss_equal_naive_loops() -> None:
    rng = np.random.default_rng(0)
    bank = normalized(rng.normal(size=(12, 5)))
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4])
    z, own = rng.normal(size=(7, 5)), np.array([0, 3, 5, 8, 9, 10, 11])
    retrieval = tasks.retrieval_loss(z, own, bank, labels, 0.2)
    instance = tasks.instance_loss(z, own, bank, 0.2)
    for i in range(7):
        weights = [np.exp(z[i] @ bank[j] / np.linalg.norm(z[i]) / 0.2) for j in range(12)]
        assert instance[i] == pytest.approx(-np.log(weights[own[i]] / sum(weights)), rel=1e-4)
        others = [j for j in range(12) if j != own[i]]
        right = sum(weights[j] for j in others if labels[j] == labels[own[i]])
        if right == 0:
            assert np.isnan(retrieval[i])  # the only picture of label 4
        else:
            assert retrieval[i] == pytest.approx(-np.log(right / sum(weights[j] for j in others)), rel=1e-4)
    assert np.isnan(retrieval).sum() == 1


def test_cold_retrieval_loss_is_recall_at_1() -> None:
    rng = np.random.default_rng(0)
    bank = normalized(rng.normal(size=(40, 5)))
    labels = rng.integers(0, 3, 40)
    loss = tasks.retrieval_loss(bank, np.arange(40), bank, labels, 1e-3)
    cosines = bank @ bank.T - 2 * np.eye(40)
    np.testing.assert_array_equal(loss < 0.5, labels[cosines.argmax(1)] == labels)


def test_distance_of_a_picture_to_itself_is_zero() -> None:
    z = np.random.default_rng(0).normal(size=(3, 5))
    bank = normalized(z)
    np.testing.assert_allclose(tasks.distance(2 * z, np.arange(3), bank), 0, atol=1e-6)
    np.testing.assert_allclose(tasks.distance(-z, np.arange(3), bank), 2, atol=1e-6)
