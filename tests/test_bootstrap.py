from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pvu import bootstrap
from pvu.bootstrap import auroc_interval, auroc_resamples, share, weighted_aurocs


def answers(ties: bool, count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    positive = rng.random(count) < 0.7
    score = positive + rng.normal(size=count)
    return positive, np.round(score) if ties else score


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_auroc_is_scikit_learns(ties: bool) -> None:
    positive, score = answers(ties)
    weights = np.random.default_rng(0).integers(0, 4, (20, len(score)))
    naive = [roc_auc_score(positive, score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weighted_aurocs(positive, score, weights), naive, atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_interval_is_that_of_a_naive_bootstrap(ties: bool) -> None:
    positive, score = answers(ties)
    rng, naive = np.random.default_rng(11), []
    for _ in range(800):
        rows = rng.integers(len(score), size=len(score))
        naive.append(roc_auc_score(positive[rows], score[rows]))
    found = auroc_interval(auroc_resamples(positive, score[None], resamples=4000)[0], 0.0)
    assert (found.low, found.high) == pytest.approx(np.percentile(naive, [2.5, 97.5]), abs=0.015)


def test_scores_share_their_resamples_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    positive, score = answers(False)
    scores = np.stack([score, 2 * score, -score])
    at_once = auroc_resamples(positive, scores, resamples=60)
    np.testing.assert_array_equal(at_once[0], at_once[1])
    np.testing.assert_allclose(at_once[0], 1 - at_once[2])
    monkeypatch.setattr(bootstrap, "_BLOCK", 7 * len(score))
    np.testing.assert_array_equal(at_once, auroc_resamples(positive, scores, resamples=60))


def test_share_is_bracketed_as_by_a_naive_bootstrap() -> None:
    correct = np.random.default_rng(0).random(300) < 0.8
    rng = np.random.default_rng(1)
    naive = [correct[rng.integers(300, size=300)].mean() for _ in range(4000)]
    found = share(correct, resamples=4000)
    assert found.value == correct.mean()
    assert (found.low, found.high) == pytest.approx(np.percentile(naive, [2.5, 97.5]), abs=0.007)


def test_the_interval_narrows_with_the_root_of_the_queries() -> None:
    def width(count: int) -> float:
        positive, score = answers(False, count)
        found = auroc_interval(auroc_resamples(positive, score[None]), 0.5)
        return found.high - found.low

    assert width(200) / width(3200) == pytest.approx(4, rel=0.2)


def test_what_is_undefined_is_nan() -> None:
    assert np.isnan(auroc_resamples(np.ones(5, bool), np.ones((1, 5)), resamples=3)).all()
    assert np.isnan(auroc_resamples(np.array([True, False]), np.full((1, 2), np.nan), resamples=3)).all()
    assert auroc_resamples(np.empty(0, bool), np.empty((2, 0)), resamples=3).shape == (2, 3)
    assert np.isnan(auroc_interval(np.full(3, np.nan), 0.7).low)
    assert np.isnan(share(np.empty(0, bool)).value)
    assert np.isnan(share(np.ones(3, bool), resamples=0).low)
