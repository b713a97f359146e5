"""Probabilities from scale-free numbers, and thresholds with a guarantee: against known truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from pvu.calibration import (
    MonotoneRisk,
    candidate_thresholds,
    certify,
    cross_fitted,
    reliability,
    upper_bound,
)


def truth(x: np.ndarray) -> np.ndarray:
    """P(wrong) of two inputs in [0, 1]: rising in both, the second counts twice."""
    return 1 / (1 + np.exp(4 - 2 * x[:, 0] - 4 * x[:, 1]))


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.random((count, 2))
    return x, generator.random(count) < truth(x)


def test_it_learns_a_known_probability_better_than_either_input_alone() -> None:
    x, wrong = draw(4000, 0)
    new, outcome = draw(4000, 1)
    both = MonotoneRisk.fit(x, wrong).predict(new)
    assert np.abs(both - truth(new)).mean() < 0.03
    best = log_loss(outcome, truth(new))
    assert log_loss(outcome, both) < best + 0.005
    for column in (0, 1):
        alone = MonotoneRisk.fit(x[:, [column]], wrong).predict(new[:, [column]])
        assert log_loss(outcome, alone) > log_loss(outcome, both) + 0.01


def test_it_rises_in_every_input_even_where_the_data_fall() -> None:
    x, wrong = draw(500, 0)
    against = MonotoneRisk.fit(np.c_[x, -x[:, 0]], wrong)
    grid = np.random.default_rng(2).random((200, 3)) - [0, 0, 1]
    for column in range(3):
        higher = grid.copy()
        higher[:, column] += 0.2
        assert (against.predict(higher) >= against.predict(grid)).all()


def test_the_scale_of_an_input_does_not_matter() -> None:
    x, wrong = draw(600, 0)
    plain = MonotoneRisk.fit(x, wrong).predict(x)
    stretched = np.c_[np.exp(9 * x[:, 0]), x[:, 1] ** 3 - 50]
    assert MonotoneRisk.fit(stretched, wrong).predict(stretched) == pytest.approx(plain, abs=1e-4)


def test_the_minimum_is_that_of_scikit_learn_where_no_weight_wants_to_be_negative() -> None:
    x, wrong = draw(3000, 0)
    features = np.clip((np.argsort(np.argsort(x, axis=0), axis=0) + 0.5)[:, :, None] / 600 - np.arange(5), 0, 1)
    features = features.reshape(3000, 10)
    other = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(features, wrong)
    assert (other.coef_ > 0).all()
    assert MonotoneRisk.fit(x, wrong).predict(x) == pytest.approx(other.predict_proba(features)[:, 1], abs=6e-3)


@pytest.mark.parametrize(("wrong", "low", "high"), [(False, 0, 0.01), (True, 0.99, 1)])
def test_one_outcome_alone_gives_a_rate_near_it_and_no_infinity(wrong: bool, low: float, high: float) -> None:
    x, _ = draw(300, 0)
    risk = MonotoneRisk.fit(x, np.full(300, wrong)).predict(x)
    assert ((risk > low) & (risk < high)).all()


def test_many_images_are_thinned_out_and_still_right() -> None:
    x, wrong = draw(50_000, 0)
    model = MonotoneRisk.fit(x, wrong)
    assert len(model.references[0]) == 20_000
    assert np.abs(model.predict(x) - truth(x)).mean() < 0.02


@pytest.mark.parametrize(
    ("inputs", "wrong"),
    [(np.zeros((3, 2)), [True]), (np.zeros(3), [True] * 3), (np.zeros((0, 2)), []), ([[np.nan]], [True])],
)
def test_bad_inputs_are_refused(inputs: np.ndarray, wrong: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"Expected \(n, d\) inputs|Inputs must be finite"):
        MonotoneRisk.fit(inputs, np.array(wrong, bool))


def test_cross_fitting_lets_no_row_judge_itself() -> None:
    x, wrong = draw(200, 0)
    risk = cross_fitted(x, wrong)
    flipped = wrong.copy()
    flipped[17] = not flipped[17]
    again = cross_fitted(x, flipped)
    assert again[17] == risk[17]
    assert (again != risk).any()
    noise = np.random.default_rng(0).random((400, 3))
    coin = np.random.default_rng(1).random(400) < 0.5
    assert np.corrcoef(cross_fitted(noise, coin), coin)[0, 1] < 0.1
    with pytest.raises(ValueError, match="5 folds need at least 5 rows, got 4"):
        cross_fitted(x[:4], wrong[:4])


def test_reliability_is_that_of_scikit_learn() -> None:
    x, wrong = draw(1000, 3)
    said = truth(x) ** 2
    found = reliability(said, wrong)
    came, mean = calibration_curve(wrong, said, n_bins=10, strategy="quantile")
    assert found.said == pytest.approx(mean, abs=1e-9)
    assert found.came == pytest.approx(came, abs=1e-9)
    assert found.counts.tolist() == [100] * 10
    assert found.brier == pytest.approx(brier_score_loss(wrong, said))
    assert found.ece == pytest.approx(np.abs(came - mean).mean())
    assert reliability(truth(x), wrong).ece < found.ece / 2


def test_equal_probabilities_share_a_bin() -> None:
    found = reliability(np.array([0.5] * 70 + [0.9] * 30), np.array([True, False] * 35 + [True] * 30))
    assert found.counts.tolist() == [70, 30]
    assert found.ece == pytest.approx(0.3 * 0.1)
    assert reliability(np.full(9, 0.25), np.zeros(9, bool)).ece == 0.25


@pytest.mark.parametrize("said", [[], [0.5, 1.5], [np.nan, 0.5]])
def test_what_is_no_probability_is_refused(said: list[float]) -> None:
    with pytest.raises(ValueError, match=r"probabilit|Probabilit"):
        reliability(np.array(said), np.zeros(len(said), bool))


@pytest.mark.parametrize(("wrong", "count"), [(0, 22), (3, 60), (10, 10), (0, 0), (59, 60)])
def test_the_upper_bound_is_the_rate_at_which_so_few_have_chance_delta(wrong: int, count: int) -> None:
    bound = upper_bound(wrong, count, delta=0.1)
    assert bound == 1 if wrong == count else binom.cdf(wrong, count, bound) == pytest.approx(0.1)


def test_thresholds_are_tested_up_to_the_first_that_fails() -> None:
    scores = np.repeat([1.0, 2.0, 3.0, 4.0], 50)
    wrong = np.zeros(200, bool)
    wrong[100:125] = True  # among those with score 3
    found = certify(scores, wrong, [1, 2, 3, 4], alpha=0.1)
    assert found is not None
    assert (found.threshold, found.kept, found.wrong) == (2, 100, 0)
    assert found.bound == pytest.approx(1 - 0.1 ** (1 / 100))
    # 4 alone would pass at a higher alpha, but the walk ends at 3.
    assert upper_bound(25, 200) < 0.161 < upper_bound(25, 150)
    assert certify(scores, wrong, [1, 2, 3, 4], alpha=0.161) == certify(scores, wrong, [1, 2], alpha=0.161)
    everything = certify(scores, wrong, [4], alpha=0.161)
    assert everything is not None
    assert everything.kept == 200
    assert everything.bound <= 0.161


def test_without_proof_there_is_no_threshold() -> None:
    nothing_wrong = np.zeros(21, bool)
    assert certify(np.zeros(21), nothing_wrong, [0.0], alpha=0.1) is None  # 0.9 ** 21 is above 0.1
    assert certify(np.zeros(22), np.zeros(22, bool), [0.0], alpha=0.1) is not None
    assert certify(np.ones(99), np.zeros(99, bool), [0.0], alpha=0.1) is None  # keeps none
    assert certify(np.empty(0), np.empty(0, bool), [np.inf], alpha=0.1) is None


@pytest.mark.parametrize(("alpha", "delta"), [(0, 0.1), (1, 0.1), (0.1, 0), (0.1, 1)])
def test_alpha_and_delta_are_chances(alpha: float, delta: float) -> None:
    with pytest.raises(ValueError, match="alpha and delta lie between 0 and 1"):
        certify(np.zeros(3), np.zeros(3, bool), [1.0], alpha=alpha, delta=delta)
    with pytest.raises(ValueError, match="must ascend"):
        certify(np.zeros(3), np.zeros(3, bool), [1.0, 1.0], alpha=0.1)


def test_candidates_begin_where_the_fit_finds_the_proof_easiest() -> None:
    scores = np.arange(1000.0)
    wrong = np.arange(1000) % 20 == 0  # 5 % everywhere: the more, the easier to prove at 10 %
    assert candidate_thresholds(scores, wrong, count=300, alpha=0.1).tolist() == [np.inf]
    wrong = (np.arange(1000) >= 400) & (np.arange(1000) % 2 == 0)
    thresholds = candidate_thresholds(scores, wrong, count=300, alpha=0.1)
    assert 340 < thresholds[0] < 440
    assert (np.diff(thresholds) > 0).all()
    assert np.isinf(thresholds[-1])


@pytest.mark.parametrize("levels", [None, 12])
def test_the_guarantee_holds_where_the_truth_is_known(levels: int | None) -> None:
    """Scores uniform in [0, 1], or rounded up to twelfths (ties); P(wrong) = score / 2. 600 calibration sets."""
    alpha, runs = 0.15, 600
    steps = 60 if levels is None else levels
    grid = np.arange(steps // 4, steps + 1) / steps
    # Up to t the error is t / 4; rounded up it is (t + 1 / levels) / 4.
    errors = grid / 4 if levels is None else (grid + 1 / levels) / 4
    generator = np.random.default_rng(0)
    found = []
    for _ in range(runs):
        scores = generator.random(600)
        if levels is not None:
            scores = np.ceil(levels * scores) / levels
        found.append(certify(scores, generator.random(600) < scores / 2, grid, alpha=alpha, delta=0.1))
    thresholds = np.array([0.0 if guarantee is None else guarantee.threshold for guarantee in found])
    violations = int((thresholds > grid[errors <= alpha + 1e-12].max() + 1e-12).sum())
    assert 0 < violations <= binom.ppf(0.999, runs, 0.1)  # none at all would mean that more could be proved
    assert thresholds.mean() > 0.3  # 0.6, or 0.5 with ties, would be just right


def test_a_threshold_at_the_edge_is_wrongly_proved_with_chance_delta_at_most() -> None:
    generator = np.random.default_rng(0)
    proved = sum(
        certify(np.zeros(400), generator.random(400) < 0.15 + 1e-9, [0.0], alpha=0.15) is not None for _ in range(4000)
    )
    assert 0.06 * 4000 < proved <= binom.ppf(0.999, 4000, 0.1)


@pytest.mark.parametrize(("twins", "low", "high"), [(2, 0.12, 0.19), (4, 0.18, 0.26)])
def test_queries_that_are_right_or_wrong_together_prove_less_as_the_docstring_says(
    twins: int, low: float, high: float
) -> None:
    """Two thirds of queries that come in groups with one answer, at an error just above alpha."""
    generator = np.random.default_rng(0)
    proved = 0
    for _ in range(1500):
        wrong = np.repeat(generator.random(600 // twins) < 0.2 + 1e-9, twins)
        proved += certify(np.zeros(400), generator.permutation(wrong)[:400], [0.0], alpha=0.2) is not None
    assert low < proved / 1500 < high
