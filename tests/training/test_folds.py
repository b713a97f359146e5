from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.training.small_cache import NAMES, make_views
from training.cached import CachedViews
from training.experiments.folds import ANIMALS, GALLERIES, make_folds


@pytest.fixture
def views() -> CachedViews:
    """The small cache, half of its labels no animals, some views degraded."""
    views = make_views(each=400)
    facts = views.facts.copy()
    facts["label"] = np.where(facts["label"] < 4, facts["label"], facts["label"] + 500)
    facts["degradation"] = np.where(views.pass_index > 0, np.arange(len(views)) % 2, 0)
    return replace(views, facts=facts)


def test_each_fold_judges_what_it_leaves_out(views: CachedViews) -> None:
    folds = make_folds(views, NAMES)
    assert [fold.name for fold in folds] == ["small", "photos", "guessed", "animals", "things"]
    for fold in folds:
        assert 0 < fold.left_out.sum() < len(views)
        assert fold.left_out[fold.rows()].all()
        for rows, correct in fold.queries:
            assert len(rows) == len(correct)
            assert (views.pass_index[rows] == 0).all()
    np.testing.assert_array_equal(folds[3].left_out, views.facts["label"] < ANIMALS)
    np.testing.assert_array_equal(folds[3].left_out, ~folds[4].left_out)
    assert len(folds[1].queries) == GALLERIES
    assert all(len(rows) == 200 - 10 * 8 for rows, _ in folds[1].queries)


def test_answers_are_those_of_a_naive_search(views: CachedViews) -> None:
    rows, correct = make_folds(views, NAMES)[0].queries[0]
    z = views.z[rows].astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        nearest = rows[max(others, key=lambda j: z[i] @ z[j])]
        assert correct[i] == (views.facts["label"][nearest] == views.facts["label"][row])


def test_r_auroc_is_the_mean_over_galleries(views: CachedViews) -> None:
    fold = make_folds(views, NAMES)[1]
    u = np.random.default_rng(0).random(len(views))
    naive = np.mean([roc_auc_score(correct, -u[rows]) for rows, correct in fold.queries])
    assert fold.r_auroc(u) == pytest.approx(naive)


def test_a_missing_source_is_named(views: CachedViews) -> None:
    with pytest.raises(ValueError, match="need the sources unlabelled_photos"):
        make_folds(views, [name.replace("unlabelled", "other") for name in NAMES])
