"""Fitting a head on data sets of numbers, in which it is known what is hard and what cannot be known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pvu import fitting
from pvu.bootstrap import Estimate
from pvu.errors import Cancelled, FitError
from pvu.fitting import HEAD, NAMES, FitConfig, advice, beats_chance, fit_head, usable_rows, why_not_fit
from pvu.head import predict
from pvu.metrics import auroc, correct_at_1
from pvu.probe import draw_folds
from pvu.progress import PHASES, Progress
from pvu.store import EmbeddedDataset
from tests.reviewing import clusters, dataset_of

QUICK = FitConfig(steps=120, hidden=32, batch=64)


def overlapping(count: int = 400, *, shuffled: bool = False, seed: int = 0, unlabelled: int = 0) -> EmbeddedDataset:
    """Two labels that differ in one direction and overlap in the middle; shuffled, the labels mean nothing."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(2, size=count)
    z = rng.normal(size=(count, 8)).astype(np.float32) * 0.4
    z[:, 0] = rng.uniform(-1, 1, count)
    codes = (z[:, 0] + rng.normal(size=count) * 0.25 > 0).astype(int)
    if shuffled:
        codes = rng.permutation(codes)
    labels: list[str | None] = [f"label {code}" for code in codes]
    labels[:unlabelled] = [None] * unlabelled
    return dataset_of(z.astype(np.float16), labels=labels)


def test_the_head_learns_where_labels_overlap() -> None:
    dataset = overlapping(unlabelled=20)
    fitted = fit_head(dataset, QUICK)
    assert beats_chance(fitted.scores)
    assert fitted.scores[HEAD].value > 0.6
    assert (fitted.images, fitted.labels) == (380, 2)
    distance = np.abs(np.asarray(dataset.embeddings[:20, 0], np.float32))
    u = predict(fitted.head, dataset.embeddings[:20])
    assert np.corrcoef(u, -distance)[0, 1] > 0.3  # uncertain where the labels meet
    np.testing.assert_allclose(fitted.uncertainty[:20], u, rtol=1e-6)  # images without a label have the head's own u
    assert fitted.curve[-1] < 0.8 * fitted.curve[0]
    assert "beats chance" in advice(fitted.scores)


def test_no_head_is_measured_on_a_copy_of_a_file_that_it_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    single = overlapping(count=120)
    twice = np.repeat(np.arange(120), 2)
    hashes = [f"hash {row}" if row < 100 else "" for row in twice]  # without a hash nothing is said to be the same
    dataset = dataset_of(single.embeddings[twice], labels=single.labels[twice].tolist(), hashes=hashes)
    seen: list[np.ndarray] = []

    def watched(codes: np.ndarray, count: int, *, seed: int, groups: np.ndarray) -> np.ndarray:
        seen.append(draw_folds(codes, count, seed=seed, groups=groups))
        return seen[-1]

    monkeypatch.setattr(fitting, "draw_folds", watched)
    fit_head(dataset, QUICK)
    (folds,) = seen
    assert (folds[:200:2] == folds[1:200:2]).all()
    assert (folds[200::2] != folds[201::2]).any()
    few = dataset_of(single.embeddings, labels=single.labels.tolist(), hashes=[str(row % 40) for row in range(120)])
    assert "set has 40 different images with a label that another image has too" in str(why_not_fit(few))


def test_labels_that_mean_nothing_are_not_learned() -> None:
    # A head that had seen the images it is measured on would look good here.
    found = [fit_head(overlapping(shuffled=True, seed=seed), replace(QUICK, seed=seed)) for seed in range(4)]
    values = [fitted.scores[HEAD].value for fitted in found]
    assert abs(np.mean(values) - 0.5) < 0.05
    assert not beats_chance(found[0].scores)
    assert "Do not use it" in advice(found[0].scores)


def test_the_stored_uncertainties_are_those_of_heads_that_have_not_seen_the_image() -> None:
    dataset = overlapping(300)
    fitted = fit_head(dataset, QUICK)
    correct, rows = correct_at_1(dataset.neighbors, dataset.labels)
    assert auroc(correct, -fitted.uncertainty[rows]) == pytest.approx(fitted.scores[HEAD].value, abs=1e-6)
    assert auroc(correct, dataset.similarities[rows, 0]) == pytest.approx(fitted.scores["similarity"].value, abs=1e-9)
    norms = np.linalg.norm(np.asarray(dataset.embeddings, np.float32), axis=1)
    assert auroc(correct, norms[rows]) == pytest.approx(fitted.scores["norm"].value, abs=1e-6)
    assert fitted.uncertainty.dtype == np.float32
    assert (fitted.uncertainty > 0).all()
    assert fitted.quantiles.shape == (101,)
    assert (np.diff(fitted.quantiles) >= 0).all()
    assert np.quantile(fitted.uncertainty, 0.5) == pytest.approx(fitted.quantiles[50], rel=0.02)


