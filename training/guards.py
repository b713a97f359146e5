"""What goes wrong in training without a word unless somebody looks: each check ends it with one clear sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from torch import nn

from pvu.backbones import hash_weights
from pvu.errors import PVUError

COLLAPSED = 1e-3  # relative spread of u (standard deviation / mean) below which it orders nothing


class TrainingError(PVUError):
    """Training went wrong: a collapsed head, a backbone that was not frozen, numbers that are not finite."""


def check_uncertainties(u: np.ndarray) -> float:
    """Make sure that u (N,) is finite and orders the images.

    Returns:
        Its spread, standard deviation / mean.

    Raises:
        TrainingError: if it is (nearly) the same for every image, or not finite.
    """
    if not np.isfinite(u).all():
        raise TrainingError(
            f"The head gives {np.count_nonzero(~np.isfinite(u))} of {len(u)} validation images an uncertainty that is "
            "not finite. Lower base_lr, and look for damaged shards in the cache."
        )
    spread = float(u.std() / u.mean())
    if spread < COLLAPSED:
        raise TrainingError(
            f"The head has collapsed: u varies by {spread:.1e} of its mean over the validation images, expected more "
            f"than {COLLAPSED:.0e}. Lower base_lr, raise the margin, or check that the task losses vary."
        )
    return spread


def check_losses_vary(goal: np.ndarray, source: np.ndarray, names: dict[int, str], *, within: bool) -> None:
    """Make sure that there is an order to learn.

    Args:
        goal: (n,) float, task losses of the views that are trained on.
        source: (n,) int, theirs.
        names: of the sources, by number.
        within: whether pairs lie within a source, so that each one needs an order of its own.

    Raises:
        TrainingError: naming the source, if a task loss is the same for all its views.
    """
    groups = {names[index]: goal[source == index] for index in np.unique(source)} if within else {"the cache": goal}
    for name, losses in groups.items():
        if np.ptp(losses) == 0:
            raise TrainingError(
                f"The task loss of all {len(losses)} training views of {name} is {losses[0]:.4g}: there is no order to "
                "learn. Expected losses that vary: check the labels and the classifier that the cache was made with."
            )


def check_batch(z: np.ndarray, rows: np.ndarray, loss: float) -> None:
    """Explain a training loss that is not finite.

    Args:
        z: (B, D) float, the representations of the batch.
        rows: (B,) int, their rows in the cache.
        loss: the batch's.

    Raises:
        TrainingError: naming the first damaged row, if there is one.
    """
    if np.isfinite(loss):
        return
    damaged = rows[~np.isfinite(z).all(axis=1)]
    if len(damaged):
        raise TrainingError(
            f"The training loss is {loss}: the representation of view {damaged[0]} (and {len(damaged) - 1} more of "
            f"this batch's {len(rows)}) is not finite. Its shard of the cache is damaged: delete that folder and run "
            "training.cache again."
        )
    raise TrainingError(f"The training loss is {loss} on finite representations. Lower base_lr.")


def check_no_gradient(module: nn.Module, name: str) -> None:
    """Make sure that no gradient has reached a module, such as the backbone after the head's backward pass.

    Raises:
        TrainingError: naming the first parameter that one has reached.
    """
    for parameter_name, parameter in module.named_parameters():
        if parameter.grad is not None and bool(parameter.grad.any()):  # NaN counts
            raise TrainingError(
                f"A gradient has reached {parameter_name} of {name}, which must learn nothing from the head. Detach "
                "the representation before the head (UncertaintyHead does), and keep its loss out of the head's."
            )


@contextmanager
def frozen(module: nn.Module, name: str) -> Iterator[None]:
    """Make sure that a backbone or classifier is the same, bit for bit, after the block as before, without gradients.

    Args:
        module: what must not change; its buffers, such as batch norm's statistics, too.
        name: what to call it.

    Raises:
        TrainingError: if anything in it has changed, or a gradient has reached it.
    """
    before = hash_weights(module)
    yield
    check_no_gradient(module, name)
    after = hash_weights(module)
    if after != before:
        raise TrainingError(
            f"The weights of {name} have changed: their hash was {before}, and is {after}. It must be frozen: leave it "
            "out of the optimiser, and put it into evaluation mode, since batch norm learns without one."
        )


def check_same_backbone(cached: str, found: str, model: str) -> None:
    """Make sure that a cache was made by the weights that the head is meant for.

    Args:
        cached: hash of the weights in the cache's manifest.
        found: hash of the weights that the model has now.
        model: its name.

    Raises:
        TrainingError: if they differ.
    """
    if cached != found:
        raise TrainingError(
            f"The cache was made by other weights than those of {model}: their hash is {cached}, expected {found}. "
            "A head trained on it would be worthless for this model: make a new cache with training.cache."
        )
