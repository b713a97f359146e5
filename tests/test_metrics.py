"""Every metric against a naive loop or scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

import pvu
from pvu.metrics import (
    auroc,
    correct_at_1,
    has_label,
    oracle_risk_coverage,
    r_auroc,
    random_risk_coverage,
    rank_correlation,
    recall_at_1,
    recall_at_k,
    risk_coverage,
    within_label_auroc,
)


def random_set(seed: int, count: int = 60, labels: int = 4) -> tuple[np.ndarray, list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(labels, size=count)
    embeddings = rng.normal(size=(labels, 6))[numbers] + rng.normal(size=(count, 6))
    return embeddings.astype(np.float32), [f"label {n}" for n in numbers], rng.random(count).astype(np.float32)


def naive_order(embeddings: np.ndarray, row: int) -> list[int]:
    def cosine(other: int) -> float:
        a, b = embeddings[row].astype(float), embeddings[other].astype(float)
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    return sorted((other for other in range(len(embeddings)) if other != row), key=lambda other: -cosine(other))


def naive_recall(embeddings: np.ndarray, labels: list[str | None], k: int) -> float:
    hits = [
        any(labels[other] == label for other in naive_order(embeddings, row)[:k])
        for row, label in enumerate(labels)
        if label is not None
    ]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_recall_at_k_is_the_naive_one(seed: int, k: int) -> None:
    embeddings, labels, _ = random_set(seed)
    assert recall_at_k(embeddings, labels, k) == pytest.approx(naive_recall(embeddings, list(labels), k), abs=1e-12)
    if k == 1:
        assert recall_at_1(embeddings, labels) == recall_at_k(embeddings, labels, 1)


@pytest.mark.parametrize("seed", range(3))
def test_r_auroc_is_that_of_scikit_learn_on_naive_neighbours(seed: int) -> None:
    embeddings, labels, u = random_set(seed)
    correct = [labels[naive_order(embeddings, row)[0]] == labels[row] for row in range(len(labels))]
    assert r_auroc(embeddings, labels, u) == pytest.approx(roc_auc_score(correct, -u), abs=1e-12)


def test_r_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    """Ties count half: the definition, pair by pair."""
    embeddings, labels, u = random_set(7)
    u = np.round(u, 1)
    correct, rows = correct_at_1(pvu.neighbors.nearest_neighbors(embeddings, 1)[0], labels)
    assert rows.tolist() == list(range(60))
    pairs = [
        (u[i] < u[j]) + 0.5 * (u[i] == u[j]) for i, j in itertools.product(*map(np.flatnonzero, (correct, ~correct)))
    ]
    assert r_auroc(embeddings, labels, u) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_r_auroc_depends_on_the_order_alone() -> None:
    embeddings, labels, u = random_set(1)
    value = r_auroc(embeddings, labels, u)
    assert r_auroc(embeddings, labels, np.exp(3 * u)) == value
    assert r_auroc(embeddings, labels, -u) == pytest.approx(1 - value)
    assert r_auroc(embeddings, labels, np.ones(60)) == 0.5


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_images_without_a_label_are_no_queries_but_stay_in_the_gallery(missing: object) -> None:
    embeddings = np.array([[1, 0], [0.99, 0.1], [0.9, 0.4], [0, 1], [0.05, 1]], np.float32)
    labels = ["a", missing, "a", "b", "b"]
    # Image 0 finds image 1, which has no label, and image 2 finds it too.
    assert recall_at_1(embeddings, labels) == 2 / 4
    assert r_auroc(embeddings, labels, np.array([0.9, 0, 0.8, 0.1, 0.2])) == 1
    assert has_label(labels).tolist() == [True, False, True, True, True]


def test_a_label_that_occurs_once_counts_as_wrong() -> None:
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    assert recall_at_1(embeddings, ["a", "a", "b"]) == 2 / 3


def test_numbers_as_labels() -> None:
    embeddings, labels, u = random_set(2)
    numbers = np.array([int(label[-1]) for label in labels])
    assert recall_at_1(embeddings, numbers) == recall_at_1(embeddings, labels)
    assert r_auroc(embeddings, numbers.astype(float), u) == r_auroc(embeddings, labels, u)


def test_what_is_undefined_is_nan() -> None:
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    u = np.arange(4.0)
    assert np.isnan(recall_at_1(embeddings[:1], ["a"]))
    assert np.isnan(recall_at_1(embeddings, [None] * 4))
    assert np.isnan(r_auroc(embeddings[:1], ["a"], u[:1]))
    assert np.isnan(r_auroc(embeddings, [None] * 4, u))
    assert np.isnan(r_auroc(embeddings, ["a", "a", "b", "b"], u))  # all right
    assert np.isnan(r_auroc(embeddings, ["a", "b", "a", "b"], u))  # all wrong
    assert np.isnan(r_auroc(embeddings, ["a", "a", "b", "c"], np.full(4, np.nan)))
    assert np.isnan(auroc(np.empty(0, bool), np.empty(0)))


@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [(np.ones((3, 2)), ["a", "b"]), (np.ones(3), ["a", "b", "c"]), (np.ones((1, 2, 2)), ["a"])],
)
def test_shapes_that_do_not_fit_are_refused(embeddings: np.ndarray, labels: list[str]) -> None:
    with pytest.raises(ValueError, match="N labels"):
        recall_at_1(embeddings, labels)
    with pytest.raises(ValueError, match="N labels"):
        r_auroc(embeddings, labels, np.ones(len(labels)))


# Within labels, and rank correlation


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
def test_within_label_auroc_is_the_mean_of_scikit_learns(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(12, size=150)
    correct = (rng.random(150) < 0.8) | (labels == 7)
    u = rng.integers(4, size=150) if ties else rng.random(150)
    members = [labels == label for label in np.unique(labels)]
    both = [own for own in members if len(set(correct[own])) == 2]
    assert 0 < len(both) < 12
    value, count = within_label_auroc(correct, [f"label {label}" for label in labels], u)
    assert count == len(both)
    assert value == pytest.approx(np.mean([roc_auc_score(correct[own], -u[own]) for own in both]), abs=1e-12)


def test_an_uncertainty_that_only_knows_the_label_is_worth_nothing_within_it() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=600)
    correct = rng.random(600) < 0.05 + labels / 11
    assert auroc(correct, labels) > 0.75
    assert within_label_auroc(correct, labels, -labels) == (0.5, 10)


def test_no_label_with_both_outcomes_is_nan() -> None:
    value, count = within_label_auroc(np.array([True, True, False]), ["a", "a", "b"], np.arange(3.0))
    assert np.isnan(value)
    assert count == 0
    value, count = within_label_auroc(np.array([True, False]), ["a", "a"], np.array([0.1, np.nan]))
    assert np.isnan(value)
    assert count == 1


def test_rank_correlation_is_spearmans_where_both_are_known() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(9, size=40).astype(float), rng.random(40)
    b[:5], a[38:] = np.nan, np.nan
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a[5:38], b[5:38]).statistic)
    assert np.isnan(rank_correlation(a[:6], b[:6]))
    assert np.isnan(rank_correlation(np.ones(9), rng.random(9)))


# Risk and coverage


def naive_risks(correct: np.ndarray, uncertainty: np.ndarray) -> list[float]:
    order = sorted(range(len(correct)), key=lambda row: uncertainty[row])
    return [float(np.mean([not correct[row] for row in order[:kept]])) for kept in range(1, len(order) + 1)]


@pytest.mark.parametrize("seed", range(3))
def test_risk_coverage_is_the_naive_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    correct, u = rng.random(40) < 0.7, rng.random(40)
    curve = risk_coverage(correct, u)
    np.testing.assert_allclose(curve.risk, naive_risks(correct, u))
    np.testing.assert_allclose(curve.coverage, np.arange(1, 41) / 40)
    assert curve.aurc == pytest.approx(np.mean(naive_risks(correct, u)))


def test_equal_uncertainties_share_the_mean_over_all_orders() -> None:
    correct = np.array([True, False, True, False, False])
    u = np.array([1, 2, 2, 2, 3])
    orders = [[0, *middle, 4] for middle in itertools.permutations([1, 2, 3])]
    risks = [[np.mean(~correct[order[:kept]]) for kept in range(1, 6)] for order in orders]
    np.testing.assert_allclose(risk_coverage(correct, u).risk, np.mean(risks, axis=0))


def test_ties_do_not_depend_on_the_order_of_the_images() -> None:
    rng = np.random.default_rng(0)
    correct, u = rng.random(50) < 0.5, rng.integers(5, size=50)
    shuffled = rng.permutation(50)
    assert risk_coverage(correct, u).aurc == pytest.approx(risk_coverage(correct[shuffled], u[shuffled]).aurc)


def test_oracle_and_random_are_the_best_and_the_flat_curve() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(30) < 0.6
    share = np.mean(~correct)
    oracle, flat = oracle_risk_coverage(correct), random_risk_coverage(correct)
    np.testing.assert_allclose(flat.risk, share)
    kept = np.arange(1, 31)
    np.testing.assert_allclose(oracle.risk, np.maximum(kept - correct.sum(), 0) / kept)
    for _ in range(20):
        aurc = risk_coverage(correct, rng.random(30)).aurc
        assert oracle.aurc <= aurc
    sampled = np.mean([risk_coverage(correct, rng.random(30)).aurc for _ in range(2000)])
    assert sampled == pytest.approx(flat.aurc, abs=0.01)


def test_curves_of_nothing_or_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one; got 0"):
        risk_coverage(np.empty(0, bool), np.empty(0))
    with pytest.raises(ValueError, match="as many answers as uncertainties"):
        risk_coverage(np.ones(3, bool), np.ones(2))
