"""The train page: what it says before, while and after a head is fitted, and that the decision has its effect."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pvu import jobs
from pvu.fitting import FitConfig
from pvu.models import load_model
from pvu.own_heads import candidate_of, fit_candidate, use
from pvu.pipeline import embed
from pvu.progress import Progress
from pvu.registry import own_head_path
from pvu.store import EmbeddedDataset
from tests.headless import QUICK, embed_pets, write_weights
from tests.pages.conftest import App

Make = Callable[..., EmbeddedDataset]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture
def dataset(weights: Path, tmp_path: Path, quick_map: None, monkeypatch: pytest.MonkeyPatch) -> EmbeddedDataset:
    monkeypatch.setattr(FitConfig, "steps_for", lambda *_: QUICK.steps)
    return embed_pets(tmp_path, weights)


def page(app: App, dataset: EmbeddedDataset) -> App:
    return app.open("training", dataset=dataset.path.name)


def labels(app: App) -> list[str]:
    """The page's buttons."""
    return [button.label for button in app.test.main.button]


def test_without_a_data_set_it_says_where_to_begin(app: App) -> None:
    app.open("training")
    assert any("how to give a model without uncertainties a head" in text for text in app.texts("info"))
    assert app.links()


@pytest.mark.parametrize(
    ("names", "reason"),
    [((), "has no labels, and a head learns from them"), (("cat", "dog"), "a head takes at least 50")],
)
def test_a_set_that_will_not_do_is_one_sentence(
    app: App, make_dataset: Make, names: tuple[str, ...], reason: str
) -> None:
    page(app, make_dataset(labels=names))
    assert any(reason in text for text in app.texts("info"))
    assert labels(app) == []


def test_from_the_button_to_the_head_in_use(app: App, dataset: EmbeddedDataset, job_now: list[dict[str, Any]]) -> None:
    page(app, dataset)
    assert labels(app) == ["Fit a head"]
    app.click("Fit a head")
    app.run()
    model = dataset.manifest["model"]
    assert job_now == [{"store": str(dataset.path), "seed": 0, "name": "pets", "model": model}]
    candidate = candidate_of(dataset)
    assert candidate is not None
    score = candidate.scores["head"]
    said = [*app.texts("success"), *app.texts("warning")]
    assert any(f"{score.value:.3f}, 95 % interval {score.low:.3f} to {score.high:.3f}" in text for text in said)
    assert app.test.metric[0].value == f"{score.value:.3f}"
    assert app.test.metric[1].value == f"{candidate.facts['recall_at_1']:.3f}"
    assert len(app.charts()) == 2
    assert [button.label for button in app.test.get("download_button")] == ["Head (.safetensors)", "Card (.md)"]
    assert not own_head_path(model).exists()
    app.click("Use this head")
    app.run()
    assert load_model(model).head is not None
    opened = app.test.query_params["dataset"]
    assert opened != dataset.path.name
    assert EmbeddedDataset(dataset.path.parent / opened).has_uncertainty
    assert any(
        text.startswith("In use: a head that was fitted here, on 60 images of pets") for text in app.texts("info")
    )
    assert labels(app) == ["Fit a head"]


