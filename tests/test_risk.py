"""The risk of a data set's images as queries, and the guarantee on real photographs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from pvu.calibration import MonotoneRisk, reliability
from pvu.errors import QueryError
from pvu.metrics import correct_at_1
from pvu.neighbors import cross_neighbors, nearest_neighbors, normalized
from pvu.risk import ALPHAS, calibrate, proved_rule, risk_inputs, why_no_risk
from pvu.store import EmbeddedDataset


class InMemory(SimpleNamespace):
    """What the risk reads of a data set."""

    def __len__(self) -> int:
        return len(self.labels)


def dataset(count: int = 600, *, labelled: float = 1.0, seed: int = 0, k: int = 12) -> Any:
    """Ten clusters of directions; the more uncertain an image, the more likely it lies anywhere."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 10, count)
    uncertainty = generator.random(count).astype(np.float32)
    angle = 2 * np.pi * (label + 0.1 * generator.normal(size=count)) / 10
    astray = generator.random(count) < uncertainty**2
    angle[astray] = generator.uniform(0, 2 * np.pi, int(astray.sum()))
    embeddings = np.stack([np.cos(angle), np.sin(angle), 0.3 * generator.normal(size=count)], axis=1)
    names = np.array([f"label {value}" for value in label], object)
    names[generator.random(count) >= labelled] = None
    neighbors, similarities = nearest_neighbors(embeddings, k)
    return InMemory(
        name="made",
        labels=names,
        embeddings=embeddings,
        uncertainty=uncertainty,
        has_uncertainty=True,
        neighbors=neighbors,
        similarities=similarities,
        manifest={"model": "none"},
    )


def test_inputs_are_those_of_a_naive_loop_without_the_query_itself() -> None:
    data = dataset(count=80, k=6)
    cosine = normalized(data.embeddings) @ normalized(data.embeddings).T
    np.fill_diagonal(cosine, -2)
    for row, found in enumerate(risk_inputs(data, np.arange(80))):
        nearest = int(cosine[row].argmax())
        others = [other for other in np.argsort(-cosine[nearest], kind="stable") if other != row][:5]
        around = np.mean([cosine[nearest, other] for other in others])
        expected = [data.uncertainty[row], -cosine[row, nearest], around - cosine[row, nearest]]
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_new_query_is_judged_as_an_image_of_the_set_in_its_place() -> None:
    data = dataset()
    risk = calibrate(data)
    inputs = risk_inputs(data, np.arange(len(data)))
    found = []
    for row in range(40):
        value, kept = risk.of_query(
            data, float(data.uncertainty[row]), int(data.neighbors[row, 0]), float(data.similarities[row, 0])
        )
        found.append(value)
        for alpha in ALPHAS:
            if risk.guarantees[alpha] is not None and row not in data.neighbors[data.neighbors[row, 0]]:
                assert kept[alpha] == risk.keeps(alpha)[row]
    assert found == pytest.approx(risk.model.predict(inputs[:40]), abs=0.05)


def test_risks_are_probabilities_of_a_wrong_neighbour() -> None:
    data = dataset(count=3000)
    risk = calibrate(data)
    correct, rows = correct_at_1(data.neighbors, data.labels)
    assert (risk.wrong == ~correct).all()
    assert (risk.rows == rows).all()
    assert risk.values.shape == (3000,)
    assert risk.values.dtype == np.float32
    assert risk.after.ece < 0.03 < risk.before.ece
    assert risk.after.brier < risk.before.brier
    assert roc_auc_score(risk.wrong, risk.values) > roc_auc_score(risk.wrong, data.uncertainty) + 0.01


def test_no_image_is_judged_by_its_own_answer() -> None:
    data = dataset()
    first = calibrate(data)
    data.labels = data.labels.copy()
    row = int(np.setdiff1d(np.flatnonzero(~first.wrong), data.neighbors[:, 0])[0])  # nobody's nearest image
    data.labels[row] = "another label"
    second = calibrate(data)
    assert np.flatnonzero(second.wrong != first.wrong).tolist() == [row]
    assert second.values[row] == first.values[row]
    assert (second.values != first.values).any()


