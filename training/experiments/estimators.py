"""Other uncertainties to hold u against: class entropy, an ensemble, MC dropout, the distance to what is known.

Ensemble and MC dropout are small classifiers on frozen representations. Of M predictions p_m of one image,

    entropy of the mean  =  mean of the entropies  +  mutual information,

the first of which is usually read as aleatoric and the second, the predictions' disagreement, as epistemic
(Depeweg et al., arXiv 1710.07283). Sources: deep ensembles arXiv 1612.01474, MC dropout arXiv 1506.02142, nearest
neighbours for out-of-distribution detection arXiv 2204.06507.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pvu.neighbors import normalized

_BLOCK = 1024


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier on representations.

    Args:
        hidden: width of its one hidden layer.
        dropout: after the hidden layer; MC dropout needs some, and 0.5 is the usual.
        epochs: passes over the views.
        batch: views a step.
        lr: peak of AdamW's learning rate, cosine to zero.
        weight_decay: of AdamW.
    """

    hidden: int = 512
    dropout: float = 0.5
    epochs: int = 4
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        if not 0 < self.dropout < 1:
            raise ValueError(f"dropout must be between 0 and 1, or MC dropout has nothing to drop; got {self.dropout}.")


def train_classifier(z: np.ndarray, labels: np.ndarray, config: ClassifierConfig, seed: int) -> nn.Sequential:
    """Train one classifier; its seed decides the first weights, the batches and what is dropped.

    Args:
        z: (N, D) float representations.
        labels: (N,) int, from 0 to classes - 1.
        config: how.
        seed: of everything random.

    Returns:
        In evaluation mode: representations (B, D) float32 to logits (B, classes).
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.LayerNorm(z.shape[1], elementwise_affine=False),
        nn.Linear(z.shape[1], config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, int(labels.max()) + 1),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    steps = config.epochs * -(-len(z) // config.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(seed)
    targets = torch.from_numpy(np.asarray(labels, np.int64))
    for _ in range(config.epochs):
        order = rng.permutation(len(z))
        for start in range(0, len(z), config.batch):
            rows = order[start : start + config.batch]
            loss = F.cross_entropy(model(torch.from_numpy(z[rows].astype(np.float32))), targets[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model.eval().requires_grad_(False)


def ensemble_probabilities(members: Sequence[nn.Module], z: np.ndarray) -> torch.Tensor:
    """What each member says: (M, N, classes) float32, from representations (N, D)."""
    with torch.inference_mode():
        return torch.stack([torch.softmax(member(torch.from_numpy(z).float()), 1) for member in members])


def dropout_probabilities(model: nn.Module, z: np.ndarray, *, passes: int = 20, seed: int = 0) -> torch.Tensor:
    """What one classifier says with its dropout on: (passes, N, classes) float32. The model is left as it was."""
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    if not layers:
        raise ValueError("MC dropout needs a model with dropout layers, found none.")
    before = torch.random.get_rng_state()
    torch.manual_seed(seed)
    for layer in layers:
        layer.train()
    probabilities = ensemble_probabilities([model] * passes, z)
    for layer in layers:
        layer.eval()
    torch.random.set_rng_state(before)
    return probabilities


def entropy(p: torch.Tensor) -> torch.Tensor:
    """Entropy over the last axis, nats."""
    return torch.special.entr(p).sum(-1)


def expected_entropy(p: torch.Tensor) -> np.ndarray:
    """Mean entropy of the M predictions (M, N, classes): (N,) float32, nats. The aleatoric part."""
    return entropy(p).mean(0).numpy()


def mutual_information(p: torch.Tensor) -> np.ndarray:
    """Disagreement of the M predictions (M, N, classes): (N,) float32, nats, never negative. The epistemic part."""
    return (entropy(p.mean(0)) - entropy(p).mean(0)).clamp(min=0).numpy()


def knn_distance(z: np.ndarray, bank: np.ndarray, *, k: int = 10) -> np.ndarray:
    """1 - cosine of each image (N, D) and its k-th nearest in a bank (M, D) that does not hold it: (N,) float32.

    Raises:
        ValueError: if the bank has fewer than k rows.
    """
    if len(bank) < k:
        raise ValueError(f"The bank holds {len(bank)} representations, expected at least k = {k}.")
    known = torch.from_numpy(normalized(bank))
    vectors = torch.from_numpy(normalized(z))
    parts = [(part @ known.T).topk(k, dim=1).values[:, -1] for part in torch.split(vectors, _BLOCK)]
    return (1 - torch.cat(parts)).numpy()
