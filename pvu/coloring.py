"""What the map's points are coloured by: numbers on a scale, or words with a legend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pvu.duplicates import duplicates
from pvu.store import EmbeddedDataset
from pvu.tags import Tags

SCALE = "Cividis"  # readable with every kind of colour vision, and in grey
# Okabe and Ito's colours, which stay apart for colour-blind people; their darker shades; then muted ones of Paul Tol's.
COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9",
    "#8A7500", "#003F63", "#8C3D00", "#00573F", "#7A4565", "#3F6F8A",
    "#332288", "#44AA99", "#999933", "#CC6677", "#882255", "#DDCC77", "#661100", "#6699CC",
)  # fmt: skip
OTHER = "#8E949C"
UNCERTAINTY = "uncertainty"
DRAWN_LIMIT = 300_000
"""Points that the browser draws; of more a random sample, which keeps the density."""
_STEPS = 65_535
NONE = "(none)"


@dataclass(frozen=True)
class Coloring:
    """What to colour by.

    Args:
        name: of the column.
        values: (N,) float32; with a legend the place in it, NaN where there is nothing to show.
        low: the scale's lower end.
        high: the scale's upper end.
        ticks: values on the scale, and what to write there.
        legend: words and their colours, the commonest first; empty for numbers.
    """

    name: str
    values: np.ndarray
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()
    legend: tuple[tuple[str, str], ...] = ()


def drawn_count(count: int) -> int:
    """How many of ``count`` points the browser draws."""
    return min(count, DRAWN_LIMIT)


def map_rows(count: int, limit: int | None = None) -> np.ndarray:
    """The rows to draw of ``count`` images: all, or a reproducible random sample of ``limit`` (else DRAWN_LIMIT).

    Returns:
        (min(count, limit),) int32, sorted.
    """
    limit = drawn_count(count) if limit is None else limit
    if count <= limit:
        return np.arange(count, dtype=np.int32)
    return np.sort(np.random.default_rng(0).choice(count, limit, replace=False)).astype(np.int32)


def grid(coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places on the map in 16-bit steps of its extent: half of float32, and a sixtieth of a pixel of the whole map.

    Args:
        coords: (n, 2) float.

    Returns:
        steps: (n, 2) uint16.
        frame: (2, 2) float64; ``frame[0] + steps * frame[1]`` is the place again, to half a step.
    """
    low = coords.min(axis=0, initial=np.inf).astype(np.float64)
    low[~np.isfinite(low)] = 0.0
    span = coords.max(axis=0, initial=-np.inf).astype(np.float64) - low
    size = np.where(np.isfinite(span) & (span > 0), span, 1.0) / _STEPS
    return np.rint((coords - low) / size).astype(np.uint16), np.stack([low, size])


def percentile_steps(dataset: EmbeddedDataset) -> np.ndarray:
    """(N,) float32: the percentiles in half steps. The scale has 256 colours; rounded ones are packed four times as
    small."""
    return np.asarray(np.rint(2 * dataset.percentiles) / 2, dtype=np.float32)


def color_choices(dataset: EmbeddedDataset) -> list[str]:
    """What a data set's map can be coloured by, the most telling first."""
    choices = [UNCERTAINTY] if dataset.has_uncertainty else []
    choices += ["label"] if dataset.has_labels else []
    taken = {*_MADE, "label", UNCERTAINTY}
    return [*choices, *_MADE, *(name for name in dataset.metadata_columns if name not in taken), "width", "height"]


def coloring(dataset: EmbeddedDataset, name: str) -> Coloring:
    """The colours of every image by one of :func:`color_choices`.

    Raises:
        KeyError: if there is no such column.
    """
    if name == UNCERTAINTY:
        ticks = ((0.0, "certain"), (50.0, "typical"), (100.0, "uncertain"))
        return Coloring(name, percentile_steps(dataset), 0.0, 100.0, ticks)
    column = _MADE[name](dataset) if name in _MADE else dataset.images[name]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return _numbers(name, column)
    return _words(name, column)


def _numbers(name: str, column: pd.Series) -> Coloring:
    with np.errstate(over="ignore"):  # beyond float32 is off the scale, whatever its value
        values = column.to_numpy(np.float32, na_value=np.nan)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    ticks = tuple((float(value), f"{value:,.4g}") for value in np.linspace(low, high, 3)) if high > low else ()
    return Coloring(name, values, low, high if high > low else low + 1, ticks)


def _words(name: str, column: pd.Series) -> Coloring:
    names = column.astype(object).where(column.notna(), NONE).astype(str)
    # Ranked over all images, drawn or not: a filter must not give a label another colour.
    counts = names.value_counts(sort=False)
    ranked = [str(word) for word in counts.sort_values(ascending=False, kind="stable").index]
    named = [word for word in ranked if word != NONE]
    shown = named if len(named) <= len(COLORS) else named[: len(COLORS) - 1]
    legend = list(zip(shown, COLORS, strict=False))
    rest = len(named) - len(shown)
    if rest:
        legend.append((f"{rest:,} others", OTHER))
    if NONE in ranked:
        legend.append((NONE, OTHER))
    place = {word: number for number, word in enumerate(shown)}
    codes = names.map(place).to_numpy(np.float32, na_value=np.nan)
    codes[np.isnan(codes)] = len(shown)
    if rest and NONE in ranked:
        codes[(names == NONE).to_numpy()] = len(shown) + 1
    return Coloring(name, codes, 0.0, max(len(legend) - 1.0, 1.0), legend=tuple(legend))


def _clusters(dataset: EmbeddedDataset) -> pd.Series:
    clusters = dataset.clusters
    names = clusters.table["name"].astype(str)
    # Two groups may have the same commonest label.
    alike = names.duplicated(keep=False)
    names = names.where(~alike, names + " (" + (clusters.table["cluster"] + 1).astype(str) + ")")
    return pd.Series(clusters.assignment).map(dict(zip(clusters.table["cluster"], names, strict=True)))


def _duplicates(dataset: EmbeddedDataset) -> pd.Series:
    found = duplicates(dataset)
    groups = pd.Series(None, index=range(len(dataset)), dtype=object)
    groups.iloc[found.rows] = [f"group {number + 1:,}" for number in found.group]
    return groups


def _tags(dataset: EmbeddedDataset) -> pd.Series:
    return pd.Series(Tags.of(dataset).values.tag, dtype=object)


# Columns that pvu makes, by name.
_MADE: dict[str, Callable[[EmbeddedDataset], pd.Series]] = {
    "cluster": _clusters,
    "duplicates": _duplicates,
    "tag": _tags,
}
