"""Checkpoints in the format of the paper's authors, made here, and its head by the paper's formula."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def write_checkpoint(
    path: Path,
    backbone: nn.Module,
    architecture: str,
    /,
    *,
    dim: int,
    hidden: int = 512,
    prefix: str = "",
    **changes: Any,
) -> dict[str, torch.Tensor]:
    """Save a backbone with a random head as timm's CheckpointSaver does, with the entries that are named changed.

    Returns:
        The head's tensors, by the names of the authors' module: 0.weight, 0.bias, 2.weight, ...
    """
    torch.manual_seed(3)
    layers = nn.Sequential(nn.Linear(dim, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LeakyReLU())
    layers.append(nn.Linear(hidden, 1))
    tensors = {f"{prefix}model.{name}": value for name, value in backbone.state_dict().items()}
    tensors |= {f"{prefix}unc_module.unc_module.{name}": value for name, value in layers.state_dict().items()}
    optimizer = torch.optim.AdamW(layers.parameters())
    layers(torch.randn(2, dim)).sum().backward()
    optimizer.step()
    saved = {
        "epoch": 12,
        "arch": architecture,
        "state_dict": tensors,
        "optimizer": optimizer.state_dict(),
        "version": 2,
        "args": Namespace(
            model=architecture, seed=1, lr_base=1e-3, opt_betas=[0.8, 0.95], unc_width=hidden, resume=None
        ),
        "metric": np.float64(0.607),
    }
    torch.save(saved | changes, path)
    return layers.state_dict()


def uncertainties(z: torch.Tensor, layers: dict[str, torch.Tensor]) -> torch.Tensor:
    """The paper's head by its formula, from representations (B, D): (B,)."""
    hidden = z
    for index in (0, 2):
        hidden = hidden @ layers[f"{index}.weight"].T + layers[f"{index}.bias"]
        hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
    raw = hidden @ layers["4.weight"].T + layers["4.bias"]
    return torch.log1p(torch.exp(raw)).squeeze(1) + 1e-6
