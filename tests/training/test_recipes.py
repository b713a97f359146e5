from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.cached import CachedViews
from training.config import CacheConfig, Config, TrainConfig
from training.data import SourceConfig
from training.experiments.recipes import GALLERIES, RECIPES, judge, make_folds
from training.shards import FACTS

NAMES = ["imagenet_photos", "imagenette_photos", "unlabelled_photos", "tiny_imagenet_train", "tiny_imagenet_val"]


@pytest.fixture
def views() -> CachedViews:
    """200 whole pictures of 4 labels in each source; far from the label's centre is hard to retrieve."""
    rng = np.random.default_rng(0)
    facts = np.zeros(1000, FACTS)
    facts["label"] = rng.integers(0, 4, 1000)
    spread = rng.random(1000) * 2
    z = 2 * np.eye(6)[facts["label"]] + rng.normal(size=(1000, 6)) * spread[:, None] * 0.7
    z[:, 5] = spread
    facts["retrieval"] = spread
    facts["correct"] = rng.random(1000) < 0.5
    source = np.repeat(np.arange(5), 200).astype(np.int16)
    nothing = np.zeros(1000, np.int16)
    return CachedViews(z.astype(np.float16), facts, source, nothing, source == 4, np.ones(1000, bool), {})


def test_each_fold_judges_what_it_leaves_out(views: CachedViews) -> None:
    folds = make_folds(views, NAMES)
    assert [fold.name for fold in folds] == ["small", "photos", "guessed"]
    for fold in folds:
        for rows, correct in fold.queries:
            assert len(rows) == len(correct)
            assert {NAMES[source] for source in views.source[rows]} <= set(fold.left_out)
    assert len(folds[1].queries) == GALLERIES
    assert all(len(rows) == 200 - 40 for rows, _ in folds[1].queries)
    u = np.random.default_rng(0).random(1000)
    naive = np.mean([roc_auc_score(correct, -u[rows]) for rows, correct in folds[1].queries])
    assert folds[1].r_auroc(u) == pytest.approx(naive)


def test_a_recipe_that_knows_the_cause_beats_chance(views: CachedViews) -> None:
    cache = CacheConfig(sources=tuple(SourceConfig(name, passes=0) for name in NAMES))
    train = TrainConfig(task_losses={"retrieval": 1.0}, epochs=10, batch=64, hidden=16, base_lr=4e-3)
    numbers = judge(views, Config("fake", cache, train), train, make_folds(views, NAMES))
    assert numbers["rule"] == pytest.approx(np.mean([numbers[name] for name in ("small", "photos", "guessed")]))
    assert numbers["rule"] > 0.6


def test_every_recipe_is_a_valid_configuration() -> None:
    for changes in RECIPES.values():
        replace(TrainConfig(), **changes)
