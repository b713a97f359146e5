"""What a head is taught with. Source: arXiv 2402.16569, section 3."""

from __future__ import annotations

import torch

MARGIN = 0.1  # the paper's


def ranking_loss(u: torch.Tensor, task_loss: torch.Tensor, margin: float = MARGIN) -> torch.Tensor:
    """Hinge loss on the order of u within consecutive pairs (2i, 2i+1): free of the task loss's scale.

    With s = +1 where the first of a pair has the higher task loss, else -1: mean of max(0, -s (u0 - u1) + margin).

    Args:
        u: (B,) float, predicted uncertainties.
        task_loss: (B,) float, what they are to be ordered by; no gradient flows into it.
        margin: by how much u must differ within a pair.

    Returns:
        () float, differentiable in u.

    Raises:
        ValueError: if B is odd or zero, or the shapes differ.
    """
    _check(u, task_loss)
    if len(u) == 0 or len(u) % 2:
        raise ValueError(f"The ranking loss compares pairs, so the batch must be even and not empty; got {len(u)}.")
    losses = task_loss.detach()
    sign = torch.where(losses[0::2] > losses[1::2], 1.0, -1.0)
    return torch.relu(margin - sign * (u[0::2] - u[1::2])).mean()


def l2_loss(u: torch.Tensor, task_loss: torch.Tensor) -> torch.Tensor:
    """The baseline: mean squared difference of u and the task loss, both (B,).

    Raises:
        ValueError: if the shapes differ.
    """
    _check(u, task_loss)
    return (u - task_loss.detach()).square().mean()


def _check(u: torch.Tensor, task_loss: torch.Tensor) -> None:
    if u.ndim != 1 or u.shape != task_loss.shape:
        raise ValueError(f"Expected two vectors of one length, got {tuple(u.shape)} and {tuple(task_loss.shape)}.")
