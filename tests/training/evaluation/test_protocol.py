"""Every number of a set against a naive loop or scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from pvu.errors import SourceError
from training.evaluation.baselines import combined
from training.evaluation.protocol import NO_CLASS, evaluate_arrays


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """300 images of 5 labels, one in ten without a label; u knows something about how far each is from its label."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, 300)
    offset = rng.normal(size=(300, 6))
    z = (offset + 2.4 * np.eye(6)[codes]).astype(np.float32)
    labels = np.array([f"label {code}" for code in codes], dtype=object)
    labels[::10] = None
    u = np.exp(np.abs(offset).mean(1) + 0.3 * rng.normal(size=300))
    return {
        "z": z,
        "labels": labels,
        "u": u,
        "codes": codes,
        "logits": rng.normal(size=(300, 10)) + 3 * np.eye(10)[codes],
    }


def naive_answers(z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labelled rows, whether each is answered correctly, and the similarity of the answer: one pair at a time."""
    rows, correct, nearest = [], [], []
    for i in range(len(z)):
        if labels[i] is None:
            continue
        cosines = [
            -2.0 if i == j else float(z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j])) for j in range(len(z))
        ]
        rows.append(i)
        correct.append(labels[int(np.argmax(cosines))] == labels[i])
        nearest.append(max(cosines))
    return np.array(rows), np.array(correct), np.array(nearest)


def test_recall_and_r_auroc_are_the_naive_computation(arrays) -> None:
    z, labels, u, logits = (arrays[name] for name in ("z", "labels", "u", "logits"))
    found = evaluate_arrays(z, u, labels, logits=logits)
    rows, correct, nearest = naive_answers(z, labels)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    naive = {
        "u": -u[rows],
        "-norm": np.linalg.norm(z, axis=1)[rows],
        "entropy": (p * np.log(p)).sum(1)[rows],
        "-energy": np.log(np.exp(logits).sum(1))[rows],
        "-similarity": nearest,
    }
    assert (found.images, found.labels, found.heads) == (270, 5, ("u",))
    assert found.recall_at_1.value == pytest.approx(np.mean(correct), abs=1e-9)
    assert found.recall_at_1.low < found.recall_at_1.value < found.recall_at_1.high
    for name, certainty in naive.items():
        estimate = found.uncertainties[name].r_auroc
        assert estimate.value == pytest.approx(roc_auc_score(correct, certainty), abs=1e-6), name
        assert estimate.low < estimate.value < estimate.high
    assert abs(found.uncertainties["random"].r_auroc.value - 0.5) < 0.1
    both = combined(correct, u[rows], nearest)
    assert both is not None
    assert found.uncertainties["u and -similarity"].r_auroc.value == pytest.approx(
        roc_auc_score(correct, -both), abs=1e-4
    )
    assert set(found.uncertainties) == {*naive, "random", "u and -similarity"}


def test_within_labels_is_the_mean_over_labels_with_both_outcomes(arrays) -> None:
    z, labels, u = (arrays[name] for name in ("z", "labels", "u"))
    found = evaluate_arrays(z, u, labels, resamples=0)
    rows, correct, _ = naive_answers(z, labels)
    values = []
    for label in sorted(set(labels[rows])):
        own = labels[rows] == label
        if 0 < correct[own].sum() < own.sum():
            values.append(roc_auc_score(correct[own], -u[rows][own]))
    assert found.labels_with_both == len(values) > 2
    assert found.uncertainties["u"].r_auroc_within_labels == pytest.approx(np.mean(values), abs=1e-9)


def test_classification_auroc_is_over_the_labels_that_are_classes(arrays) -> None:
    z, labels, u, logits = (arrays[name] for name in ("z", "labels", "u", "logits"))
    classes = np.where(arrays["codes"] < 3, arrays["codes"], NO_CLASS)
    found = evaluate_arrays(z, u, labels, logits=logits, classes=classes, resamples=0)
    known = np.flatnonzero(classes >= 0)
    right = logits.argmax(1)[known] == classes[known]
    assert (found.classified, found.accuracy) == (len(known), pytest.approx(right.mean()))
    assert found.uncertainties["u"].classification_auroc == pytest.approx(roc_auc_score(right, -u[known]))
    assert found.uncertainties["entropy"].classification_auroc > 0.7


def test_crop_test_is_the_share_that_rises(arrays) -> None:
    z, labels, u = (arrays[name] for name in ("z", "labels", "u"))
    cropped = u + np.where(np.arange(300) < 240, 0.5, -0.5)
    cropped[:3] = u[:3]  # equal is not less certain
    found = evaluate_arrays(z, u, labels, cropped=cropped, resamples=0)
    assert found.uncertainties["u"].crop_test == pytest.approx(237 / 300)
    assert math.isnan(found.uncertainties["-norm"].crop_test)


def test_human_correlation_is_spearmans_over_images_with_human_labels(arrays) -> None:
    z, labels, u = (arrays[name] for name in ("z", "labels", "u"))
    human = np.random.default_rng(1).random(300) + u
    human[:50] = np.nan
    found = evaluate_arrays(z, u, labels, human_entropy=human, resamples=0)
    assert found.humans == 250
    assert found.uncertainties["u"].human_correlation == pytest.approx(spearmanr(u[50:], human[50:]).statistic)


def test_summary_is_of_the_queries(arrays) -> None:
    z, labels, u = (arrays[name] for name in ("z", "labels", "u"))
    summary = evaluate_arrays(z, u, labels, resamples=0).uncertainties["u"].summary
    queries = u[[label is not None for label in labels]]
    assert summary is not None
    assert summary["mean"] == pytest.approx(queries.mean())
    assert summary["std"] == pytest.approx(queries.std())
    assert [summary[name] for name in ("q00", "q50", "q100")] == pytest.approx(
        [queries.min(), np.median(queries), queries.max()]
    )


def test_several_uncertainties_of_the_same_images(arrays) -> None:
    z, labels, u = (arrays[name] for name in ("z", "labels", "u"))
    alone = evaluate_arrays(z, u, labels, resamples=50)
    found = evaluate_arrays(z, {"seed 1": u, "seed 2": 1 / u}, labels, resamples=50)
    assert found.heads == ("seed 1", "seed 2")
    assert repr(found.uncertainties["seed 1"]) == repr(alone.uncertainties["u"])  # as text, where NaN equals NaN
    assert found.uncertainties["seed 2"].r_auroc.value == pytest.approx(1 - alone.uncertainties["u"].r_auroc.value)
    assert {"seed 1 and -similarity", "seed 2 and -similarity"} < set(found.uncertainties)


def test_half_precision_gives_the_same_numbers_nearly(arrays) -> None:
    z, labels, u = (arrays[name] for name in ("z", "labels", "u"))
    full, half = (evaluate_arrays(z.astype(kind), u, labels, resamples=0) for kind in (np.float32, np.float16))
    assert half.recall_at_1.value == pytest.approx(full.recall_at_1.value, abs=0.01)
    assert half.uncertainties["u"].r_auroc.value == pytest.approx(full.uncertainties["u"].r_auroc.value, abs=0.02)


def test_what_is_left_out_is_said(arrays) -> None:
    z, labels, u = (arrays[name] for name in ("z", "labels", "u"))
    found = evaluate_arrays(z, u, labels, resamples=0)
    assert any("no classifier" in note for note in found.left_out)
    assert any("no crops" in note for note in found.left_out)
    assert any("no human labels" in note for note in found.left_out)
    assert "entropy" not in found.uncertainties
    assert math.isnan(found.uncertainties["u"].classification_auroc)
    easy = evaluate_arrays(np.repeat(np.eye(4), 5, axis=0), np.ones(20), np.repeat(list("abcd"), 5), resamples=10)
    assert easy.recall_at_1.value == 1
    assert math.isnan(easy.uncertainties["u"].r_auroc.value)
    assert any("u and -similarity: it cannot be fitted" in note for note in easy.left_out)


def test_an_uncertainty_with_a_nan_gives_nan_and_not_a_wrong_number(arrays) -> None:
    z, labels, u = (arrays[name] for name in ("z", "labels", "u"))
    u[5] = np.nan
    found = evaluate_arrays(z, u, labels, resamples=10).uncertainties["u"]
    assert all(math.isnan(value) for value in (found.r_auroc.value, found.r_auroc.low, found.aurc))
    assert math.isnan(found.r_auroc_within_labels)


def test_arrays_that_do_not_fit_are_refused(arrays) -> None:
    z, labels, u = (arrays[name] for name in ("z", "labels", "u"))
    with pytest.raises(ValueError, match=r"300 representations, but .* of 299 images"):
        evaluate_arrays(z, u, labels[1:])
    for name in ("human_entropy", "classes", "cropped"):
        with pytest.raises(ValueError, match="of 299 images"):
            evaluate_arrays(z, u, labels, **{name: np.ones(299)})
    with pytest.raises(SourceError, match="has 300 images, 0 with a label"):
        evaluate_arrays(z, u, np.full(300, None))
    with pytest.raises(SourceError, match="has 1 images"):
        evaluate_arrays(z[:1], u[:1], labels[1:2])
