"""Task losses: what the head learns to predict, computed once for each view and kept in the cache.

cross_entropy  the paper's: the frozen pretrained classifier against the label (arXiv 2402.16569, section 3)
retrieval      are the view's nearest other pictures, by cosine similarity, of its label? Recall@1, made smooth
instance       InfoNCE: can the view be told from the other pictures of its source by cosine similarity?
distance       1 - cosine of the view and the whole picture

From the instance loss, training.cached derives "crops", which whole pictures have as well.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from pvu.neighbors import normalized

Logits = Callable[[torch.Tensor], torch.Tensor]


def cross_entropy(z: np.ndarray, labels: np.ndarray, logits: Logits) -> tuple[np.ndarray, np.ndarray]:
    """The classifier's loss on each view.

    Args:
        z: (B, D) float32 representations.
        labels: (B,) int classes.
        logits: the frozen classifier, (B, D) -> (B, classes).

    Returns:
        loss: (B,) float32, nats.
        correct: (B,) bool, whether the classifier's first guess is the label.
    """
    scores = logits(torch.from_numpy(np.asarray(z, np.float32)))
    target = torch.from_numpy(np.asarray(labels, np.int64))
    loss = F.cross_entropy(scores, target, reduction="none")
    return loss.numpy(), (scores.argmax(1) == target).numpy()


def pseudo_labels(z: np.ndarray, logits: Logits) -> np.ndarray:
    """The classifier's own guess on whole pictures (B, D): (B,) int64, the label of their crops."""
    return logits(torch.from_numpy(np.asarray(z, np.float32))).argmax(1).numpy()


def instance_loss(z: np.ndarray, own: np.ndarray, bank: np.ndarray, temperature: float) -> np.ndarray:
    """InfoNCE of views against whole pictures: -log softmax(cosine / temperature) at the own picture.

    Args:
        z: (B, D) float representations of views.
        own: (B,) int, the row of each view's own picture in the bank.
        bank: (N, D) float32, L2-normalised representations of the whole pictures of the source.
        temperature: of the softmax.

    Returns:
        (B,) float32, nats.
    """
    scores = torch.from_numpy(normalized(z)) @ torch.from_numpy(bank).T / temperature
    return F.cross_entropy(scores, torch.from_numpy(np.asarray(own, np.int64)), reduction="none").numpy()


def retrieval_loss(
    z: np.ndarray, own: np.ndarray, bank: np.ndarray, labels: np.ndarray, temperature: float
) -> np.ndarray:
    """Soft nearest-neighbour loss: -log of the softmax of cosine / temperature that falls on pictures of the label.

    The own picture counts for nothing, as in Recall@1, which this turns into at temperature 0 (neighbourhood component
    analysis, Goldberger et al. 2004).

    Args:
        z: (B, D) float representations of views.
        own: (B,) int, the row of each view's own picture in the bank.
        bank: (N, D) float32, L2-normalised representations of the whole pictures of the source.
        labels: (N,) int, theirs.
        temperature: of the softmax.

    Returns:
        (B,) float32, nats; NaN where no other picture has the label.
    """
    scores = torch.from_numpy(normalized(z)) @ torch.from_numpy(bank).T / temperature
    rows = torch.from_numpy(np.asarray(own, np.int64))
    classes = torch.from_numpy(np.asarray(labels, np.int64))
    scores[torch.arange(len(rows)), rows] = -torch.inf
    same = classes[rows][:, None] == classes[None]
    loss = torch.logsumexp(scores, 1) - torch.logsumexp(scores.masked_fill(~same, -torch.inf), 1)
    return torch.where(loss.isfinite(), loss, torch.nan).numpy()


def distance(z: np.ndarray, own: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """1 - cosine of each view (B, D) and its own whole picture: (B,) float32 in [0, 2]."""
    cosine = (normalized(z) * bank[own]).sum(axis=1)
    return np.asarray(1 - cosine, np.float32)
