from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from training.experiments.reported import DEMO, ReportedSet, Reports, _only
from training.linear import as_head


def make_set(name: str, seed: int) -> ReportedSet:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    labels = rng.integers(0, 3, 60).astype(str)
    correct = features[:, 0] + rng.normal(size=60) < 0
    whole = np.arange(0, 60, 2)
    cropped = features[whole] + rng.normal(0.5, 1, (30, 4)).astype(np.float32)
    if name == DEMO:
        return ReportedSet(name, features, labels, correct, features[:0], whole[:0], rng.random(60))
    return ReportedSet(name, features, labels, correct, cropped, whole, np.empty(0))


def test_numbers_are_those_of_a_loop() -> None:
    sets = [make_set("a", 0), make_set("b", 1), make_set(DEMO, 2)]
    numbers = Reports.of(sets, as_head(np.array([1.0, 0, 0, 0]), 0.0)).numbers()
    assert numbers["reported a"] == pytest.approx(roc_auc_score(sets[0].correct, -sets[0].features[:, 0]))
    assert numbers["reported mean"] == pytest.approx((numbers["reported a"] + numbers["reported b"]) / 2)
    rising = [np.mean(s.features[s.whole, 0] < s.cropped[:, 0]) for s in sets[:2]]
    assert numbers["reported crop"] == pytest.approx(np.mean(rising))
    inside = []
    for each in sets[:2]:
        chosen = [each.labels == label for label in "012"]
        inside.append(np.mean([roc_auc_score(each.correct[r], -each.features[r, 0]) for r in chosen]))
    assert numbers["reported within labels"] == pytest.approx(np.mean(inside))
    expected = spearmanr(sets[2].features[:, 0], sets[2].strength).statistic
    assert numbers["reported demo"] == pytest.approx(expected)


def test_other_features_are_taken_for_images_and_crops_alike() -> None:
    plain = make_set("a", 0)
    doubled = plain.transformed(lambda features: features * 2)
    np.testing.assert_array_equal(doubled.features, plain.features * 2)
    np.testing.assert_array_equal(doubled.cropped, plain.cropped * 2)
    demo = replace(make_set(DEMO, 2))
    assert demo.transformed(lambda features: features[:, :2]).cropped.shape[0] == 0


def test_a_part_of_a_set_is_another_set() -> None:
    from pathlib import Path

    from training.evaluation.sets import ImageSet

    images = ImageSet("a", Path("a"), ("x.png", "y.png", "z.png"), np.array(["1", "2", "3"], object), "hash")
    part = _only(images, np.array([0, 2]))
    assert part.paths == ("x.png", "z.png")
    assert part.labels.tolist() == ["1", "3"]
    assert part.identity != images.identity
