from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.evaluation.baselines import uncertainties
from training.evaluation.ood import evaluate_mixture, pooled
from training.evaluation.protocol import EncodedSet


def encoded(name: str, count: int, seed: int, u: float = 0.0) -> EncodedSet:
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=count)
    z = rng.normal(size=(4, 6))[labels] + rng.normal(size=(count, 6))
    return EncodedSet(
        name, z, np.array([f"label {n}" for n in labels], object), uncertainties(z, rng.random(count) + u)
    )


def test_a_mixture_of_all_images_is_the_naive_computation() -> None:
    up, down = encoded("up", 40, 0), encoded("down", 40, 1, u=0.4)
    found = evaluate_mixture(up, [down])
    u = np.concatenate([up.scores.heads["u"], down.scores.heads["u"]])
    z = np.concatenate([up.z, down.z])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    cosines = z @ z.T - 2 * np.eye(80)
    labels = [f"up {label}" for label in up.labels] + [f"down {label}" for label in down.labels]
    correct = np.array([labels[i] == labels[j] for i, j in enumerate(cosines.argmax(1))])
    assert found.images == 40
    assert found.ood_auroc["u"].value == pytest.approx(roc_auc_score(np.repeat([0, 1], 40), u))
    assert found.ood_auroc["u"].value > found.ood_auroc["u"].low > 0.6
    assert found.recall_at_1 == pytest.approx(correct.mean())
    assert found.mixed_r_auroc["u"].value == pytest.approx(roc_auc_score(correct, -u))
    assert found.mixed_r_auroc["u"].low < found.mixed_r_auroc["u"].value < found.mixed_r_auroc["u"].high


def test_as_many_images_of_each_kind_are_drawn_and_the_same_ones_again() -> None:
    up, downs = encoded("up", 90, 0), [encoded("a", 20, 1), encoded("b", 25, 2)]
    found = evaluate_mixture(up, downs, resamples=0)
    assert found.images == 45
    again, other = (evaluate_mixture(up, downs, resamples=0, seed=seed) for seed in (0, 1))
    assert repr(found) == repr(again)  # as text, where NaN equals NaN
    assert found.ood_auroc["u"].value != other.ood_auroc["u"].value


def test_labels_of_different_sets_are_different_and_common_uncertainties_stay() -> None:
    a, b = encoded("a", 10, 0), encoded("b", 10, 0)
    a.labels[3] = None
    other = EncodedSet("b", b.z, b.labels, uncertainties(b.z, b.scores.heads["u"], logits=b.z))
    both = pooled([a, other])
    assert both.name == "a+b"
    assert both.labels[3] is None
    assert not set(both.labels[:10]) & set(both.labels[10:])
    assert list(both.scores.all) == ["u", "random", "-norm"]
    with pytest.raises(ValueError, match="at least one set"):
        pooled([])
