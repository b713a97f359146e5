from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pvu.errors import ModelError, SourceError
from training.degradations import KINDS
from training.evaluation.models import Options, evaluate_model, parse_mixture


def options(**changes) -> Options:
    return Options(workers=0, resamples=20, **changes)


def test_everything_is_measured(model, sets: Path, tmp_path: Path) -> None:
    votes = [f"1.bird/{image}.png,{label},{image + 1}" for image in range(8) for label in "abc"[: image % 3 + 1]]
    (tmp_path / "votes.csv").write_text("\n".join(["path,label,votes", *votes]))
    chosen = options(humans={"birds": tmp_path / "votes.csv"}, mixtures=["wnids:birds"], sheets=tmp_path / "sheets")
    report, figures = evaluate_model(model, sets, ["wnids", "birds"], options=chosen)
    wnids, birds = report.sets["wnids"], report.sets["birds"]
    assert (wnids.images, wnids.labels, birds.images, birds.labels) == (48, 4, 39, 5)
    assert report.unreadable == {"birds": 1}
    assert (wnids.classified, birds.classified) == (48, 0)
    assert (wnids.humans, birds.humans) == (0, 8)
    assert 0 < wnids.uncertainties["u"].crop_test < 1
    assert 0.2 < wnids.uncertainties["random"].crop_test < 0.8  # crops are drawn other random numbers
    assert report.mixtures["wnids:birds"].images == 39
    assert set(report.degradations["birds"]["u"]) == set(KINDS)
    assert len(figures) == 2
    assert len(list((tmp_path / "sheets").iterdir())) == 2
    assert birds.heads == ("u",)
    assert not any("no crops" in note for note in birds.left_out)


def test_heads_are_measured_side_by_side(model, make_head, sets: Path) -> None:
    heads = {"a": make_head(0), "b": make_head(1)}
    report, _ = evaluate_model(model, sets, ["birds"], heads=heads, options=options(skip=["crops", "degradations"]))
    alone, _ = evaluate_model(model, sets, ["birds"], options=options(skip=["crops", "degradations"]))
    found = report.sets["birds"].uncertainties
    assert repr(found["a"]) == repr(alone.sets["birds"].uncertainties["u"])  # as text, where NaN equals NaN
    assert found["a"].r_auroc != found["b"].r_auroc
    assert report.heads["a"] == alone.heads["u"] != report.heads["b"]
    assert np.isnan(found["a"].crop_test)
    assert report.degradations == {}


def test_a_model_without_a_classifier_is_measured_without_its_baselines(bare, sets: Path) -> None:
    report, _ = evaluate_model(bare, sets, ["wnids"], options=options(skip=["degradations"]))
    found = report.sets["wnids"]
    assert set(found.uncertainties) == {"u", "random", "-norm", "-similarity", "u and -similarity"}
    assert any("no classifier" in note for note in found.left_out)


def test_one_half_of_the_labels(model, sets: Path) -> None:
    chosen = options(classes="second-half", skip=["crops", "degradations"])
    report, _ = evaluate_model(model, sets, ["birds"], options=chosen)
    assert (report.sets["birds"].images, report.sets["birds"].labels) == (24, 3)


def test_what_cannot_be_evaluated_is_refused_before_anything_is_encoded(model, make_head, sets: Path) -> None:
    head, model.head = model.head, None
    with pytest.raises(ModelError, match="no uncertainty head"):
        evaluate_model(model, sets, ["birds"])
    with pytest.raises(ModelError, match="The head wide takes 50 numbers, but fake gives 48"):
        evaluate_model(model, sets, ["birds"], heads={"wide": make_head(0, 50)})
    model.head = head
    for wrong, message in (
        ({"mixtures": ["birds:fish"]}, "name fish"),
        ({"mixtures": ["birds"]}, "UPSTREAM:SET"),
        ({"humans": {"fish": Path("votes.csv")}}, "name fish"),
        ({"skip": ["everything"]}, "'everything'"),
        ({"classes": "none"}, "'none'"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_model(model, sets, ["birds"], options=options(**wrong))
    with pytest.raises(ValueError, match="each once"):
        evaluate_model(model, sets, ["birds", "birds"])
    with pytest.raises(SourceError, match="no folder fish"):
        evaluate_model(model, sets, ["birds", "fish"])
    assert model.encoder.encoded == 0


def test_mixtures_are_written_upstream_first() -> None:
    assert parse_mixture("a:b+c") == ("a", ["b", "c"])
    for text in ("a:", ":b", "a:b+", "a:a", "a"):
        with pytest.raises(ValueError, match="UPSTREAM:SET"):
            parse_mixture(text)
