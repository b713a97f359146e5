from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from training.cache_checks import (
    check_classifier,
    check_logits,
    check_representations,
    check_unchanged,
    classifier_of,
    weights_of,
)
from training.shards import CacheError

KEYS = [f"photos/{index}.jpg" for index in range(4)]


class Backbone(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm, self.classifier = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 5)

    def get_classifier(self) -> torch.nn.Module:
        return self.classifier


@pytest.fixture
def model() -> SimpleNamespace:
    return SimpleNamespace(backbone=Backbone())


def test_the_same_weights_have_the_same_hashes(model: SimpleNamespace) -> None:
    before = weights_of(model)
    assert before == weights_of(SimpleNamespace(backbone=Backbone()))
    assert before["backbone"] != before["classifier"]
    check_unchanged(model, before)


@pytest.mark.parametrize("part", ["stem", "norm", "classifier"])
def test_a_change_is_named(part: str, model: SimpleNamespace) -> None:
    before = weights_of(model)
    if part == "norm":  # a batch norm that was left in training mode: no parameter changes
        model.backbone.norm.train()(torch.randn(8, 4))
    else:
        with torch.no_grad():
            getattr(model.backbone, part).bias[0] += 1e-3
    name = "classifier" if part == "classifier" else "backbone"
    with pytest.raises(CacheError, match=f"The {name} has changed while .* its hash was {before[name]}"):
        check_unchanged(model, before)


def test_a_model_without_a_classifier_is_refused(model: SimpleNamespace) -> None:
    check_classifier(model)
    assert classifier_of(model) is model.backbone.classifier
    model.backbone.classifier = torch.nn.Identity()
    with pytest.raises(CacheError, match=r"has no classifier \(Identity in its place\)"):
        check_classifier(model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_representations_that_are_not_finite_are_refused(value: float) -> None:
    z, decoded = np.ones((4, 3), np.float16), np.array([True, True, True, False])
    z[3, 1] = value  # of the image that could not be decoded: no matter
    check_representations(z, decoded, KEYS)
    z[2, 1] = value
    with pytest.raises(CacheError, match=r"of 1 of 4 images are not finite .* photos/2\.jpg"):
        check_representations(z, decoded, KEYS)


def test_a_disk_that_is_gone_is_no_set_of_damaged_images() -> None:
    z = np.zeros((4, 3), np.float16)
    with pytest.raises(CacheError, match=r"None of the 4 images from photos/0\.jpg on"):
        check_representations(z, np.zeros(4, bool), KEYS)
    check_representations(z[:1], np.zeros(1, bool), KEYS[:1])  # one damaged image may be alone in its shard


def test_a_classifier_that_says_nothing_is_refused() -> None:
    z, logits = np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 5))
    check_logits(z, logits)
    constant = np.tile(logits[0], (4, 1))
    with pytest.raises(CacheError, match="the same logits for all of 4 different images"):
        check_logits(z, constant)
    check_logits(np.ones((4, 3)), constant)  # four copies of one image
    check_logits(z[:1], constant[:1])
    logits[2, 2] = np.nan
    with pytest.raises(CacheError, match="logits that are not finite"):
        check_logits(z, logits)
