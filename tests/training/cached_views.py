"""A cache in memory whose task loss can be learned; as a program, a run on it that tests kill.

python -m tests.training.cached_views CHECKPOINT
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from training import validation
from training.cached import CachedViews
from training.config import TrainConfig
from training.loop import Trained, train_head
from training.shards import FACTS

DIM = 8
QUICK = TrainConfig(epochs=12, batch=64, hidden=16, base_lr=4e-3, precision="float32")
# Everything that has a state: a running average, dropout, bfloat16, several blocks a batch.
EVERYTHING = replace(QUICK, epochs=4, batch=600, ema=0.9, dropout=0.3, standardize=True, precision="bfloat16")


def make_views() -> CachedViews:
    """2,000 views whose task loss is a smooth function of z; the wrong half of the answers has the higher losses."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, DIM)).astype(np.float16)
    facts = np.zeros(2000, FACTS)
    facts["cross_entropy"] = np.exp(z[:, 0].astype(np.float32)) + 0.1 * rng.random(2000)
    facts["instance"] = -z[:, 1]
    facts["distance"] = z[:, 2]
    facts["correct"] = facts["cross_entropy"] < np.median(facts["cross_entropy"])
    facts["label"] = rng.integers(0, 3, 2000)
    facts["area"], facts["image"] = 1, np.arange(2000)
    source = (np.arange(2000) >= 1200).astype(np.int16)
    held_out = rng.random(2000) < 0.3
    return CachedViews(z, facts, source, np.zeros(2000, np.int16), held_out, np.ones(2000, bool), {})


def train(
    views: CachedViews, config: TrainConfig, weights: tuple[float, float] = (1, 1), *, checkpoint: Path | None = None
) -> Trained:
    """Train on both sources, with a checkpoint after every step."""
    checks = validation.prepare(views, ["a", "b"])
    return train_head(views, config, np.array(weights), checks, checkpoint=checkpoint, every=0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(make_views(), replace(EVERYTHING, epochs=2000), checkpoint=Path(sys.argv[1]))
