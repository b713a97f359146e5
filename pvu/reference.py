"""Percentiles among the pictures that a head was measured on: they mean the same in every data set of one model."""

from __future__ import annotations

from typing import Any

import numpy as np

from pvu.errors import CheckpointError, ModelError
from pvu.images import Preprocessing

COUNT = 101
"""Quantiles a head keeps: u at the percentiles 0, 1, ..., 100 of whole pictures that it was not trained on."""


def as_quantiles(values: Any) -> np.ndarray | None:
    """What a file says they are, checked: (101,) float64 that never fall, or None if it is anything else."""
    if not isinstance(values, list | tuple | np.ndarray) or np.shape(values) != (COUNT,):
        return None
    try:
        quantiles = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return None
    good = np.isfinite(quantiles).all() and (np.diff(quantiles) >= 0).all()
    return quantiles if good else None


def percentile_among(quantiles: np.ndarray | None, uncertainty: Any) -> np.ndarray:
    """The share, in percent, of the reference pictures that is at most as uncertain as given values.

    Args:
        quantiles: (101,) float, never falling; None if they are unknown.
        uncertainty: u, any shape.

    Returns:
        float32 in [0, 100] of that shape, interpolated between whole percents; NaN where u is NaN, and everywhere
        if the quantiles are unknown.
    """
    values = np.asarray(uncertainty, np.float64)
    if quantiles is None:
        return np.full(values.shape, np.nan, np.float32)
    # Of equal quantiles the last counts: "at most" includes them.
    last = np.append(np.diff(quantiles) > 0, True)
    return np.interp(values, quantiles[last], np.linspace(0, 100, COUNT)[last]).astype(np.float32)


def quantiles_of(name: str, fingerprint: str) -> np.ndarray | None:
    """The reference quantiles of the model that made a store, from its head's file alone, without its backbone.

    The file names the backbone's hash, so that the model's fingerprint can be worked out from it. Another one means
    that the head or the weights have changed since, and then its quantiles are those of another u: none are given.

    Args:
        name: the model's, see :func:`pvu.registry.resolve`.
        fingerprint: that of the store.

    Returns:
        (101,) float64, or None if there is no such head or it does not say.
    """
    from pvu.checkpoint import load_head  # these load torch
    from pvu.models import fingerprint_of
    from pvu.registry import resolve

    try:
        spec = resolve(name)
        if spec.head is None or not spec.head.is_file():
            return None
        head, facts = load_head(spec.head)
        preprocessing = spec.preprocessing or Preprocessing(**_as_tuples(facts["preprocessing"]))
        found = fingerprint_of(spec.architecture, str(facts["backbone_hash"]), head, preprocessing)
    except (ModelError, CheckpointError, KeyError, TypeError, AttributeError):
        return None  # no such model or head any more, or a head whose file does not say what it belongs to
    return as_quantiles(facts.get("reference_quantiles")) if found == fingerprint else None


def _as_tuples(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