def test_what_is_kept_holds_what_is_promised_on_the_whole_set() -> None:
    data = dataset(count=3000)
    risk = calibrate(data)
    proved = [alpha for alpha in ALPHAS if risk.guarantees[alpha] is not None]
    assert 0.2 in proved
    shares = []
    for alpha in proved:
        kept = risk.keeps(alpha)
        assert risk.wrong[kept[risk.rows]].mean() <= alpha
        shares.append(kept.mean())
    assert shares == sorted(shares)
    assert shares[-1] > 0.2


def test_images_without_a_label_have_a_risk_too() -> None:
    data = dataset(count=1200, labelled=0.5)
    risk = calibrate(data)
    assert 0 < len(risk.rows) < 1200
    assert np.isfinite(risk.values).all()
    unlabelled = np.setdiff1d(np.arange(1200), risk.rows)
    assert np.corrcoef(risk.values[unlabelled], data.uncertainty[unlabelled])[0, 1] > 0.3


def test_where_nothing_can_be_proved_it_says_so() -> None:
    data = dataset()
    data.labels = np.array([f"own {row}" for row in range(len(data))], object)  # every answer is wrong
    risk = calibrate(data)
    assert risk.guarantees == dict.fromkeys(ALPHAS)
    assert risk.values.min() > 0.9
    with pytest.raises(QueryError, match="For no part of this data set can it be proved that at most 5 % are wrong"):
        risk.keeps(0.05)
    with pytest.raises(QueryError, match="A risk of 7 % is not offered"):
        risk.keeps(0.07)
    assert not any(risk.of_query(data, 0.1, 3, 0.9)[1].values())


def test_where_every_answer_is_right_everything_is_kept() -> None:
    data = dataset()
    data.labels = np.where(np.arange(len(data)) < 0, "b", "a").astype(object)
    data.labels[[0, 1]] = "b"
    data.neighbors = data.neighbors.copy()
    data.neighbors[:, 0] = np.where(np.isin(data.neighbors[:, 0], [0, 1]), 2, data.neighbors[:, 0])
    data.neighbors[[0, 1], 0] = [1, 0]
    risk = calibrate(data)
    assert not risk.wrong.any()
    assert risk.keeps(0.05).all()
    assert risk.values.max() < 0.05


def test_it_says_why_not() -> None:
    data = dataset()
    assert why_no_risk(data) is None
    few = dataset(count=99)
    assert why_no_risk(few) == (
        "made has 99 labelled images, and a risk is learned from at least 100. Label more, or use the percentiles."
    )
    with pytest.raises(QueryError, match="made has 99 labelled images"):
        calibrate(few)
    data.labels = np.full(len(data), None, object)
    assert "made has no labels" in str(why_no_risk(data))
    headless = dataset()
    headless.has_uncertainty = False
    assert "no uncertainty head" in str(why_no_risk(headless))


