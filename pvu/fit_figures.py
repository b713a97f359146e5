"""Figures of a head that is being fitted, or was: the loss over the steps, and what it is compared with."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from pvu.bootstrap import Estimate
from pvu.fitting import HEAD, NAMES

_DARK, _GREY, _AMBER = "#00204D", "#8A8F98", "#C9A400"


def curve_figure(curve: tuple[float, ...], steps: int, *, height: int = 260) -> go.Figure:
    """The ranking loss over the steps.

    Args:
        curve: means of the loss over equally many steps each, from the first on.
        steps: that there are in all; the axis is as wide from the beginning.
        height: pixels.
    """
    width = math.ceil(steps / 100) if steps else 1
    figure = go.Figure(
        go.Scatter(
            x=(np.arange(len(curve)) + 1) * width,
            y=list(curve),
            mode="lines",
            line={"color": _DARK, "width": 2.5},
            hovertemplate="step %{x}: %{y:.4f}<extra></extra>",
        )
    )
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        plot_bgcolor="white",
        xaxis={"title": "step", "range": [0, max(steps, 1)], "showgrid": False, "zeroline": False},
        yaxis={"title": "ranking loss", "gridcolor": "#ECEEF1", "rangemode": "tozero", "zeroline": False},
    )
    return figure


def scores_figure(scores: dict[str, Estimate], *, height: int = 300) -> go.Figure:
    """R-AUROC of the head and of what it is compared with: a dot each, with its 95 % interval.

    Args:
        scores: by keys of ``pvu.fitting.NAMES``; those that are not defined are left out.
        height: pixels.
    """
    known = [name for name in NAMES if name in scores and not math.isnan(scores[name].value)]
    figure = go.Figure()
    for name in known:
        score = scores[name]
        interval = f"95 % interval {score.low:.3f} to {score.high:.3f}"
        color = _DARK if name == HEAD else _AMBER if name == "present" else _GREY
        figure.add_scatter(
            x=[score.value],
            y=[NAMES[name]],
            mode="markers",
            marker={"color": color, "size": 14 if name == HEAD else 10, "symbol": "circle"},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [score.high - score.value],
                "arrayminus": [score.value - score.low],
                "color": color,
                "thickness": 2,
                "width": 5,
            },
            hovertemplate=f"{NAMES[name]}: %{{x:.3f}}, {interval}<extra></extra>",
        )
    figure.add_vline(x=0.5, line={"color": _GREY, "width": 1, "dash": "dot"})
    low = min([scores[name].low for name in known if not math.isnan(scores[name].low)], default=0.5)
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        plot_bgcolor="white",
        showlegend=False,
        xaxis={
            "title": "R-AUROC (0.5 knows nothing, 1 is perfect)",
            "range": [min(low, 0.5) - 0.03, 1],
            "gridcolor": "#ECEEF1",
        },
        yaxis={"autorange": "reversed", "showgrid": False, "ticksuffix": "  "},
    )
    return figure
