"""The uncertainty head: a small MLP on a frozen backbone's representation (PVU, arXiv 2402.16569, section 3)."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn


class UncertaintyHead(nn.Module):
    """u(x) > 0, the predicted task loss of an image, from its representation z.

    Linear(D, hidden) - LeakyReLU - Linear(hidden, hidden) - LeakyReLU - Linear(hidden, 1) - Softplus, plus 1e-6.
    The scale of u carries no meaning (the ranking loss that trains it is scale-free), its order does.

    Args:
        dim: D, the width of the representation.
        hidden: width of the two hidden layers; the paper's 512.

    Raises:
        ValueError: if a width is not positive.
    """

    def __init__(self, dim: int, hidden: int = 512) -> None:
        super().__init__()
        if dim < 1 or hidden < 1:
            raise ValueError(f"dim and hidden must be positive, got dim={dim}, hidden={hidden}.")
        self.dim = dim
        self.hidden = hidden
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Uncertainties of representations.

        Args:
            z: (B, D) float32, not L2-normalised.

        Returns:
            (B,) float32, each > 0.

        Raises:
            ValueError: if z is not (B, D).
        """
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise ValueError(f"Expected representations of shape (B, {self.dim}), got {tuple(z.shape)}.")
        # The stop-gradient of the paper: the head never teaches the backbone, whoever calls it.
        return self.from_hidden(self.layers[:-1](z.detach()))

    def from_hidden(self, hidden: torch.Tensor) -> torch.Tensor:
        """The last layer alone: the second hidden layer (B, hidden) -> uncertainties (B,).

        Apart, since it must be in float32 where the layers before it may run in bfloat16, whose 8 bits order nothing.
        """
        return nn.functional.softplus(self.layers[-1](hidden)).squeeze(1) + 1e-6


def predict(head: UncertaintyHead, z: np.ndarray, *, rows: np.ndarray | None = None, block: int = 8192) -> np.ndarray:
    """u of representations.

    Args:
        head: on plain z.
        z: (N, D) of any float type; may be memory-mapped, as only a block at a time is read.
        rows: (n,) int, which of them; None takes all.
        block: representations at a time.

    Returns:
        (n,) float32.
    """
    rows = np.arange(len(z)) if rows is None else rows
    starts = range(0, len(rows), block)
    with torch.inference_mode():
        return torch.cat([head(torch.from_numpy(z[rows[i : i + block]]).float()) for i in starts]).numpy()


def parameter_groups(head: UncertaintyHead, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices alone: a decayed bias only shifts u."""
    decayed = [parameter for parameter in head.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in head.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": biases, "weight_decay": 0.0}]


def fold(head: UncertaintyHead, mean: torch.Tensor, std: torch.Tensor) -> UncertaintyHead:
    """The head on plain z that equals ``head`` on (z - mean) / std."""
    folded = copy.deepcopy(head).eval().requires_grad_(False)
    first = folded.layers[0]
    assert isinstance(first, torch.nn.Linear)
    first.weight.copy_(first.weight / std)
    first.bias.copy_(first.bias - first.weight @ mean)
    return folded
