"""The evaluation page: the numbers of the library, or why there are none."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pvu.analysis import evaluate
from pvu.store import EmbeddedDataset
from tests.pages.conftest import App

Make = Callable[..., EmbeddedDataset]


def test_without_a_data_set_it_says_where_to_begin(app: App) -> None:
    app.open("evaluation")
    assert app.texts("title") == ["Evaluation"]
    assert app.texts("info")[0].startswith("No data set is open yet. Once one is, this page shows how well")
    assert len(app.links()) == 1


def test_the_numbers_are_those_of_the_library(app: App, make_dataset: Make) -> None:
    table = "path,label\n" + "".join(f"{n:02d}.png,{'abc'[n * n % 3]}\n" for n in range(30))
    dataset = make_dataset("mixed", (), count=30, table=table)
    expected = evaluate(dataset)
    assert 0 < expected.recall_at_1 < 1
    app.open("evaluation", dataset=dataset.path.name)
    assert {metric.label: metric.value for metric in app.test.metric} == {
        "Recall@1": f"{expected.recall_at_1:.3f}",
        "R-AUROC of the uncertainty": f"{expected.r_auroc:.3f}",
        "R-AUROC of the similarity": f"{expected.similarity_r_auroc:.3f}",
        "AURC": f"{expected.curve.aurc:.3f}",
    }
    assert f"Each of 30 images with one of {expected.labels} labels is a query" in app.texts("markdown")[0]
    risk, kept = (json.loads(chart.spec) for chart in app.charts())
    assert [trace["name"].split(":")[0] for trace in risk["data"]] == [
        "random",
        "by uncertainty",
        "oracle (best possible)",
    ]
    assert [trace["name"] for trace in kept["data"]] == ["gallery", "queries", "both"]


def test_where_every_answer_is_right_r_auroc_is_none(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    assert evaluate(dataset).recall_at_1 == 1
    app.open("evaluation", dataset=dataset.path.name)
    assert {metric.label: metric.value for metric in app.test.metric}["R-AUROC of the uncertainty"] == "none"


@pytest.mark.parametrize(
    ("labels", "has_head", "reason"),
    [
        ((), True, "pets has no labels, and evaluation asks"),
        (("cat", "dog"), False, "The model fake has no uncertainty head."),
        ((), False, "pets has no labels, and evaluation asks"),
    ],
)
def test_it_says_why_it_cannot_evaluate(
    app: App, make_dataset: Make, labels: tuple[str, ...], has_head: bool, reason: str
) -> None:
    dataset = make_dataset(labels=labels, has_head=has_head)
    app.open("evaluation", dataset=dataset.path.name)
    (info,) = app.texts("info")
    assert info.startswith(reason)
    assert app.charts() == []
    assert len(app.links()) == 1


def test_one_label_is_too_few(app: App, make_dataset: Make) -> None:
    table = "path,label\n" + "".join(f"{n:02d}.png,only\n" for n in range(4))
    dataset = make_dataset("one", (), count=4, table=table)
    app.open("evaluation", dataset=dataset.path.name)
    assert app.texts("info") == ["one has one label only (only), so every answer is correct."]
