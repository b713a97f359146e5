"""What the bundled Vision Transformer is taught: a better form of its trunk's representation, neighbours and labels."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from pvu.hybrid import pooled_input
from training.guards import TrainingError
from training.hybrid.config import DistillConfig

_NEVER = -1e4  # a logit that takes no part in a softmax


class Teacher:
    """The trunk's pooled feature as a better retriever: square roots, centred, partly whitened principal components.

    Square roots even out channels that fire in bursts ("signed square rooting", Jegou & Chum 2012, as is the
    whitening); the two raise the trunk's mean Recall@1 on the four development sets from .673 to .694.

    Args:
        pooled: (N, 1280) float32, the trunk's feature of whole pictures: centre and components are theirs.
        power: of the eigenvalues that the components are divided by; 0.5 whitens fully, 0 not at all.

    Raises:
        TrainingError: if a feature is not finite.
    """

    def __init__(self, pooled: torch.Tensor, power: float) -> None:
        if not torch.isfinite(pooled).all():
            raise TrainingError("The trunk's representations are not finite. Make the maps again.")
        unit = pooled_input(pooled)
        self.centre = unit.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((unit - self.centre).T))
        order = torch.argsort(values, descending=True)
        self.basis = vectors[:, order] / (values[order].clamp_min(0) + 1e-6) ** power
        """(1280, 1280): from centred features to components, the strongest first."""
        self.scale = 1 / float(((unit - self.centre) @ self.basis).norm(dim=1).mean())
        """1 / mean length of the components."""

    def __call__(self, pooled: torch.Tensor) -> torch.Tensor:
        """(B, 1280) -> (B, 1280) components, L2-normalised."""
        return F.normalize((pooled_input(pooled) - self.centre) @ self.basis, dim=1)


def losses(
    z: torch.Tensor,
    scores: torch.Tensor,
    target: torch.Tensor,
    trunk_scores: torch.Tensor,
    labels: torch.Tensor,
    temperature: float,
) -> dict[str, torch.Tensor]:
    """The losses of a batch, by name.

    cosine    1 - cosine of z and the target's first components
    relation  Kullback-Leibler divergence, for each view, of its softmax over the batch's other views (by cosine /
              temperature) from the target's: what retrieval is about (relational distillation, arXiv 1904.05068, with
              the softmax of SEED, arXiv 2101.04731)
    retrieval soft nearest-neighbour loss over the batch: do the nearest have the label? (Goldberger et al. 2004)
    label     cross-entropy of the classifier
    logits    Kullback-Leibler divergence of the classifier from the trunk's

    retrieval and label are of views whose label is true, and zero where there are none.

    Args:
        z: (B, W) float32, the student's representations.
        scores: (B, C) float32, its classifier's logits.
        target: (B, 1280) float32, L2-normalised, the teacher's.
        trunk_scores: (B, C) float32, the trunk's logits for the whole pictures.
        labels: (B,) int64; -1 where there is no true one.
        temperature: of relation and retrieval.
    """
    unit = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    near = F.log_softmax((unit @ unit.T / temperature).masked_fill(itself, _NEVER), 1)
    wanted = F.log_softmax((target @ target.T / temperature).masked_fill(itself, _NEVER), 1)
    known = labels >= 0
    return {
        "cosine": (1 - (unit * F.normalize(target[:, : z.shape[1]], dim=1)).sum(1)).mean(),
        "relation": F.kl_div(near, wanted, log_target=True, reduction="batchmean"),
        "retrieval": _retrieval(near, labels, itself),
        "label": F.cross_entropy(scores[known], labels[known]) if known.any() else z.new_zeros(()),
        "logits": F.kl_div(
            F.log_softmax(scores, 1), F.log_softmax(trunk_scores, 1), log_target=True, reduction="batchmean"
        ),
    }


def _retrieval(near: torch.Tensor, labels: torch.Tensor, itself: torch.Tensor) -> torch.Tensor:
    """Mean of -log of the softmax ``near`` (B, B, log) that falls on views of the label, among views with a label."""
    known = labels >= 0
    same = (labels[:, None] == labels[None]) & known[:, None] & ~itself
    some = same.any(1)
    if not some.any():
        return near.new_zeros(())
    among = torch.logsumexp(near[:, known][some], 1)
    return (among - torch.logsumexp(near.masked_fill(~same, _NEVER)[some], 1)).mean()


def total(parts: dict[str, torch.Tensor], config: DistillConfig) -> torch.Tensor:
    """The weighted sum of the losses."""
    return torch.stack([getattr(config, name) * value for name, value in parts.items()]).sum()


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """An array of any float type as a float32 tensor."""
    return torch.from_numpy(array.astype(np.float32))
