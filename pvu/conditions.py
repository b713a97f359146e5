"""Conditions on the columns of a data set's table: which images a search may find at all."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from pvu.errors import QueryError
from pvu.store import EmbeddedDataset

Kind = Literal["range", "values", "text"]
FEW = 500
"""Up to so many different words a column is filtered by choosing among them, above it by a text that it holds."""


@dataclass(frozen=True)
class Condition:
    """What one column must be; of the three, the one that goes with the column's kind.

    Args:
        column: its name.
        values: any of these words; None among them stands for nothing.
        text: a text that it holds, in upper or lower case.
        low: the smallest number.
        high: the largest number.
    """

    column: str
    values: tuple[str | None, ...] | None = None
    text: str | None = None
    low: float = -math.inf
    high: float = math.inf

    def mask(self, dataset: EmbeddedDataset) -> np.ndarray:
        """(N,) bool: the images that meet it. Without a number or a word there is nothing to meet it."""
        column = dataset.images[self.column]
        if self.text is not None:
            held = column.astype("string").str.contains(self.text, case=False, regex=False)
            return held.fillna(False).to_numpy(bool)
        if self.values is not None:
            found = column.astype("string").isin([value for value in self.values if value is not None])
            return (found | (column.isna() if None in self.values else False)).to_numpy(bool)
        numbers = column.to_numpy(np.float64, na_value=np.nan)
        return np.asarray((numbers >= self.low) & (numbers <= self.high))


def filter_columns(dataset: EmbeddedDataset) -> list[str]:
    """The columns that conditions can be about: label and path, what the user's table holds, the picture's size."""
    first = ["label"] if dataset.has_labels else []
    return list(dict.fromkeys([*first, "path", *dataset.metadata_columns, "width", "height"]))


def column_kind(dataset: EmbeddedDataset, column: str) -> Kind:
    """How a column is filtered: numbers by a range, few different words by choosing, other words by a text in them."""
    values = dataset.images[column]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return "range"
    return "text" if column == "path" or values.astype("string").nunique() > FEW else "values"


def column_values(dataset: EmbeddedDataset, column: str) -> list[str | None]:
    """The different words of a column, sorted; None last, where an image has none."""
    values = dataset.images[column]
    words: list[str | None] = sorted(values.dropna().astype("string").unique().tolist())
    return [*words, None] if values.isna().any() else words


def meets_all(dataset: EmbeddedDataset, conditions: tuple[Condition, ...]) -> np.ndarray | None:
    """(N,) bool: the images that meet every condition; None where there is none."""
    masks = [condition.mask(dataset) for condition in conditions]
    return np.logical_and.reduce(masks) if masks else None


def to_json(conditions: tuple[Condition, ...]) -> str:
    """Conditions as one short line: ``{"label": ["cat"], "width": [100, null], "path": "2021"}``."""
    return json.dumps({each.column: _plain(each) for each in conditions}, ensure_ascii=False, separators=(",", ":"))


def _plain(condition: Condition) -> Any:
    if condition.text is not None:
        return condition.text
    if condition.values is not None:
        return list(condition.values)
    return [value if math.isfinite(value) else None for value in (condition.low, condition.high)]


def from_json(dataset: EmbeddedDataset, text: str) -> tuple[Condition, ...]:
    """The conditions that :func:`to_json` wrote.

    Raises:
        QueryError: if they cannot be read, or a column is not in this data set or of another kind.
    """
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise QueryError("The filter in this link cannot be read. Choose it again.")
    known = filter_columns(dataset)
    for column in said:
        if column not in known:
            raise QueryError(f"The link filters by {column[:60]}, but {dataset.name} has no such column.")
    return tuple(_condition(dataset, column, value) for column, value in said.items())


def _condition(dataset: EmbeddedDataset, column: str, value: Any) -> Condition:
    kind = column_kind(dataset, column)
    if kind == "text" and isinstance(value, str):
        return Condition(column, text=value)
    if kind == "values" and isinstance(value, list) and all(word is None or isinstance(word, str) for word in value):
        known = column_values(dataset, column)
        gone = [str(word) for word in value if word not in known]
        if gone:
            raise QueryError(
                f"The link filters by {column[:60]} = {gone[0][:60]}, which no image of {dataset.name} has."
            )
        return Condition(column, values=tuple(value))
    if kind == "range" and isinstance(value, list) and len(value) == 2 and all(map(_is_number_or_none, value)):
        low, high = value
        return Condition(column, low=-math.inf if low is None else low, high=math.inf if high is None else high)
    raise QueryError(f"The link's filter by {column[:60]} is not one of its kind ({kind}). Choose it again.")


def _is_number_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))
