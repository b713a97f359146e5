"""Pretrained visual uncertainties: one uncertainty per image, zero-shot, and what to do with it.

    import pvu

    dataset = pvu.embed("photos/")
    dataset.images.sort_values("uncertainty").tail()
    dataset.search("query.jpg", k=10, max_uncertainty=dataset.threshold(0.9))

Attributes load on first use, so that decoding workers, which import ``pvu.images`` alone, never load torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pvu.demo import make_demo
    from pvu.errors import PVUError
    from pvu.models import Model, load_model
    from pvu.pipeline import embed
    from pvu.store import EmbeddedDataset

# OpenMP threads that spin while they wait starve the decoding workers, and any other work on the machine: with both
# cores busy the pipeline was five times as slow. Read when torch is first imported, so this must come before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = ["EmbeddedDataset", "Model", "PVUError", "embed", "load_model", "make_demo", "metrics"]

_HOME = {
    "EmbeddedDataset": "pvu.store",
    "Model": "pvu.models",
    "PVUError": "pvu.errors",
    "embed": "pvu.pipeline",
    "load_model": "pvu.models",
    "make_demo": "pvu.demo",
}


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("pvu.metrics")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pvu' has no attribute {name!r}")
