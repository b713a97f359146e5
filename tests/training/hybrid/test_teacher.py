"""The teacher's vectors and the losses, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from training.config import CacheConfig
from training.data import SourceConfig
from training.hybrid.config import LOSSES, DistillConfig
from training.hybrid.teacher import Teacher, losses, total

TEMPERATURE = 0.1


@pytest.fixture
def pooled() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).gamma(1.0, size=(60, 12)).astype(np.float32))


def test_unwhitened_vectors_are_scikit_learns_principal_components_of_the_roots(pooled: torch.Tensor) -> None:
    roots = np.sqrt(pooled.numpy())
    unit = roots / np.linalg.norm(roots, axis=1, keepdims=True)
    expected = PCA(12).fit_transform(unit)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = Teacher(pooled, 0.0)(pooled).numpy()
    np.testing.assert_allclose(np.abs(found[:, :8]), np.abs(expected[:, :8]), rtol=1e-3, atol=1e-4)


def test_full_whitening_gives_every_component_one_variance(pooled: torch.Tensor) -> None:
    teacher = Teacher(pooled, 0.5)
    roots = pooled.sqrt()
    unit = roots / roots.norm(dim=1, keepdim=True)
    variance = ((unit - teacher.centre) @ teacher.basis).var(0)
    torch.testing.assert_close(variance[:8], torch.ones(8), rtol=0.02, atol=0.0)


def batch(seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    z, scores, trunk = (torch.randn(6, n, generator=generator) for n in (4, 5, 5))
    target = torch.nn.functional.normalize(torch.randn(6, 7, generator=generator), dim=1)
    return z, scores, target, trunk, torch.tensor([0, 1, 0, -1, 1, 2])


def test_losses_are_those_of_plain_loops() -> None:
    z, scores, target, trunk, labels = batch()
    found = losses(z, scores, target, trunk, labels, TEMPERATURE)
    assert tuple(found) == LOSSES

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(a @ b / a.norm() / b.norm())

    def softmax(values: list[float]) -> list[float]:
        powers = [math.exp(value) for value in values]
        return [power / sum(powers) for power in powers]

    relation, retrieval = [], []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        mine = softmax([cosine(z[i], z[j]) / TEMPERATURE for j in others])
        wanted = softmax([cosine(target[i], target[j]) / TEMPERATURE for j in others])
        relation.append(sum(w * math.log(w / m) for w, m in zip(wanted, mine, strict=True)))
        known = [j for j in others if labels[j] >= 0]
        same = [j for j in known if labels[j] == labels[i]]
        if labels[i] >= 0 and same:
            near = {j: math.exp(cosine(z[i], z[j]) / TEMPERATURE) for j in known}
            retrieval.append(-math.log(sum(near[j] for j in same) / sum(near.values())))
    label = [-math.log(softmax(scores[i].tolist())[labels[i]]) for i in range(6) if labels[i] >= 0]
    logits = []
    for i in range(6):
        mine, wanted = softmax(scores[i].tolist()), softmax(trunk[i].tolist())
        logits.append(sum(w * math.log(w / m) for w, m in zip(wanted, mine, strict=True)))
    cosines = [1 - cosine(z[i], target[i, :4]) for i in range(6)]
    expected = dict(zip(LOSSES, (cosines, relation, retrieval, label, logits), strict=True))
    for name, values in expected.items():
        assert float(found[name]) == pytest.approx(np.mean(values), rel=1e-4), name


def test_a_batch_without_labels_has_no_label_losses_and_still_teaches() -> None:
    z, scores, target, trunk, _ = batch()
    z.requires_grad_(True)
    found = losses(z, scores, target, trunk, torch.full((6,), -1), TEMPERATURE)
    assert float(found["retrieval"]) == float(found["label"]) == 0
    config = DistillConfig(CacheConfig((SourceConfig("a", passes=0),)))
    total(found, config).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert z.grad.abs().sum() > 0


def test_the_relation_loss_is_zero_where_the_similarities_agree() -> None:
    _, scores, target, trunk, labels = batch()
    found = losses(3 * target, scores, target, trunk, labels, TEMPERATURE)
    assert float(found["relation"]) == pytest.approx(0, abs=1e-5)
    assert float(found["cosine"]) == pytest.approx(0, abs=1e-5)
