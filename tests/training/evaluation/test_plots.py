from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reports import report, some

from training.evaluation.plots import r_auroc_bars, risk_coverage_lines, write_page


def test_bars_are_the_numbers_with_their_intervals() -> None:
    found = some()
    figure = r_auroc_bars([report("m", birds=found)])
    (bar,) = [trace for trace in figure.data if trace.name == "u"]
    estimate = found.uncertainties["u"].r_auroc
    assert list(bar.x) == ["birds"]
    top = bar.base + bar.y[0]
    assert top == pytest.approx(estimate.value)
    assert top + bar.error_y.array[0] == pytest.approx(estimate.high)
    assert top - bar.error_y.arrayminus[0] == pytest.approx(estimate.low)


def test_lines_end_at_the_whole_error_and_leave_out_what_is_missing() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(300) < 0.6
    scores = {"u": rng.random(300), "missing": np.full(300, np.nan)}
    figure = risk_coverage_lines("birds", correct, scores)
    names = [trace.name.split(":")[0] for trace in figure.data]
    assert names == ["u", "no information", "oracle"]
    for trace in figure.data:
        assert (trace.x[-1], trace.y[-1]) == (100, pytest.approx(100 * (~correct).mean()))


def test_the_page_is_one_file_with_its_own_script(tmp_path: Path) -> None:
    figures = [r_auroc_bars([report("m", birds=some())]), risk_coverage_lines("b", np.array([True, False]), {})]
    write_page(tmp_path / "new" / "figures.html", figures)
    page = (tmp_path / "new" / "figures.html").read_text(encoding="utf-8")
    assert page.count("Plotly.newPlot(") >= 2
    assert "<script src" not in page
    assert len(page) > 1_000_000  # plotly.js is inside
