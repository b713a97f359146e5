"""The uncertainty head: a small MLP on a frozen backbone's representation (PVU, arXiv 2402.16569, section 3)."""

from __future__ import annotations

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
