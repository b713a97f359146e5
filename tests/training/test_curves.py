from __future__ import annotations

from xml.etree import ElementTree

import pytest

from training.experiments.curves import line_charts

SVG = "{http://www.w3.org/2000/svg}"


def lines_of(chart: str) -> list[list[tuple[float, float]]]:
    found = ElementTree.fromstring(chart).iter(f"{SVG}polyline")  # noqa: S314 (our own text)
    return [[tuple(map(float, p.split(","))) for p in line.attrib["points"].split()] for line in found]  # type: ignore[misc]


def test_lines_are_means_in_a_common_scale() -> None:
    chart = line_charts({"accuracy": {"a": [[0.0, 1.0], [0.0, 0.5]], "b": [[1.0, 1.0]]}}, x_title="epoch")
    a, b = lines_of(chart)
    assert a[0][0] == b[0][0] < a[1][0] == b[1][0]
    bottom, top = a[0][1], b[0][1]
    assert top < bottom, "SVG counts downwards"
    assert a[1][1] == pytest.approx(bottom + 0.75 * (top - bottom), abs=0.1)


def test_names_are_written_and_escaped() -> None:
    chart = line_charts({"a < b": {"x & y": [[1.0, 1.0]]}, "second": {"z": [[2.0, 3.0]]}}, x_title="epoch")
    texts = [element.text for element in ElementTree.fromstring(chart).iter(f"{SVG}text")]  # noqa: S314
    assert {"a < b", "x & y", "second", "z", "epoch"} <= set(texts)
    assert len(lines_of(chart)) == 2
