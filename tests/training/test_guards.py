"""Each guard is provoked by what it is there for."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn

from pvu.head import UncertaintyHead
from pvu.losses import ranking_loss
from training.guards import (
    TrainingError,
    check_batch,
    check_losses_vary,
    check_no_gradient,
    check_same_backbone,
    check_uncertainties,
    frozen,
)


class Leaky(UncertaintyHead):
    """A head without the stop-gradient."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.from_hidden(self.layers[:-1](z))


def joint_step(backbone: nn.Module, head: UncertaintyHead, parameters: list[nn.Parameter]) -> None:
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    z = backbone.forward_head(backbone.forward_features(torch.randn(4, 3, 160, 160)), pre_logits=True)  # type: ignore[operator]
    ranking_loss(head(z), torch.rand(4)).backward()
    optimizer.step()


@pytest.fixture
def backbone() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=5)


def test_the_heads_gradient_does_not_reach_a_trainable_backbone(backbone: nn.Module) -> None:
    head = UncertaintyHead(64, 16)
    with frozen(backbone, "the backbone"):
        joint_step(backbone, head, [*backbone.parameters(), *head.parameters()])
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_a_head_that_leaks_is_noticed(backbone: nn.Module) -> None:
    head = Leaky(64, 16)
    message = r"A gradient has reached \w.* of the backbone, which must learn nothing from the head"
    with pytest.raises(TrainingError, match=message), frozen(backbone, "the backbone"):
        joint_step(backbone, head, [*head.parameters()])
    check_no_gradient(UncertaintyHead(64, 16), "a head without gradients")


def test_a_gradient_that_is_not_a_number_is_noticed_too(backbone: nn.Module) -> None:
    parameter = next(backbone.parameters())
    parameter.grad = torch.full_like(parameter, torch.nan)
    with pytest.raises(TrainingError, match="A gradient has reached"):
        check_no_gradient(backbone, "the backbone")


def test_a_backbone_that_is_in_the_optimiser_is_noticed(backbone: nn.Module) -> None:
    def decay() -> None:
        for parameter in backbone.parameters():
            parameter.grad = torch.zeros_like(parameter)
        torch.optim.AdamW(backbone.parameters(), lr=0.1, weight_decay=0.1).step()  # moves even without a gradient

    message = r"The weights of the backbone have changed: their hash was [0-9a-f]{32}, and is"
    with pytest.raises(TrainingError, match=message), frozen(backbone, "the backbone"):
        decay()


def test_a_classifier_that_changed_is_noticed(backbone: nn.Module) -> None:
    classifier = backbone.get_classifier()  # type: ignore[operator]
    message = "weights of the classifier have changed"
    with pytest.raises(TrainingError, match=message), frozen(classifier, "the classifier"):
        nn.init.constant_(classifier.bias, 1e-3)


def test_batch_norm_in_training_mode_is_noticed() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).requires_grad_(False)
    with frozen(net.eval(), "the backbone"):
        net(torch.randn(2, 3, 8, 8))
    with pytest.raises(TrainingError, match="put it into evaluation mode"), frozen(net.train(), "the backbone"):
        net(torch.randn(2, 3, 8, 8))


def test_what_the_block_raises_comes_through(backbone: nn.Module) -> None:
    with pytest.raises(KeyError), frozen(backbone, "the backbone"):
        raise KeyError


def test_collapsed_uncertainties_are_noticed() -> None:
    assert check_uncertainties(np.array([1.0, 3.0])) == pytest.approx(0.5)
    with pytest.raises(TrainingError, match=r"collapsed: u varies by 4\.\de-04 of its mean .* more than 1e-03"):
        check_uncertainties(np.array([1.0, 1.0008]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_uncertainties_that_are_not_finite_are_counted(bad: float) -> None:
    with pytest.raises(TrainingError, match="gives 2 of 4 validation images an uncertainty that is not finite"):
        check_uncertainties(np.array([1, bad, 2, bad]))


def test_constant_losses_are_named_by_source() -> None:
    goal, source = np.array([1.0, 2.0, 3.0, 3.0]), np.array([0, 0, 1, 1])
    check_losses_vary(goal, source, {0: "a", 1: "b"}, within=False)
    with pytest.raises(TrainingError, match="task loss of all 2 training views of b is 3: there is no order to learn"):
        check_losses_vary(goal, source, {0: "a", 1: "b"}, within=True)
    with pytest.raises(TrainingError, match="all 2 training views of the cache"):
        check_losses_vary(goal[2:], source[2:], {1: "b"}, within=False)


def test_a_loss_that_is_not_finite_is_explained() -> None:
    z, rows = np.zeros((3, 4), np.float16), np.array([40, 7, 9])
    check_batch(z, rows, 0.5)
    with pytest.raises(TrainingError, match=r"loss is inf on finite representations\. Lower base_lr"):
        check_batch(z, rows, float("inf"))
    z[1, 2], z[2, 0] = np.nan, np.inf
    with pytest.raises(TrainingError, match=r"view 7 \(and 1 more of this batch's 3\) is not finite"):
        check_batch(z, rows, float("nan"))


def test_a_foreign_cache_is_refused() -> None:
    check_same_backbone("abc", "abc", "m")
    with pytest.raises(TrainingError, match="other weights than those of m: their hash is abc, expected def"):
        check_same_backbone("abc", "def", "m")