def test_a_head_that_does_not_beat_chance_is_advised_against(
    app: App, dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = fit_candidate(dataset, QUICK)
    assert candidate.scores["head"].low < 0.5  # the labels mean nothing
    page(app, dataset)
    assert any("does not beat chance" in text and "Do not use it" in text for text in app.texts("warning"))
    assert app.texts("success") == []
    assert labels(app) == ["Use this head", "Discard"]


def test_discarded_it_is_as_before(app: App, dataset: EmbeddedDataset) -> None:
    fit_candidate(dataset, QUICK)
    page(app, dataset).click("Discard")
    app.run()
    assert labels(app) == ["Fit a head"]
    assert candidate_of(dataset) is None
    assert not own_head_path(dataset.manifest["model"]).exists()


def running(dataset: EmbeddedDataset, progress: Progress) -> jobs.Job:
    """A fit that another tab has started."""
    arguments = {"store": str(dataset.path), "seed": 0, "name": dataset.name, "model": dataset.manifest["model"]}
    job = jobs.find_job("fit", **arguments)
    job.folder.mkdir(parents=True)
    (job.folder / "job.json").write_text(json.dumps({"kind": "fit", "arguments": arguments}))
    status = {"state": "starting", "started": time.time(), "progress": vars(progress)}
    (job.folder / "status.json").write_text(json.dumps(status))
    return job


def test_while_it_is_fitted_the_curve_is_drawn_and_it_can_be_cancelled(app: App, dataset: EmbeddedDataset) -> None:
    job = running(dataset, Progress("fit", 150, 300, 50.0, 3.0, unit="steps", curve=(0.1, 0.08, 0.05)))
    page(app, dataset)
    (bar,) = app.test.get("progress")
    assert bar.proto.text == "Fitting the head: 150 of 300, 50 steps/s, 3 s left"
    assert bar.proto.value == 5 + 2 + 8 + 14 // 2
    (chart,) = app.charts()
    assert json.loads(chart.spec)["data"][0]["y"] == [0.1, 0.08, 0.05]
    assert labels(app) == ["Cancel"]
    app.click("Cancel")
    assert (job.folder / "cancel").exists()
    (job.folder / "status.json").write_text(json.dumps({"state": "cancelled", "message": "Nothing is kept."}))
    app.run()
    assert "Nothing is kept." in app.texts("info")
    app.click("Back")
    app.run()
    assert labels(app) == ["Fit a head"]


def test_a_job_that_was_forgotten_in_another_tab_is_gone_here_too(app: App, dataset: EmbeddedDataset) -> None:
    job = running(dataset, Progress("fit", 150, 300, unit="steps"))
    page(app, dataset)
    assert labels(app) == ["Cancel"]
    (job.folder / "status.json").write_text(json.dumps({"state": "cancelled", "message": "Nothing is kept."}))
    job.forget()
    app.run()
    assert labels(app) == ["Fit a head"]


def test_the_fit_of_another_data_set_is_only_named(app: App, dataset: EmbeddedDataset, make_dataset: Make) -> None:
    running(dataset, Progress("fit", 150, 300, unit="steps"))
    page(app, make_dataset("animals", count=20))
    assert "A head for pets is being fitted. Open that data set to watch it." in app.texts("caption")
    assert labels(app) == ["Fit a head"]


def test_a_failure_is_one_sentence(
    app: App, dataset: EmbeddedDataset, job_now: list[dict[str, Any]], weights: Path
) -> None:
    before = weights.read_bytes()
    try:
        write_weights(weights, seed=1)
        page(app, dataset).click("Fit a head")
        app.run()
    finally:
        weights.write_bytes(before)
    assert any("have changed since pets was embedded" in text for text in app.texts("error"))
    assert labels(app) == ["Try again", "Back"]


def test_a_model_with_a_head_says_so_and_compares(app: App, dataset: EmbeddedDataset) -> None:
    made = use(dataset, fit_candidate(dataset, QUICK))
    again = fit_candidate(made, QUICK)
    page(app, made)
    assert "present" in again.scores
    spec = json.loads(app.charts()[0].spec)
    assert "the head that the model has now" in [trace["y"][0] for trace in spec["data"]]


def test_a_model_with_a_bundled_head_may_be_given_another(app: App, make_dataset: Make) -> None:
    page(app, make_dataset(count=20))
    assert any("has a head already. You can fit one to your labels all the same" in text for text in app.texts("info"))
    assert labels(app) == ["Fit a head"]


def test_a_data_set_embedded_before_gets_the_head_too(
    app: App, dataset: EmbeddedDataset, make_photos: Callable[..., Path]
) -> None:
    other = embed(make_photos(9), model=dataset.manifest["model"], workers=0)
    page(app, other)
    assert labels(app) == []  # no labels, no head: nothing to press
    use(dataset, fit_candidate(dataset, QUICK))
    app.run()
    assert any("has another head by now, fitted on 60 images of pets" in text for text in app.texts("info"))
    app.click("Use it here too")
    app.run()
    opened = EmbeddedDataset(other.path.parent / app.test.query_params["dataset"])
    assert (len(opened), opened.has_uncertainty) == (9, True)
    assert any(text.startswith("In use: a head that was fitted here") for text in app.texts("info"))
    assert labels(app) == []