@pytest.fixture(params=["cub_dev", "flowers17", "cifar10_dev"])
def real(request: pytest.FixtureRequest, real_set: Callable[[str], EmbeddedDataset]) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and answers of every image of a real set."""
    found = real_set(request.param)
    correct, rows = correct_at_1(found.neighbors, found.labels)
    return risk_inputs(found, rows), ~correct


@pytest.mark.shared_data
def test_the_model_beats_the_uncertainty_and_the_similarity_alone(real: tuple[np.ndarray, np.ndarray]) -> None:
    inputs, wrong = real
    scores: dict[str, list[tuple[float, float, float]]] = {"all": [], "u": [], "similarity": []}
    for seed in range(12):
        fit, held = halves(len(wrong), seed)
        for name, columns in {"all": [0, 1, 2], "u": [0], "similarity": [1]}.items():
            said = MonotoneRisk.fit(inputs[fit][:, columns], wrong[fit]).predict(inputs[held][:, columns])
            scores[name].append(
                (-roc_auc_score(wrong[held], said), brier_score_loss(wrong[held], said), log_loss(wrong[held], said))
            )
    means = {name: np.mean(values, axis=0) for name, values in scores.items()}
    assert (means["all"] < means["u"]).all(), means
    assert (means["all"] < means["similarity"]).all(), means


@pytest.mark.shared_data
def test_probabilities_hold_on_the_half_that_was_not_seen(real: tuple[np.ndarray, np.ndarray]) -> None:
    inputs, wrong = real
    fit, held = halves(len(wrong), 0)
    after = reliability(MonotoneRisk.fit(inputs[fit], wrong[fit]).predict(inputs[held]), wrong[held])
    rank = np.searchsorted(np.sort(inputs[fit, 0]), inputs[held, 0], "right") / len(fit)
    before = reliability(rank, wrong[held])
    assert after.ece < before.ece / 3
    assert after.brier < before.brier - 0.05


@pytest.mark.shared_data
def test_the_guarantee_holds_over_200_splits(real: tuple[np.ndarray, np.ndarray]) -> None:
    """A half is there for fit and proof. The rest is held out: its error is noisy itself, so that it may be above alpha
    where that of all images, which the guarantee is about, is not. Both are counted."""
    inputs, wrong = real
    held_out, everywhere = dict.fromkeys((0.1, 0.2), 0), dict.fromkeys((0.1, 0.2), 0)
    for seed in range(200):
        own, held = halves(len(wrong), seed)
        rule, guarantees = proved_rule(inputs[own], wrong[own], delta=0.1, seed=seed, alphas=(0.1, 0.2))
        scores = rule.predict(inputs)
        for alpha, guarantee in guarantees.items():
            kept = scores <= (-np.inf if guarantee is None else guarantee.threshold)
            held_out[alpha] += error(wrong[held][kept[held]]) > alpha
            everywhere[alpha] += error(wrong[kept]) > alpha
    assert max(everywhere.values()) <= 0.1 * 200, everywhere
    assert max(held_out.values()) <= binom.ppf(0.99, 200, 0.1), held_out


@pytest.mark.shared_data
def test_the_guarantee_holds_for_queries_that_are_in_no_set(real_set: Callable[[str], EmbeddedDataset]) -> None:
    """From end to end: a random half is the data set, with a graph of its own; the other half asks it."""
    whole, runs = real_set("flowers17"), 30
    z = np.asarray(whole.embeddings, np.float32)
    above = dict.fromkeys((0.1, 0.2), 0)
    for seed in range(runs):
        own, new = halves(len(whole), seed)
        neighbors, similarities = nearest_neighbors(z[own], 30)
        half = InMemory(
            name="half",
            labels=whole.labels[own],
            uncertainty=whole.uncertainty[own],
            has_uncertainty=True,
            neighbors=neighbors,
            similarities=similarities,
        )
        risk = calibrate(half, seed=seed)
        nearest, cosine = cross_neighbors(z[new], z[own], 1)
        wrong = half.labels[nearest[:, 0]] != whole.labels[new]
        asked = zip(whole.uncertainty[new], nearest[:, 0], cosine[:, 0], strict=True)
        kept = [risk.of_query(half, float(u), int(row), float(similarity))[1] for u, row, similarity in asked]
        for alpha in above:
            above[alpha] += error(wrong[[keeps[alpha] for keeps in kept]]) > alpha
    assert max(above.values()) <= binom.ppf(0.99, runs, 0.1), above


def halves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(1000 + seed).permutation(count)
    return order[: count // 2], order[count // 2 :]


def error(wrong: np.ndarray) -> float:
    return float(wrong.mean()) if len(wrong) else 0.0
