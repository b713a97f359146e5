"""Makes reports for the tests of what is done with them."""

from __future__ import annotations

import numpy as np

from training.evaluation.protocol import SetReport, evaluate_arrays
from training.evaluation.results import ModelReport


def some(u: dict[str, np.ndarray] | None = None, *, classifier: bool = True) -> SetReport:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 80)
    z = rng.normal(size=(80, 5)) + 2 * np.eye(5)[labels]
    logits = rng.normal(size=(80, 6)) if classifier else None
    return evaluate_arrays(z, u or {"u": rng.random(80)}, labels, logits=logits, resamples=30)


def report(name: str, **sets: SetReport) -> ModelReport:
    return ModelReport(name, "backbone", {"u": "hash"}, sets)
