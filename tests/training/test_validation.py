from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.cached import CachedViews
from training.shards import FACTS
from training.validation import prepare


def make_views(*, held_out: float = 0.5) -> CachedViews:
    """300 pictures of 3 labels, whole and in one augmented view each."""
    rng = np.random.default_rng(0)
    facts = np.zeros(600, FACTS)
    facts["image"] = np.tile(np.arange(300), 2)
    facts["label"] = np.tile(rng.integers(0, 3, 300), 2)
    z = np.eye(4)[facts["label"]] + rng.normal(size=(600, 4)) * 0.6
    facts["correct"] = rng.random(600) < 0.6
    facts["area"] = np.concatenate([np.ones(300), rng.random(300)])
    facts["strength"] = np.concatenate([np.zeros(300), rng.random(300)])
    facts["degradation"] = np.repeat([0, 1], 300)
    kept = np.tile(rng.random(300) < held_out, 2)
    passes = np.repeat([0, 1], 300).astype(np.int16)
    return CachedViews(z.astype(np.float16), facts, np.zeros(600, np.int16), passes, kept, np.ones(600, bool), {})


def test_numbers_equal_a_naive_computation() -> None:
    views = make_views()
    checks = prepare(views, ["photos"])
    rng = np.random.default_rng(1)
    u_of_all = rng.random(600) - 0.5 * views.facts["area"]
    numbers = checks.measure(u_of_all[checks.rows])
    held = np.flatnonzero(views.held_out)
    np.testing.assert_array_equal(checks.rows, held)
    assert numbers["auroc"] == pytest.approx(roc_auc_score(views.facts["correct"][held], -u_of_all[held]))
    z = views.z.astype(np.float64)
    correct, certainty = [], []
    for i in range(300):
        if views.held_out[i]:
            cosines = [z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j]) if j != i else -2 for j in range(300)]
            correct.append(views.facts["label"][int(np.argmax(cosines))] == views.facts["label"][i])
            certainty.append(-u_of_all[i])
    assert numbers["r_auroc/photos"] == pytest.approx(roc_auc_score(correct, certainty))
    assert numbers["r_auroc"] == numbers["r_auroc/photos"]
    assert numbers["spearman/area"] > 0.3
    assert abs(numbers["spearman/strength"]) < 0.3


def test_a_source_with_few_wrong_answers_gives_no_r_auroc() -> None:
    checks = prepare(make_views(), ["photos"], least_wrong=10_000)
    assert not checks.retrieval


def test_a_source_with_too_many_pictures_to_search_gives_no_r_auroc() -> None:
    assert prepare(make_views(), ["photos"], most_pictures=300).retrieval
    assert not prepare(make_views(), ["photos"], most_pictures=299).retrieval


def test_nothing_held_out_is_refused() -> None:
    with pytest.raises(ValueError, match="found 0 right of 0"):
        prepare(make_views(held_out=0.0), ["photos"])
