"""Plotly figures. They take data sets and results, and know nothing of where they are shown."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from pvu.analysis import Evaluation
from pvu.calibration import Reliability
from pvu.coloring import SCALE, UNCERTAINTY, coloring, map_rows
from pvu.store import EmbeddedDataset

MAP_LIMIT = 50_000
"""Points drawn at the most; above it a random sample, which keeps the density."""


def umap_map(
    dataset: EmbeddedDataset,
    *,
    color_by: str = UNCERTAINTY,
    rows: np.ndarray | None = None,
    selected: np.ndarray | None = None,
    height: int = 620,
) -> go.Figure:
    """The map: one WebGL trace, one point an image, integer rows as custom data.

    Args:
        dataset: any.
        color_by: "uncertainty" (as a percentile), or a column of ``dataset.images``.
        rows: (m,) int, the images to draw; None draws all, or a sample of MAP_LIMIT.
        selected: (s,) int rows to show at full strength while the others fade; None for no selection.
        height: pixels.
    """
    rows = map_rows(len(dataset), MAP_LIMIT) if rows is None else rows.astype(np.int32)
    if color_by == UNCERTAINTY and not dataset.has_uncertainty:
        color_by = "label"
    marker, legend = _colors(dataset, rows, color_by)
    marker["size"] = point_size(len(rows))
    figure = go.Figure()
    figure.add_scattergl(
        x=dataset.coords[rows, 0],
        y=dataset.coords[rows, 1],
        mode="markers",
        marker=marker,
        customdata=rows,
        text=_hover(dataset, rows),
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
        selectedpoints=None if selected is None else np.flatnonzero(np.isin(rows, selected)),
        unselected={"marker": {"opacity": 0.12}},
        selected={"marker": {"opacity": 1}},
    )
    for name, color in legend:
        figure.add_scattergl(
            x=[None], y=[None], mode="markers", name=name, marker={"color": color, "size": 10}, hoverinfo="skip"
        )
    axis = {"visible": False, "showgrid": False, "zeroline": False}
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        xaxis=axis,
        yaxis=axis,
        dragmode="lasso",
        hovermode="closest",
        plot_bgcolor="white",
        legend={"y": 0.94, "itemclick": False, "itemdoubleclick": False, "itemsizing": "constant"},
        uirevision=dataset.version,
    )
    return figure


def point_size(count: int) -> float:
    """Of a map's points, pixels: smaller the more there are."""
    return float(np.clip(60 / np.sqrt(max(count, 1)) + 3, 3.5, 10))


def _hover(dataset: EmbeddedDataset, rows: np.ndarray) -> list[str]:
    labels = dataset.labels[rows]
    names = ["" if label is None else f"{escaped(str(label))}<br>" for label in labels]
    if not dataset.has_uncertainty:
        return [name or "no label" for name in names]
    percentiles = dataset.percentiles[rows]
    return [f"{name}at least as uncertain as {p:.0f} %" for name, p in zip(names, percentiles, strict=True)]


def escaped(text: str, length: int = 60) -> str:
    """As it is written, cut to a length: Plotly takes some HTML in hover texts, legends and titles."""
    return text[:length].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _colors(
    dataset: EmbeddedDataset, rows: np.ndarray, color_by: str
) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """Marker settings, and the legend's entries for a column of words."""
    made = coloring(dataset, color_by)
    values = made.values[rows]
    if made.legend:
        palette = [color for _, color in made.legend]
        return {"color": [palette[int(value)] for value in values]}, [
            (escaped(name, 28), color) for name, color in made.legend
        ]
    if color_by == UNCERTAINTY:
        bar = _bar("uncertainty", [value for value, _ in made.ticks], [word for _, word in made.ticks])
        return {"color": values, "colorscale": SCALE, "cmin": 0, "cmax": 100, "colorbar": bar}, []
    return {"color": values, "colorscale": SCALE, "colorbar": _bar(escaped(color_by, 28), None, None)}, []


def _bar(title: str, values: list[float] | None, words: list[str] | None) -> dict[str, object]:
    return {"title": title, "tickvals": values, "ticktext": words, "thickness": 12, "len": 0.6, "outlinewidth": 0}


