"""What spoils a cache without a word unless somebody looks: each check ends the run with one clear sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from pvu.backbones import hash_weights
from training.shards import CacheError


class Frozen(Protocol):
    """A model whose weights are not to change."""

    backbone: torch.nn.Module


def weights_of(model: Frozen) -> dict[str, str]:
    """Hashes of the backbone (its classifier included, as timm keeps them together) and of the classifier alone."""
    return {"backbone": hash_weights(model.backbone), "classifier": hash_weights(classifier_of(model))}


def classifier_of(model: Frozen) -> torch.nn.Linear:
    """The classifier, as timm models give it. Where there is none, :func:`check_classifier` says so."""
    return model.backbone.get_classifier()  # type: ignore[operator, no-any-return]


def check_classifier(model: Frozen) -> None:
    """Make sure that there is a classifier, without which there is no task loss.

    Raises:
        CacheError: if there is none.
    """
    found: torch.nn.Module = classifier_of(model)
    if not isinstance(found, torch.nn.Linear):
        raise CacheError(
            f"The model has no classifier ({type(found).__name__} in its place), so it has no task loss. "
            "Choose weights that keep theirs."
        )


def check_unchanged(model: Frozen, before: dict[str, str]) -> None:
    """Make sure that backbone and classifier are still what they were.

    Args:
        model: as it is now.
        before: its :func:`weights_of` when the run began.

    Raises:
        CacheError: naming what has changed.
    """
    now = weights_of(model)
    if now == before:
        return
    part = "classifier" if now["classifier"] != before["classifier"] else "backbone"
    raise CacheError(
        f"The {part} has changed while the cache was made: its hash was {before[part]}, and is {now[part]}. What was "
        "computed since it was last the same is thrown away. Freeze the model, keep it in evaluation mode, and start "
        "again."
    )


def check_representations(z: np.ndarray, decoded: np.ndarray, keys: Sequence[str]) -> None:
    """Make sure that representations can be stored.

    Args:
        z: (n, D) float16, as they would be stored.
        decoded: (n,) bool, whether there was an image.
        keys: of the images.

    Raises:
        CacheError: if an image's representation is not finite, or not one image could be decoded.
    """
    if len(z) > 1 and not decoded.any():
        raise CacheError(
            f"None of the {len(z)} images from {keys[0]} on could be read or decoded. Is the disk still there? If they "
            "really are all damaged, remove them."
        )
    damaged = np.flatnonzero(decoded & ~np.isfinite(z).all(axis=1))
    if len(damaged):
        raise CacheError(
            f"The representations of {len(damaged)} of {len(z)} images are not finite in half precision, first that of "
            f"{keys[damaged[0]]}. Damaged weights, or numbers too large for bfloat16 or float16?"
        )


def check_logits(z: np.ndarray, logits: np.ndarray) -> None:
    """Make sure that the classifier says something.

    Args:
        z: (n, D) float, representations of images that could be decoded.
        logits: (n, C) float, theirs.

    Raises:
        CacheError: if they are not finite, or the same for images that are not.
    """
    if not np.isfinite(logits).all():
        raise CacheError("The classifier gives logits that are not finite. Are its weights damaged?")
    if len(z) > 1 and np.ptp(z, axis=0).any() and not np.ptp(logits, axis=0).any():
        raise CacheError(
            f"The classifier gives the same logits for all of {len(z)} different images, so that the task loss says "
            "nothing of them. Are its weights missing (all zero)?"
        )
