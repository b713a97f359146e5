"""Figures of two data sets: their distributions over each other, and both on one map."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from pvu.coloring import COLORS, map_rows
from pvu.figures import LEGEND_ABOVE, escaped, plain_axes, point_size
from pvu.shift import FAR, Shift, TwoSamples
from pvu.store import EmbeddedDataset

A_COLOR, B_COLOR = COLORS[0], COLORS[1]  # blue and orange: apart for every kind of colour vision, and in grey
_BINS = 40
LIMIT = 15_000
"""Points drawn of each set: their labels go along as text, which is what takes time."""


def percentile_figure(found: TwoSamples, names: tuple[str, str], *, height: int = 300) -> go.Figure:
    """How uncertain both sets are, in percentiles of A: A's own bars are all as high, by definition."""
    figure = _overlaid(found, names, np.linspace(0, 100, 21), "%{x:.0f}. percentile: %{y:.1f} %")
    plain_axes(figure, f"percentile of uncertainty in {escaped(names[0], 40)}", "share of the set (%)", height)
    return _laid_over(figure)


def similarity_figure(found: TwoSamples, names: tuple[str, str], *, height: int = 300) -> go.Figure:
    """How near the images of both sets are to A, and where "far" begins."""
    low = float(min(found.a.min(), found.b.min()))
    high = max(float(max(found.a.max(), found.b.max())), low + 1e-6)
    figure = _overlaid(found, names, np.linspace(low, high, _BINS + 1), "similarity %{x:.2f}: %{y:.1f} %")
    limit = float(np.percentile(found.a, 100 - FAR))
    figure.add_vline(
        x=limit, line={"color": "#5A6575", "width": 1, "dash": "dot"}, annotation_text="far", annotation_position="left"
    )
    title = f"similarity to the nearest image of {escaped(names[0], 40)}"
    return _laid_over(plain_axes(figure, title, "share of the set (%)", height))


def _overlaid(found: TwoSamples, names: tuple[str, str], edges: np.ndarray, hover: str) -> go.Figure:
    """Two histograms, each as shares of its own set, so that sets of any size can be compared."""
    figure = go.Figure()
    for values, name, color in zip((found.a, found.b), names, (A_COLOR, B_COLOR), strict=True):
        counts, _ = np.histogram(values, bins=edges)
        title = escaped(name, 40)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=100 * counts / max(len(values), 1),
            width=np.diff(edges),
            name=title,
            marker={"color": color, "opacity": 0.6, "line": {"color": color, "width": 1}},
            hovertemplate=f"{hover}<extra>{title}</extra>",
        )
    return figure


def _laid_over(figure: go.Figure) -> go.Figure:
    return figure.update_layout(barmode="overlay", legend=LEGEND_ABOVE)


def two_map(
    a: EmbeddedDataset, b: EmbeddedDataset, shift: Shift, *, limit: int = LIMIT, height: int = 560
) -> go.Figure:
    """Both sets on A's map, a WebGL trace each, B on top; crosses where it is far from A.

    Args:
        a: the set whose map it is.
        b: the other one.
        shift: what was found out about them.
        limit: points drawn of each set at the most; of more a random sample, which keeps the density.
        height: pixels.
    """
    figure = go.Figure()
    symbols = np.where(shift.far, "x", "diamond")
    sets = (
        (a, a.coords, A_COLOR, 0.35, np.full(len(a), "circle")),
        (b, shift.coords, B_COLOR, 0.8, symbols),
    )
    for dataset, places, color, opacity, kinds in sets:
        rows = map_rows(len(places), limit)
        title = escaped(dataset.name, 40)
        figure.add_scattergl(
            x=places[rows, 0],
            y=places[rows, 1],
            mode="markers",
            name=f"{title} ({len(dataset):,})",
            marker={
                "color": color,
                "size": point_size(len(rows)) + (dataset is b),
                "opacity": opacity,
                "symbol": kinds[rows],
            },
            customdata=rows,
            text=_labels(dataset, rows),
            hovertemplate="%{text}<extra>" + title + "</extra>",
        )
    axis = {"visible": False, "showgrid": False, "zeroline": False}
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        xaxis=axis,
        yaxis={**axis, "scaleanchor": "x"},
        dragmode="pan",
        hovermode="closest",
        plot_bgcolor="white",
        legend={**LEGEND_ABOVE, "itemsizing": "constant"},
        uirevision=f"{a.version} {b.version}",
    )
    return figure


def _labels(dataset: EmbeddedDataset, rows: np.ndarray) -> list[str]:
    """What to say of each point: its label, else its path."""
    paths = dataset.images["path"].to_numpy()
    return [
        escaped(str(paths[row] if label is None else label))
        for row, label in zip(rows, dataset.labels[rows], strict=True)
    ]
