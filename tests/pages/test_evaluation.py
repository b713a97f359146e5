"""The evaluation page: the numbers of the library, or why there are none."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd
import pytest

from pvu.analysis import evaluate
from pvu.risk import calibrate
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


def test_the_risk_is_shown_with_what_can_be_promised(app: App, make_dataset: Make) -> None:
    labels = ["abcd"[n % 4] if n % 3 else "x" for n in range(150)]
    table = "path,label\n" + "".join(f"{n:02d}.png,{label}\n" for n, label in enumerate(labels))
    dataset = make_dataset("mixed", (), count=150, table=table)
    risk = calibrate(dataset)
    app.open("evaluation", dataset=dataset.path.name)
    values = {metric.label: (metric.value, metric.delta) for metric in app.test.metric}
    assert values["ECE"] == (f"{risk.after.ece:.3f}", f"{risk.after.ece - risk.before.ece:.3f}")
    assert values["Brier"] == (f"{risk.after.brier:.3f}", f"{risk.after.brier - risk.before.brier:.3f}")
    assert len(app.charts()) == 3
    (shown,) = app.test.dataframe
    assert shown.value["at most wrong"].tolist() == [5, 10, 20]
    for line, found in zip(shown.value.to_dict("records"), risk.guarantees.values(), strict=True):
        if found is None:
            assert pd.isna(line["keeps"])
        else:
            assert line["keeps"] == pytest.approx(100 * risk.keeps(found.alpha).mean())
            assert (line["proved on"], line["of which wrong"]) == (found.kept, found.wrong)
            assert line["at worst"] == pytest.approx(100 * found.bound)
    assert any("can it be proved that at most 5 % are wrong" in text for text in app.texts("caption"))


def test_too_few_labels_for_a_risk_are_said(app: App, make_dataset: Make) -> None:
    app.open("evaluation", dataset=make_dataset().path.name)
    assert app.texts("info") == [
        "pets has 36 labelled images, and a risk is learned from at least 100. Label more, or use the percentiles."
    ]
