from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from training.evaluation.baselines import classifier_scores, combined, cross_fitted, uncertainties


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 6)), rng.random(50), rng.normal(size=(50, 9)) * 3


def test_baselines_are_what_they_are_called(arrays) -> None:
    z, u, logits = arrays
    found = uncertainties(z, u, logits=logits)
    np.testing.assert_array_equal(found.heads["u"], u)
    np.testing.assert_allclose(found.baselines["-norm"], [-np.sqrt((row**2).sum()) for row in z], rtol=1e-6)
    np.testing.assert_allclose(found.baselines["entropy"], entropy(softmax(logits, axis=1), axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.baselines["-energy"], -logsumexp(logits, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.guesses, logits.argmax(1))
    assert list(found.all) == ["u", "random", "-norm", "entropy", "-energy"]


def test_without_a_classifier_its_baselines_are_left_out(arrays) -> None:
    z, u, _ = arrays
    found = uncertainties(z, {"a": u, "b": 2 * u})
    assert list(found.all) == ["a", "b", "random", "-norm"]
    assert found.guesses is None


def test_logits_in_blocks_are_those_at_once(arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    z, _, logits = arrays
    weights = np.random.default_rng(1).normal(size=(6, 9))
    at_once = classifier_scores(z, z @ weights)
    monkeypatch.setattr("training.evaluation.baselines._BLOCK", 7)
    for one, other in zip(at_once, classifier_scores(z, lambda rows: rows @ weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    with pytest.raises(ValueError, match="logits of 49 images"):
        classifier_scores(z, logits[1:])


def test_names_and_lengths_are_checked(arrays) -> None:
    z, u, _ = arrays
    with pytest.raises(ValueError, match="-norm is the name of a baseline"):
        uncertainties(z, {"-norm": u})
    with pytest.raises(ValueError, match=r"\(49,\), expected \(50,\)"):
        uncertainties(z, u[1:])


def test_some_of_the_images(arrays) -> None:
    z, u, logits = arrays
    found, rows = uncertainties(z, u, logits=logits), np.array([4, 2])
    taken = found.take(rows)
    assert taken.guesses is not None
    assert taken.guesses.tolist() == logits.argmax(1)[rows].tolist()
    for name, score in taken.all.items():
        np.testing.assert_array_equal(score, found.all[name][rows])


def test_combination_adds_up_what_two_scores_know() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2000))
    correct = a + b + rng.normal(size=2000) > 0
    both = combined(correct, np.exp(-a), b)
    assert both is not None
    assert roc_auc_score(correct, -both) > max(roc_auc_score(correct, a), roc_auc_score(correct, b)) + 0.05
    assert 0 < both.min() < both.max() < 1


def test_uncertainties_below_zero_are_combined_as_they_are() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=500)
    both = combined(a + 0.5 * rng.normal(size=500) > 0, -a, rng.normal(size=500))
    assert both is not None
    assert np.corrcoef(both, -a)[0, 1] > 0.8


def test_combination_does_not_see_what_it_is_scored_on() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(400) < 0.5
    chance = cross_fitted(correct, rng.normal(size=(400, 20)))
    assert chance is not None
    assert abs(roc_auc_score(correct, chance) - 0.5) < 0.1
    assert cross_fitted(np.ones(400, bool), rng.normal(size=(400, 2))) is None
    assert cross_fitted(correct, np.full((400, 1), np.nan)) is None
