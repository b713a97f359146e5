"""Figures: small, reproducible, free of paths, and readable whatever the column holds."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from pvu.analysis import KEEPS, Evaluation, evaluate, recall_by_kept
from pvu.calibration import reliability
from pvu.coloring import COLORS, OTHER
from pvu.figures import (
    kept_figure,
    reliability_figure,
    risk_coverage_figure,
    umap_map,
    uncertainty_histogram,
)
from pvu.metrics import oracle_risk_coverage, random_risk_coverage, risk_coverage
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, write_pictures

pytestmark = pytest.mark.usefixtures("quick_map")


@pytest.fixture
def dataset(photos: Path) -> EmbeddedDataset:
    return embed(photos, model=FakeEncoder(), workers=0)


def with_column(dataset: EmbeddedDataset, values: list[Any]) -> EmbeddedDataset:
    dataset.images["column"] = pd.Series(values)
    return dataset


def decoded(values: Any) -> np.ndarray:
    """An array of a figure's JSON, which plotly writes as base64 with its type."""
    return np.frombuffer(base64.b64decode(values["bdata"]), {"f4": np.float32, "i4": np.int32}[values["dtype"]])


def data_trace(figure: go.Figure) -> dict[str, Any]:
    """The one trace that holds images, as the browser gets it."""
    traces = json.loads(figure.to_json())["data"]
    (data,) = [trace for trace in traces if trace["x"] != [None]]
    assert data["type"] == "scattergl"
    return data


def legend(figure: go.Figure) -> dict[str, str]:
    return {trace.name: trace.marker.color for trace in figure.data if trace.name}


