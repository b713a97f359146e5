"""The two columns of the retrieval page: what the filter removed on the left, what it brought in on the right."""

from __future__ import annotations

import pandas as pd

from pvu.ui.gallery import Card


def comparison_cards(
    everything: pd.DataFrame, filtered: pd.DataFrame, *, limit: float | None, label: str | None
) -> tuple[list[Card], list[Card]]:
    """Cards for both columns, marked where they differ.

    Args:
        everything: results over all images, as ``EmbeddedDataset.search`` gives them.
        filtered: results over the certain images.
        limit: the largest uncertainty that the filter lets through; None if there is no filter.
        label: the query's label, or None.
    """
    before = set(everything["row"])
    left = [
        _card(result, label, "too uncertain", "removed")
        if limit is not None and result.uncertainty > limit
        else _card(result, label)
        for result in everything.itertuples()
    ]
    right = [
        _card(result, label, "moved up", "added") if result.row not in before else _card(result, label)
        for result in filtered.itertuples()
    ]
    return left, right


def precision(results: pd.DataFrame, label: str | None) -> float | None:
    """The share of results that have a label; None without a label or results."""
    if label is None or results.empty:
        return None
    return float((results["label"] == label).mean())


def _card(result: object, label: str | None, mark: str = "", tone: str = "") -> Card:
    own = result.label  # type: ignore[attr-defined]
    same = None if label is None or pd.isna(own) else bool(own == label)  # pandas makes NaN of None
    return Card(int(result.row), float(result.similarity), mark, tone, same)  # type: ignore[attr-defined]
