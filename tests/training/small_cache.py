"""A cache made of numbers: representations whose last channel says how hard a view is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training import validation
from training.cached import CachedViews
from training.config import TrainConfig
from training.experiments.workbench import Answers, EncodedSet, Workbench, answers_of
from training.shards import FACTS

NAMES = ["imagenet_photos", "imagenette_photos", "unlabelled_photos", "tiny_imagenet_train", "tiny_imagenet_val"]
QUICK = TrainConfig(epochs=3, batch=32, hidden=8, base_lr=8e-3, precision="float32")
LABELS = 8


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Representations (count, 12), labels from 0 to 7, and how hard each is, in [0, 2)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, LABELS, count)
    spread = rng.random(count) * 2
    z = np.zeros((count, 12))
    z[:, :LABELS] = 2 * np.eye(LABELS)[labels] + rng.normal(size=(count, LABELS)) * spread[:, None] * 0.7
    z[:, 11] = spread
    return z.astype(np.float32), labels, spread


def make_views(each: int = 100) -> CachedViews:
    """Five sources; of each the first half are whole pictures, and a fifth is held out (all of the last)."""
    count = each * len(NAMES)
    z, labels, spread = draw(count, 0)
    facts = np.zeros(count, FACTS)
    facts["label"] = labels
    for name in ("cross_entropy", "retrieval", "instance", "distance"):
        facts[name] = spread + 0.01
    facts["correct"] = np.random.default_rng(1).random(count) < 1 - spread / 2
    source = np.repeat(np.arange(len(NAMES)), each).astype(np.int16)
    row = np.arange(count) % each
    held_out = (row % 5 == 0) | (source == 4)
    known = source != 2
    return CachedViews(z.astype(np.float16), facts, source, (row >= each // 2).astype(np.int16), held_out, known, {})


def make_bench(work: Path) -> Workbench:
    """A workbench on :func:`make_views`."""
    views = make_views()
    return Workbench(views, validation.prepare(views, NAMES), np.ones(len(NAMES)), work)


def make_set(seed: int, count: int = 100) -> Answers:
    """A labelled set that is not of the cache."""
    z, labels, _ = draw(count, seed)
    return answers_of(EncodedSet(z, labels.astype(str)))
