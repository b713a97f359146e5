"""The probe against scikit-learn's discriminant, fitted anew without each fold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import empirical_covariance, shrunk_covariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import log_loss

from pvu import probe
from pvu.probe import CrossProbe, draw_folds


def blobs(count: int = 300, labels: int = 4, dim: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(labels, size=count)
    centres = rng.normal(size=(labels, dim)) * 1.2
    return (centres[codes] + rng.normal(size=(count, dim))).astype(np.float32), codes


def test_folds_are_of_one_size_and_deal_out_every_label_evenly() -> None:
    codes = np.repeat(np.arange(10), 23)
    folds = draw_folds(codes, 5, seed=1)
    assert set(np.bincount(folds)) == {46}
    for label in range(10):
        counts = np.bincount(folds[codes == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(folds, draw_folds(codes, 5, seed=2))
    np.testing.assert_array_equal(folds, draw_folds(codes, 5, seed=1))


def test_what_belongs_together_is_dealt_together() -> None:
    codes = np.repeat(np.arange(4), 50)
    groups = np.arange(200) // 2
    folds = draw_folds(codes, 5, seed=1, groups=groups)
    assert (folds[::2] == folds[1::2]).all()
    assert set(np.bincount(folds)) == {40}
    np.testing.assert_array_equal(draw_folds(codes, 5, seed=1, groups=np.arange(200)), draw_folds(codes, 5, seed=1))


def reference(z: np.ndarray, codes: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Log-odds of scikit-learn's discriminant with the same shrinkage of the pooled covariance, fitted on ``train``."""

    labels, own = np.unique(codes[train], return_inverse=True)
    centred = z[train] - np.array([z[train][own == label].mean(axis=0) for label in range(len(labels))])[own]
    pooled = shrunk_covariance(empirical_covariance(centred.astype(np.float64), assume_centered=True), shrinkage=0.5)
    counts = np.bincount(own) + 0.5
    model = LinearDiscriminantAnalysis(solver="lsqr", priors=counts / counts.sum())
    model.fit(z[train].astype(np.float64), codes[train])
    means = model.means_
    weight = np.linalg.solve(pooled, means.T)
    return z[test] @ weight - 0.5 * np.einsum("cd,dc->c", means, weight) + np.log(model.priors_)


def test_each_image_is_judged_by_a_probe_of_the_other_folds() -> None:
    z, codes = blobs()
    folds = draw_folds(codes, 5, seed=0)
    judged = CrossProbe(z, codes, folds).judge()
    guesses = 0
    for fold in range(5):
        test = folds == fold
        logits = reference(z, codes, ~test, test)
        losses = []
        for temperature in np.geomspace(0.2, 5, 400):
            scores = logits / temperature
            p = np.exp(scores - scores.max(axis=1, keepdims=True))
            losses.append(log_loss(codes[test], p / p.sum(axis=1, keepdims=True), labels=range(4)))
        assert judged.loss[test].mean() == pytest.approx(min(losses), abs=2e-3)
        guesses += int((logits.argmax(axis=1) == codes[test]).sum())
    assert judged.accuracy == guesses / len(z)
    assert np.isfinite(judged.entropy).all()
    assert (judged.entropy <= np.log(4) + 1e-9).all()
    assert (judged.doubt <= 3 / 4).all()


def test_a_fold_that_is_left_out_changes_nothing() -> None:
    z, codes = blobs()
    folds = draw_folds(codes, 4, seed=0)
    judged = CrossProbe(z, codes, folds).judge(without=2)
    assert np.isnan(judged.loss[folds == 2]).all()
    other, others = z.copy(), codes.copy()
    other[folds == 2] = 100 * np.random.default_rng(1).normal(size=other[folds == 2].shape)
    others[folds == 2] = 3 - others[folds == 2]
    np.testing.assert_allclose(CrossProbe(other, others, folds).judge(without=2).loss, judged.loss, rtol=1e-3)
    assert not np.allclose(CrossProbe(z, codes, folds).judge().loss[folds == 0], judged.loss[folds == 0])


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    z, codes = blobs()
    folds = draw_folds(codes, 5, seed=0)
    expected = CrossProbe(z, codes, folds).judge().loss
    monkeypatch.setattr(probe, "_BLOCK", 7)
    np.testing.assert_allclose(CrossProbe(z, codes, folds).judge().loss, expected, rtol=1e-4)


def test_a_label_that_a_probe_has_not_seen_costs_a_finite_loss() -> None:
    z, codes = blobs()
    codes[:2] = 4
    codes[2:] %= 4
    judged = CrossProbe(z, codes, draw_folds(codes, 3, seed=0)).judge(without=0)
    assert np.isfinite(judged.loss[~np.isnan(judged.loss)]).all()
    assert np.isnan(judged.loss).any()
