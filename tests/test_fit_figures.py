"""Figures of a fit say what the numbers say."""

from __future__ import annotations

import math

import pytest

from pvu.bootstrap import Estimate
from pvu.fit_figures import curve_figure, scores_figure
from pvu.fitting import NAMES

NAN = float("nan")


def test_the_curve_stands_at_its_steps_and_the_axis_is_as_wide_from_the_beginning() -> None:
    figure = curve_figure((0.1, 0.05, 0.02), 1000)
    (line,) = figure.data
    assert list(line.x) == [10, 20, 30]  # a thousand steps in a hundred means
    assert list(line.y) == [0.1, 0.05, 0.02]
    assert tuple(figure.layout.xaxis.range) == (0, 1000)
    assert list(curve_figure((0.1, 0.05), 60).data[0].x) == [1, 2]


def test_nothing_is_drawn_of_a_curve_that_has_not_begun() -> None:
    assert len(curve_figure((), 0).data[0].x) == 0


def test_each_score_is_a_dot_with_its_interval_in_the_order_of_the_names() -> None:
    scores = {"random": Estimate(0.5, 0.5, 0.5), "head": Estimate(0.7, 0.6, 0.75), "norm": Estimate(0.4, 0.3, 0.5)}
    figure = scores_figure(scores)
    assert [trace.y[0] for trace in figure.data] == [NAMES["head"], NAMES["norm"], NAMES["random"]]
    head = figure.data[0]
    assert head.x[0] == 0.7
    assert head.error_x.array[0] == pytest.approx(0.05)
    assert head.error_x.arrayminus[0] == pytest.approx(0.1)
    low, high = figure.layout.xaxis.range
    assert low < 0.3
    assert high == 1
    assert head.marker.color != figure.data[1].marker.color


def test_what_is_not_defined_is_left_out() -> None:
    figure = scores_figure({"head": Estimate(NAN), "entropy": Estimate(0.6), "random": Estimate(0.5, 0.5, 0.5)})
    assert [trace.y[0] for trace in figure.data] == [NAMES["entropy"], NAMES["random"]]
    assert not math.isnan(figure.layout.xaxis.range[0])
