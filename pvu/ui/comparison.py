"""The two columns of the retrieval page: what the filter removed on the left, what it brought in on the right."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pvu.risk import Risk
from pvu.store import EmbeddedDataset
from pvu.ui.gallery import Card


def comparison_cards(
    everything: pd.DataFrame,
    filtered: pd.DataFrame,
    *,
    kept: np.ndarray | None,
    label: str | None,
    mark: str = "too uncertain",
    page: slice = slice(None),
) -> tuple[list[Card], list[Card]]:
    """Cards of one page of both columns, marked where they differ.

    Args:
        everything: results over all images, as ``EmbeddedDataset.search`` gives them.
        filtered: results over those that the filter lets through.
        kept: (N,) bool, which those are; None if there is no filter.
        label: the query's label, or None.
        mark: what is said over the others on the left.
        page: the ranks that are shown. An image on the right has moved up if the left has not shown it by then.
    """
    before = set(everything["row"][: page.stop])
    left = [
        _card(result, label, mark, "removed") if kept is not None and not kept[result.row] else _card(result, label)
        for result in everything[page].itertuples()
    ]
    right = [
        _card(result, label, "moved up", "added") if result.row not in before else _card(result, label)
        for result in filtered[page].itertuples()
    ]
    return left, right


def precision(results: pd.DataFrame, label: str | None) -> float | None:
    """The share of results that have a label; None without a label or results."""
    if label is None or results.empty:
        return None
    return float((results["label"] == label).mean())


def results_table(dataset: EmbeddedDataset, results: pd.DataFrame, risk: Risk | None) -> pd.DataFrame:
    """Results as a list to take away, a row an image, most similar first.

    Args:
        dataset: the one that was searched.
        results: as ``EmbeddedDataset.search`` gives them.
        risk: None where there is none.

    Returns:
        ``rank, path, label, similarity, uncertainty, percentile, risk`` and the columns of the user's table; paths are
        those of the original files; what is unknown is NaN.
    """
    rows = results["row"].to_numpy()
    unknown = np.full(len(rows), np.nan, np.float32)
    table = pd.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "path": [str(dataset.source / path) for path in results["path"]],
            "label": results["label"].to_numpy(),
            "similarity": results["similarity"].to_numpy(),
            "uncertainty": results["uncertainty"].to_numpy(),
            "percentile": dataset.percentiles[rows] if dataset.has_uncertainty else unknown,
            "risk": unknown if risk is None else risk.values[rows],
        }
    )
    extra = dataset.images.loc[rows, dataset.metadata_columns].reset_index(drop=True)
    return table.join(extra.rename(columns={name: f"{name} (table)" for name in extra if name in table}))


def _card(result: object, label: str | None, mark: str = "", tone: str = "") -> Card:
    own = result.label  # type: ignore[attr-defined]
    same = None if label is None or pd.isna(own) else bool(own == label)  # pandas makes NaN of None
    return Card(int(result.row), float(result.similarity), mark, tone, same)  # type: ignore[attr-defined]
