from __future__ import annotations

import numpy as np
import pytest
import torch

from pvu.losses import l2_loss, ranking_loss


def naive_ranking_loss(u: list[float], task_loss: list[float], margin: float) -> float:
    total = 0.0
    for i in range(len(u) // 2):
        a, b = 2 * i, 2 * i + 1
        if task_loss[a] > task_loss[b]:
            total += max(0.0, margin - (u[a] - u[b]))
        else:
            total += max(0.0, margin + (u[a] - u[b]))
    return total / (len(u) // 2)


@pytest.mark.parametrize("margin", [0.0, 0.1, 1.0])
def test_ranking_loss_equals_a_naive_loop(margin: float) -> None:
    rng = np.random.default_rng(0)
    u, losses = rng.random(50), rng.integers(0, 5, 50).astype(float)  # integers: ties occur
    found = ranking_loss(torch.tensor(u), torch.tensor(losses), margin)
    assert found.item() == pytest.approx(naive_ranking_loss(u.tolist(), losses.tolist(), margin), abs=1e-12)


def test_ranking_loss_by_hand() -> None:
    # First pair in order by 0.5: nothing to pay. Second in the wrong order by 0.2: 0.2 + the margin 0.1.
    u = torch.tensor([1.0, 0.5, 0.3, 0.5])
    losses = torch.tensor([7.0, 2.0, 9.0, 1.0])
    assert ranking_loss(u, losses).item() == pytest.approx((0 + 0.3) / 2)


def test_ranking_loss_is_free_of_the_scale_of_the_task_loss() -> None:
    u, losses = torch.rand(20), torch.rand(20)
    assert ranking_loss(u, losses) == ranking_loss(u, 1000 * losses + 5)


def test_ranking_loss_pushes_the_wrong_pair_apart() -> None:
    u = torch.tensor([0.1, 0.3], requires_grad=True)
    ranking_loss(u, torch.tensor([2.0, 1.0])).backward()
    assert u.grad is not None
    assert u.grad.tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("size", [0, 1, 7])
def test_odd_or_empty_batch_is_refused_with_its_size(size: int) -> None:
    with pytest.raises(ValueError, match=f"even and not empty; got {size}"):
        ranking_loss(torch.zeros(size), torch.zeros(size))


def test_l2_loss_by_hand() -> None:
    assert l2_loss(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])).item() == pytest.approx(2.0)


@pytest.mark.parametrize("loss", [ranking_loss, l2_loss])
def test_no_gradient_reaches_the_task_loss(loss: object) -> None:
    u, losses = torch.rand(4, requires_grad=True), torch.rand(4, requires_grad=True)
    loss(u, losses).backward()  # type: ignore[operator]
    assert losses.grad is None


@pytest.mark.parametrize("loss", [ranking_loss, l2_loss])
def test_shapes_must_agree(loss: object) -> None:
    with pytest.raises(ValueError, match="two vectors of one length"):
        loss(torch.zeros(4), torch.zeros(4, 1))  # type: ignore[operator]