def test_it_is_compared_with_the_head_that_the_model_has() -> None:
    dataset = overlapping(400)
    assert list(fit_head(dataset, QUICK).scores) == [name for name in NAMES if name != "present"]
    correct, _ = correct_at_1(dataset.neighbors, dataset.labels)
    perfect = np.where(correct, 0.1, 0.9).astype(np.float32)
    better = dataset_of(dataset.embeddings, labels=list(dataset.labels), uncertainty=perfect)
    scores = fit_head(better, QUICK).scores
    assert list(scores) == list(NAMES)
    assert scores["present"].value == 1
    assert "at least as good" in advice(scores)


def test_one_seed_one_result_and_nobody_elses_random_numbers_are_drawn() -> None:
    dataset = overlapping(200)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = fit_head(dataset, QUICK)
    torch.testing.assert_close(torch.rand(3), expected)
    again, other = fit_head(dataset, QUICK), fit_head(dataset, replace(QUICK, seed=1))
    np.testing.assert_array_equal(first.uncertainty, again.uncertainty)
    assert first.scores == again.scores
    assert not np.array_equal(first.uncertainty, other.uncertainty)


def test_progress_goes_through_its_phases_with_a_curve() -> None:
    seen: list[Progress] = []
    fitted = fit_head(overlapping(200), QUICK, progress=seen.append)
    assert list(dict.fromkeys(progress.phase for progress in seen)) == ["read", "probe", "fit", "folds", "measure"]
    assert {progress.phase for progress in seen} <= set(PHASES)
    last = [progress for progress in seen if progress.phase == "fit"][-1]
    assert (last.done, last.total, last.unit) == (120, 120, "steps")
    assert last.curve == fitted.curve
    assert len(fitted.curve) <= 100
    folds = [progress for progress in seen if progress.phase == "folds"]
    assert (folds[-1].done, folds[-1].total) == (600, 600)


@pytest.mark.parametrize("after", [0, 5, 40])
def test_it_stops_when_asked(after: int) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    with pytest.raises(Cancelled, match="Nothing is kept"):
        fit_head(overlapping(200), QUICK, should_stop=should_stop)
    assert asked == after + 1


def test_a_head_that_cannot_tell_images_apart_has_collapsed() -> None:
    labels = ["a", "b", "b"] * 40
    with pytest.raises(FitError, match=r"collapsed: u varies by .* expected more than 1e-03"):
        fit_head(dataset_of(np.full((120, 4), 0.5, np.float16), labels=labels), QUICK)


def test_labels_that_cannot_be_mistaken_teach_nothing() -> None:
    z, codes = clusters(3, 30, spread=0.001)
    with pytest.raises(FitError, match="labels of all 90 images equally easy"):
        fit_head(dataset_of(z.astype(np.float16), labels=[str(code) for code in codes]), QUICK)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([None] * 60, "has no labels, and a head learns from them"),
        (["cat"] * 60, "has 1 label with at least two images"),
        ([f"label {number}" for number in range(60)], "has 0 labels with at least two images"),
        (["cat", "dog"] * 20 + [None] * 20, "has 40 different images with a label .* takes at least 50"),
    ],
)
def test_why_no_head_can_be_fitted_is_one_sentence(labels: list[str | None], reason: str) -> None:
    dataset = dataset_of(np.random.default_rng(0).normal(size=(60, 4)).astype(np.float16), labels=labels)
    with pytest.raises(FitError, match=reason):
        fit_head(dataset)


def test_brought_embeddings_have_no_model_to_put_a_head_on() -> None:
    dataset = overlapping(100)
    assert why_not_fit(dataset) is None
    dataset.manifest["brought"] = {}
    assert "no model on this computer" in str(why_not_fit(dataset))


def test_only_labels_that_occur_twice_are_used() -> None:
    labels = np.array(["a", None, "b", "a", "c", "b", "a"], dtype=object)
    assert usable_rows(labels).tolist() == [0, 2, 3, 5, 6]


def test_numbers_that_could_not_be_measured_are_not_trusted() -> None:
    assert "could not be measured" in advice({HEAD: Estimate(float("nan"))})
    assert not beats_chance({HEAD: Estimate(0.52, 0.49, 0.55)})
    assert beats_chance({HEAD: Estimate(0.6, 0.51, 0.7)})


@pytest.mark.parametrize("wrong", [{"folds": 2}, {"batch": 3}, {"lr": 0.0}, {"dropout": 1.0}, {"hidden": 0}])
def test_a_wrong_setting_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Need "):
        FitConfig(**wrong)  # type: ignore[arg-type]


def test_steps_grow_with_the_images_within_bounds() -> None:
    assert [FitConfig().steps_for(count) for count in (100, 25_600, 1_000_000)] == [300, 500, 1000]
    assert FitConfig(steps=7).steps_for(10) == 7


def test_the_curve_has_at_most_a_hundred_points() -> None:
    assert fitting._curve([1.0, 3.0, 5.0], 3) == (1.0, 3.0, 5.0)
    assert fitting._curve([float(step) for step in range(1000)], 1000)[:2] == (4.5, 14.5)