def strings(value: Any) -> Iterator[str]:
    """Every string in a figure's JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def test_one_trace_of_float32_with_integer_rows(dataset: EmbeddedDataset) -> None:
    trace = data_trace(umap_map(dataset))
    assert trace["x"]["dtype"] == trace["y"]["dtype"] == trace["marker"]["color"]["dtype"] == "f4"
    assert trace["customdata"]["dtype"] in ("i1", "i2", "i4")  # plotly narrows it where the values allow
    figure = umap_map(dataset)
    assert figure.data[0].customdata.tolist() == list(range(12))
    assert (decoded(trace["x"]) == dataset.coords[:, 0]).all()
    assert (decoded(trace["y"]) == dataset.coords[:, 1]).all()
    assert np.abs(decoded(trace["marker"]["color"]) - dataset.percentiles).max() <= 0.25


def test_chosen_rows_keep_their_numbers(dataset: EmbeddedDataset) -> None:
    rows = np.array([9, 2, 5])
    figure = umap_map(dataset, rows=rows, selected=np.array([5, 11]))
    trace = figure.data[0]
    assert trace.customdata.tolist() == [9, 2, 5]
    assert trace.customdata.dtype == np.int32
    assert trace.x.tolist() == dataset.coords[rows, 0].tolist()
    assert list(trace.selectedpoints) == [2]  # places in the trace, not rows


def test_selection(dataset: EmbeddedDataset) -> None:
    assert umap_map(dataset).data[0].selectedpoints is None
    assert list(umap_map(dataset, selected=np.array([], int)).data[0].selectedpoints) == []
    assert list(umap_map(dataset, selected=np.array([3, 1])).data[0].selectedpoints) == [1, 3]


def test_no_path_leaves_the_machine_in_a_map(dataset: EmbeddedDataset) -> None:
    for color_by in ("uncertainty", "label", "width"):
        texts = list(strings(json.loads(umap_map(dataset, color_by=color_by).to_json())))
        assert not any(".png" in text or dataset.source.name in text for text in texts if text != dataset.version)


def test_uncertainty_is_a_percentile_on_a_scale_in_words(dataset: EmbeddedDataset) -> None:
    marker = umap_map(dataset).data[0].marker
    assert (marker.cmin, marker.cmax) == (0, 100)
    assert marker.colorbar.ticktext == ("certain", "typical", "uncertain")
    assert len(umap_map(dataset).data) == 1


def test_labels_have_a_colour_each(dataset: EmbeddedDataset) -> None:
    figure = umap_map(dataset, color_by="label")
    names = legend(figure)
    assert set(names) == {"cat", "dog", "owl"}
    assert len(set(names.values())) == 3
    assert list(figure.data[0].marker.color) == [names[label] for label in dataset.labels]
    data_trace(figure)


@pytest.mark.parametrize(
    "values",
    [
        [0.5 * i for i in range(12)],
        list(range(12)),
        [1.5, None, *range(10)],
        [None] * 11 + [2.0],
        [1e300, -1e300, float("inf"), *range(9)],
    ],
)
def test_numbers_are_a_scale(dataset: EmbeddedDataset, values: list[Any]) -> None:
    figure = umap_map(with_column(dataset, values), color_by="column")
    assert len(figure.data) == 1
    marker = figure.data[0].marker
    assert marker.colorbar.title.text == "column"
    assert marker.color.dtype == np.float32
    assert len(marker.color) == 12
    json.loads(figure.to_json(), parse_constant=pytest.fail)  # NaN and Infinity are no JSON


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a"] * 7 + ["b"] * 4 + [None], ["a", "b", "(none)"]),
        ([True] * 7 + [False] * 5, ["True", "False"]),
        ([True] * 7 + [False] * 4 + [None], ["True", "False", "(none)"]),
        ([None] * 12, ["(none)"]),
        ([float("nan")] * 4 + ["1", "1", "1", "2", "2", "7", "7", "7"], ["1", "7", "2", "(none)"]),
    ],
)
def test_words_and_booleans_are_a_legend_with_the_most_frequent_first(
    dataset: EmbeddedDataset, values: list[Any], expected: list[str]
) -> None:
    figure = umap_map(with_column(dataset, values), color_by="column")
    assert list(legend(figure)) == expected
    assert len(figure.data[0].marker.color) == 12


def test_a_label_keeps_its_colour_when_others_are_filtered_out(dataset: EmbeddedDataset) -> None:
    names = legend(umap_map(dataset, color_by="label"))
    rows = np.flatnonzero(dataset.labels == "owl")
    figure = umap_map(dataset, color_by="label", rows=rows)
    assert list(figure.data[0].marker.color) == [names["owl"]] * len(rows)


def test_more_labels_than_colours_share_one_grey(tmp_path: Path) -> None:
    write_pictures(tmp_path / "many", [f"label{n:02d}/{i}.png" for n in range(28) for i in range(1 + (n < 5))])
    dataset = embed(tmp_path / "many", model=FakeEncoder(), workers=0)
    figure = umap_map(dataset, color_by="label")
    names = legend(figure)
    assert len(names) == len(COLORS)
    assert {f"label{n:02d}" for n in range(5)} <= set(names)
    assert names["9 others"] == OTHER
    assert list(figure.data[0].marker.color).count(OTHER) == 9


def test_labels_are_shown_as_they_are_written(tmp_path: Path) -> None:
    nasty = "<a href='javascript:alert(1)'>x"
    long = "&" * 80
    write_pictures(tmp_path / "odd", [f"{number}.png" for number in range(4)])
    rows = "".join(f'{n}.png,"{nasty if n % 2 else long}",{n}\n' for n in range(4))
    (tmp_path / "odd" / "labels.csv").write_text("path,label,<b>size</b>\n" + rows)
    dataset = embed(tmp_path / "odd", model=FakeEncoder(), workers=0)
    figure = umap_map(dataset, color_by="label")
    assert not any("<a" in text for text in strings(json.loads(figure.to_json())))
    assert figure.data[0].text[1].startswith("&lt;a href='javascript:alert(1)'&gt;x<br>at least as uncertain as")
    shown = figure.data[0].text[0].split("<br>")[0]
    assert shown == "&amp;" * 60  # cut before it is escaped, so that no half "&am" is left
    assert any(name.startswith("&lt;a href") for name in legend(figure))
    numbers = umap_map(dataset, color_by="<b>size</b>")
    assert numbers.data[0].marker.colorbar.title.text == "&lt;b&gt;size&lt;/b&gt;"


def test_a_map_without_a_head_is_coloured_by_label(photos: Path) -> None:
    dataset = embed(photos, model=FakeEncoder(has_head=False), workers=0)
    figure = umap_map(dataset)
    assert set(legend(figure)) == {"cat", "dog", "owl"}
    assert figure.data[0].text[0] == "cat<br>"
    assert "NaN" not in figure.to_json()


def test_a_map_without_head_and_labels(make_photos: Any) -> None:
    dataset = embed(make_photos(3), model=FakeEncoder(has_head=False), workers=0)
    figure = umap_map(dataset)
    assert list(legend(figure)) == ["(none)"]
    assert figure.data[0].text[0] == "no label"


def test_the_histogram_counts_every_image(dataset: EmbeddedDataset) -> None:
    bar = uncertainty_histogram(dataset, bins=7).data[0]
    assert sum(bar.y) == 12
    assert len(bar.x) == 7
    assert min(bar.marker.color) >= 0
    assert max(bar.marker.color) <= 100


def test_the_histogram_of_equal_uncertainties(dataset: EmbeddedDataset) -> None:
    dataset.__dict__["uncertainty"] = np.full(12, 0.25, np.float32)
    assert sum(uncertainty_histogram(dataset).data[0].y) == 12


def test_risk_coverage_has_three_lines_in_percent(dataset: EmbeddedDataset) -> None:
    figure = risk_coverage_figure(evaluate(dataset))
    names = [trace.name.split(":")[0] for trace in figure.data]
    assert names == ["random", "by uncertainty", "oracle (best possible)"]
    for trace in figure.data:
        assert trace.x[-1] == 100
        assert min(trace.y) >= 0
        assert max(trace.y) <= 100


def test_long_curves_are_thinned_but_keep_their_end() -> None:
    generator = np.random.default_rng(0)
    correct = generator.random(30_000) < 0.7
    curve = risk_coverage(correct, generator.random(30_000))
    evaluation = Evaluation(
        30_000, 2, 0.7, 0.5, 0.5, curve, random_risk_coverage(correct), oracle_risk_coverage(correct)
    )
    figure = risk_coverage_figure(evaluation)
    for trace in figure.data:
        assert len(trace.x) <= 400
        assert trace.x[-1] == 100
    assert figure.data[1].y[-1] == pytest.approx(100 * curve.risk[-1])


def test_kept_figure(dataset: EmbeddedDataset) -> None:
    recalls = {part: recall_by_kept(dataset, part) for part in ("gallery", "queries", "both")}  # type: ignore[arg-type]
    figure = kept_figure(np.array(KEEPS), recalls, marked=0.7)
    assert [trace.name for trace in figure.data] == ["gallery", "queries", "both"]
    assert list(figure.data[0].x) == [100 * keep for keep in KEEPS]
    assert list(figure.data[2].y) == pytest.approx(list(100 * recalls["both"]))
    (line,) = figure.layout.shapes
    assert line.x0 == line.x1 == 70
    assert figure.layout.xaxis.autorange == "reversed"
    assert len(kept_figure(np.array(KEEPS), recalls).layout.shapes) == 0


def test_the_reliability_diagram_shows_both_and_the_diagonal() -> None:
    said = np.linspace(0.05, 0.95, 400)
    wrong = np.random.default_rng(0).random(400) < said
    before, after = reliability(np.sqrt(said), wrong), reliability(said, wrong)
    figure = reliability_figure(before, after)
    diagonal, *lines = figure.data
    assert list(diagonal.x) == list(diagonal.y) == [0, 100]
    assert [line.name for line in lines] == [f"percentile of u: {before.ece:.3f}", f"risk: {after.ece:.3f}"]
    for line, found in zip(lines, (before, after), strict=True):
        assert line.x == pytest.approx(100 * found.said)
        assert line.y == pytest.approx(100 * found.came)
        assert list(line.customdata) == found.counts.tolist()
