"""Recipes judged on a small cache whose last channel says how hard a view is, and which of them tell it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.small_cache import NAMES, make_views
from training import validation
from training.cached import CachedViews
from training.config import CacheConfig, Config, TrainConfig
from training.data import SourceConfig
from training.experiments import label_free, recipes
from training.experiments.folds import make_folds
from training.experiments.recipes import LINEAR, RECIPES, Bench, Recipe, judge, project, tables
from training.linear import as_head

CONFIG = Config("fake", CacheConfig(tuple(SourceConfig(name, passes=1) for name in NAMES)))
QUICK: dict[str, Any] = {"head": "mlp", "epochs": 1, "epoch_views": 4000, "batch": 64, "hidden": 16, "base_lr": 3e-2}


@pytest.fixture(scope="module")
def views() -> CachedViews:
    views = make_views(each=400)
    facts = views.facts.copy()
    facts["label"] = np.where(facts["label"] < 4, facts["label"], facts["label"] + 500)
    facts["image"] = np.arange(len(views)) % 400 % 200
    facts["degradation"] = views.pass_index > 0
    facts["strength"] = np.where(views.pass_index > 0, views.z[:, 11], 0)
    return replace(views, facts=facts, statistics=-views.z[:, 11:])


@pytest.fixture(scope="module")
def bench(views: CachedViews) -> Bench:
    return Bench(views, validation.prepare(views, NAMES))


@pytest.mark.parametrize("changes", [LINEAR, QUICK], ids=["linear", "mlp"])
def test_a_recipe_that_can_tell_hard_views_beats_chance(
    bench: Bench, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "SEEDS", (1, 2))
    recipe = Recipe(changes | {"task_losses": {"retrieval": 1.0}})
    results = judge(bench, recipe, CONFIG, make_folds(bench.views, NAMES))
    assert len(results) == (1 if changes is LINEAR else 2)
    for numbers in results:
        kinds = [numbers[name] for name in ("small", "photos", "guessed", "animals", "things")]
        assert numbers["rule"] == pytest.approx(np.mean(kinds))
        assert min(kinds) > 0.55
        assert numbers["rule"] > 0.65
        assert numbers["strength"] > 0.8


def test_a_fold_is_not_trained_on(bench: Bench) -> None:
    """Views of small pictures alone have an order here: without them, there is nothing to be learned."""
    facts = bench.views.facts.copy()
    facts["retrieval"] = np.where(bench.views.source == 3, -facts["retrieval"], facts["retrieval"])
    wrong = replace(bench, views=replace(bench.views, facts=facts))
    only = Recipe(LINEAR | {"task_losses": {"retrieval": 1.0}}, sources=("tiny_imagenet_train", "imagenet_photos"))
    numbers = judge(wrong, only, CONFIG, make_folds(wrong.views, NAMES))[0]
    assert numbers["photos"] < 0.4  # taught by the source whose order is the wrong way round
    assert numbers["small"] > 0.6  # taught by the other


def test_a_kind_without_which_nothing_is_left_has_no_number(bench: Bench) -> None:
    only = Recipe(LINEAR | {"task_losses": {"instance": 1.0}}, sources=("unlabelled_photos",))
    numbers = judge(bench, only, CONFIG, make_folds(bench.views, NAMES))[0]
    assert np.isnan(numbers["guessed"])
    assert np.isfinite(numbers["small"])


def test_a_share_of_the_images_keeps_all_views_of_each(bench: Bench) -> None:
    kept = recipes._kept(bench.views, Recipe(LINEAR, share=0.3), CONFIG, 1)
    image = bench.views.source.astype(int) * 1000 + bench.views.facts["image"]
    assert all(len(set(kept[image == each])) == 1 for each in np.unique(image))
    assert kept.mean() == pytest.approx(0.3, abs=0.06)


def test_components_are_those_of_what_the_recipe_may_see(views: CachedViews) -> None:
    checks = validation.prepare(views, NAMES)
    full = project(views, [], checks, statistics=True, components=13)
    alone = project(views, [], checks, statistics=False, components=12)
    assert full.views.features.shape == (2000, 13)
    # As many components as channels: a rotation of the standardised ones, up to one common scale.
    rows = np.flatnonzero(~views.held_out)
    z = views.z[rows].astype(np.float64)
    z = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 0.1 * z.std(axis=0).mean())
    rotated = alone.views.features[rows].astype(np.float64)
    np.testing.assert_allclose(rotated @ rotated.T, z @ z.T * (rotated[0] @ rotated[0]) / (z[0] @ z[0]), atol=0.15)
    assert full.checks.views is full.views


def test_tables_are_sorted_by_the_rule_and_give_intervals_over_seeds() -> None:
    one = [{"small": 0.5, "rule": 0.6, "strength": 0.1, "strength/small": 0.1, "reported mean": 0.7}]
    two = [one[0] | {"rule": 0.7}, one[0] | {"rule": 0.9}]
    ours, theirs = tables({"one": one, "two": two}).split("\n\n")
    assert ours.index("two") < ours.index("one")
    assert "strength/small" not in ours
    assert "0.800 [" in ours
    assert "mean" in theirs


def test_every_recipe_is_a_valid_configuration() -> None:
    for recipe in (*RECIPES.values(), *label_free.RECIPES.values()):
        replace(TrainConfig(), **recipe.changes)
    assert len(RECIPES) >= 8
    heads = {tuple(sorted(map(str, recipe.changes.items()))) for recipe in RECIPES.values()}
    assert len(heads) > 10  # none is there twice under two names
    assert as_head(np.ones(3), 0.0)(torch.zeros(1, 3)).shape == (1,)