def uncertainty_histogram(dataset: EmbeddedDataset, *, bins: int = 50, height: int = 260) -> go.Figure:
    """How u is spread over the data set, each bar in its colour on the map."""
    counts, edges = np.histogram(dataset.uncertainty, bins=bins)
    middle = (edges[:-1] + edges[1:]) / 2
    share = dataset.percentile(middle)
    figure = go.Figure(
        go.Bar(
            x=middle,
            y=counts,
            width=np.diff(edges),
            marker={"color": share, "colorscale": SCALE, "cmin": 0, "cmax": 100, "line_width": 0},
            customdata=share,
            hovertemplate="u = %{x:.3f}: %{y} images<br>%{customdata:.0f} % are at most as uncertain<extra></extra>",
        )
    )
    return plain_axes(figure, "uncertainty u (its scale has no unit)", "images", height)


def risk_coverage_figure(evaluation: Evaluation, *, height: int = 380) -> go.Figure:
    """Risk against coverage: by uncertainty, between the random and the oracle curve."""
    figure = go.Figure()
    lines = (
        ("random", evaluation.random, "#8A8F98", "dot"),
        ("by uncertainty", evaluation.curve, "#00204D", "solid"),
        ("oracle (best possible)", evaluation.oracle, "#C9A400", "dash"),
    )
    for name, curve, color, dash in lines:
        keep = _thin(len(curve.coverage))
        figure.add_scatter(
            x=100 * curve.coverage[keep],
            y=100 * curve.risk[keep],
            name=f"{name}: {curve.aurc:.3f}",
            mode="lines",
            line={"color": color, "dash": dash, "width": 2.5},
            hovertemplate="%{x:.0f} % kept: %{y:.1f} % wrong<extra>" + name + "</extra>",
        )
    plain_axes(figure, "queries kept, most certain first (%)", "wrong nearest neighbour (%)", height)
    figure.update_layout(legend={"title": "AURC", **LEGEND_ABOVE})
    return figure


def kept_figure(
    keeps: np.ndarray, recalls: dict[str, np.ndarray], *, marked: float | None = None, height: int = 340
) -> go.Figure:
    """Recall@1 against the share kept, a line for each of gallery, queries and both."""
    styles = {"gallery": ("#0072B2", "dash"), "queries": ("#C9A400", "dot"), "both": ("#00204D", "solid")}
    figure = go.Figure()
    for name, values in recalls.items():
        color, dash = styles[name]
        figure.add_scatter(
            x=100 * np.asarray(keeps),
            y=100 * values,
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 2.5},
            hovertemplate="%{x:.0f} % kept: Recall@1 %{y:.1f} %<extra>" + name + "</extra>",
        )
    if marked is not None:
        figure.add_vline(x=100 * marked, line={"color": "#8A8F98", "width": 1, "dash": "dot"})
    plain_axes(figure, "most certain images kept (%)", "Recall@1 (%)", height)
    figure.update_layout(
        legend={"title": "filtered", **LEGEND_ABOVE}, xaxis={"autorange": "reversed"}, yaxis={"rangemode": "normal"}
    )
    return figure


def reliability_figure(before: Reliability, after: Reliability, *, height: int = 380) -> go.Figure:
    """What was said against what came, before and after calibration; on the diagonal both are the same."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line={"color": "#8A8F98", "dash": "dot", "width": 1.5}, showlegend=False,
        hoverinfo="skip",
    )  # fmt: skip
    lines = (("percentile of u", before, "#C9A400", "dash"), ("risk", after, "#00204D", "solid"))
    for name, found, color, dash in lines:
        figure.add_scatter(
            x=100 * found.said,
            y=100 * found.came,
            customdata=found.counts,
            name=f"{name}: {found.ece:.3f}",
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 2.5},
            hovertemplate="said %{x:.0f} %: %{y:.0f} % of %{customdata:,} were wrong<extra>" + name + "</extra>",
        )
    plain_axes(figure, "said to be wrong (%)", "wrong nearest neighbour (%)", height)
    figure.update_layout(legend={"title": "ECE", **LEGEND_ABOVE}, xaxis={"range": [-2, 102]})
    return figure


# Over the plot, where no line can run behind it.
LEGEND_ABOVE = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def _thin(count: int, points: int = 400) -> np.ndarray:
    """Places on a curve that the eye needs: not every one, and not the first percent, where a few images decide."""
    return np.unique(np.linspace(count // 100, count - 1, min(count, points)).astype(int))


def plain_axes(figure: go.Figure, x: str, y: str, height: int) -> go.Figure:
    """The look of all curves and bars; ``x`` and ``y`` are the axes' titles."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 16, "b": 8},
        plot_bgcolor="white",
        bargap=0,
        xaxis={"title": x, "showgrid": False, "zeroline": False},
        yaxis={"title": y, "gridcolor": "#ECEEF1", "zeroline": False, "rangemode": "tozero"},
    )
    return figure
