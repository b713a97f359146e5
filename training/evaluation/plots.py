"""The results as one self-contained HTML page: R-AUROC with intervals, and a risk-coverage plot a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio

from pvu.coloring import COLORS
from pvu.metrics import oracle_risk_coverage, random_risk_coverage, risk_coverage
from training.evaluation.results import ModelReport, ordered_names

_HEAD = '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Evaluation</title></head>\n<body>\n'
_POINTS = 400  # that the eye needs of a curve


def r_auroc_bars(models: Sequence[ModelReport]) -> go.Figure:
    """R-AUROC of each uncertainty a set, with bootstrap intervals; bars start at 0.5, which is no information."""
    figure = go.Figure()
    sets = [
        (report, name, f"{name}<br>{report.model}" if len(models) > 1 else name)
        for report in models
        for name in report.sets
    ]
    for number, name in enumerate(ordered_names(models)):
        known = [(title, found) for report, s, title in sets if (found := report.sets[s].uncertainties.get(name))]
        estimates = [found.r_auroc for _, found in known]
        figure.add_bar(
            x=[title for title, _ in known],
            base=0.5,
            y=[one.value - 0.5 for one in estimates],
            customdata=[one.value for one in estimates],
            error_y={
                "array": [one.high - one.value for one in estimates],
                "arrayminus": [one.value - one.low for one in estimates],
                "thickness": 1,
                "width": 2,
            },
            name=name,
            marker={"color": COLORS[number % len(COLORS)]},
            hovertemplate="%{customdata:.3f}<extra>" + name + "</extra>",
        )
    figure.add_hline(y=0.5, line={"color": "#5a6575", "width": 1, "dash": "dot"})
    figure.update_layout(barmode="group", yaxis={"title": "R-AUROC", "gridcolor": "#ECEEF1"})
    return _plain(figure, "R-AUROC, with 95 % bootstrap intervals over queries")


def risk_coverage_lines(title: str, correct: np.ndarray, scores: Mapping[str, np.ndarray]) -> go.Figure:
    """How the error falls as the most uncertain queries are left out, for each uncertainty.

    Args:
        title: of the plot.
        correct: (n,) bool, whether each query's nearest neighbour has its label.
        scores: by name, each (n,) float; those that are not finite are left out.
    """
    curves = {name: risk_coverage(correct, score) for name, score in scores.items() if np.isfinite(score).all()}
    figure = go.Figure()
    dashes = dict.fromkeys(curves, "solid") | {"no information": "dot", "oracle": "dash"}
    curves |= {"no information": random_risk_coverage(correct), "oracle": oracle_risk_coverage(correct)}
    for number, (name, curve) in enumerate(curves.items()):
        shown = np.unique(np.linspace(len(correct) // 100, len(correct) - 1, _POINTS).astype(int))
        figure.add_scatter(
            x=100 * curve.coverage[shown],
            y=100 * curve.risk[shown],
            name=f"{name}: {curve.aurc:.3f}",
            mode="lines",
            line={"color": COLORS[number % len(COLORS)], "dash": dashes[name], "width": 2},
        )
    figure.update_layout(
        legend={"title": "AURC"},
        xaxis={"title": "queries kept, most certain first (%)"},
        yaxis={"title": "wrong nearest neighbour (%)", "gridcolor": "#ECEEF1", "rangemode": "tozero"},
    )
    return _plain(figure, title)


def write_page(path: Path, figures: Sequence[go.Figure]) -> None:
    """Write figures below each other into one HTML file that opens without a network."""
    parts = [
        pio.to_html(figure, full_html=False, include_plotlyjs=number == 0) for number, figure in enumerate(figures)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEAD + "\n".join(parts) + "\n</body>\n</html>\n", encoding="utf-8")


def _plain(figure: go.Figure, title: str) -> go.Figure:
    figure.update_layout(title=title, height=480, plot_bgcolor="white", margin={"l": 8, "r": 8, "t": 48, "b": 8})
    return figure
