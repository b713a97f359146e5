"""What the retrieval page shows, as one value, and as the query parameters of a link that restores it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pvu.conditions import Condition, from_json, to_json
from pvu.errors import QueryError
from pvu.risk import ALPHAS
from pvu.store import EmbeddedDataset

HIDE_BY = ("percentile", "u", "risk")
PARAMS = ("query", "of", "filter", "at", "k", "similarity", "where", "page")
MOST_QUERIES = 50
MOST_HIDDEN = 90
RESULTS = (4, 48)


@dataclass(frozen=True)
class View:
    """The retrieval page's settings.

    Args:
        rows: the images that are searched with; empty for pictures from elsewhere, or none yet.
        hide_by: what the right column is filtered by.
        hide: the share of the most uncertain that is hidden, percent; with "percentile".
        max_u: the largest u that is shown, None for the default; with "u".
        alpha: the error that is allowed; with "risk".
        k: results on a page of each column.
        similarity: the smallest cosine; 0 sets no limit.
        where: conditions on the table's columns, for both columns of results.
        page: of the results.
    """

    rows: tuple[int, ...] = ()
    hide_by: str = "percentile"
    hide: int = 10
    max_u: float | None = None
    alpha: float = ALPHAS[0]
    k: int = 12
    similarity: float = 0.0
    where: tuple[Condition, ...] = ()
    page: int = 1

    def params(self, dataset: EmbeddedDataset) -> dict[str, str]:
        """The link's parameters; what is as at first is left out."""
        first = View()
        said: dict[str, str] = {}
        if self.rows:
            said = {"query": ",".join(map(str, self.rows)), "of": stamp(dataset)}
        if (self.hide_by, self.hide) != (first.hide_by, first.hide):
            at = {"percentile": self.hide, "u": self.max_u, "risk": 100 * self.alpha}[self.hide_by]
            said |= {"filter": self.hide_by} | ({} if at is None else {"at": f"{at:.6g}"})
        if self.k != first.k:
            said["k"] = str(self.k)
        if self.similarity != first.similarity:
            said["similarity"] = f"{self.similarity:.2f}"
        if self.where:
            said["where"] = to_json(self.where)
        if self.page != first.page:
            said["page"] = str(self.page)
        return said


def stamp(dataset: EmbeddedDataset) -> str:
    """Eight letters for a data set as it is now: row numbers mean the same images as long as it stays."""
    return hashlib.blake2b(dataset.version.encode(), digest_size=4).hexdigest()


def read_view(params: Mapping[str, str], dataset: EmbeddedDataset) -> tuple[View, list[str]]:
    """The view that a link describes.

    Returns:
        The view, with the first settings where the link says nothing usable; and a sentence for each thing in it that
        cannot be followed.
    """
    view, problems = View(), []
    readers: dict[str, Callable[[Mapping[str, str], EmbeddedDataset], dict[str, Any]]] = {
        "query": _rows,
        "filter": _filter,
        "k": lambda said, _: {"k": _number(said["k"], "a number of results", *RESULTS, whole=True)},
        "similarity": lambda said, _: {"similarity": _number(said["similarity"], "a similarity", 0, 1)},
        "where": lambda said, data: {"where": from_json(data, said["where"])},
        "page": lambda said, _: {"page": _number(said["page"], "a page", 1, 10_000, whole=True)},
    }
    for name, read in readers.items():
        if name in params:
            try:
                view = replace(view, **read(params, dataset))
            except QueryError as error:
                problems.append(str(error))
    return view, problems


def _rows(params: Mapping[str, str], dataset: EmbeddedDataset) -> dict[str, Any]:
    if params.get("of", stamp(dataset)) != stamp(dataset):
        raise QueryError(
            f"This link was made before {dataset.name} was embedded anew, and its image may be another one now. Choose "
            "the query again."
        )
    parts = params["query"].split(",")
    if len(parts) > MOST_QUERIES:
        raise QueryError(f"The link searches with {len(parts)} images; at most {MOST_QUERIES} are possible.")
    numbers = [_number(part, "an image", 0, len(dataset) - 1, whole=True) for part in parts]
    return {"rows": tuple(dict.fromkeys(int(number) for number in numbers))}


def _filter(params: Mapping[str, str], dataset: EmbeddedDataset) -> dict[str, Any]:
    kind, at = params["filter"], params.get("at")
    if kind not in HIDE_BY:
        raise QueryError(f"The link filters by {kind[:40]}; possible are {', '.join(HIDE_BY)}.")
    if not dataset.has_uncertainty:
        raise QueryError("The link filters by uncertainty, and there is none in this data set.")
    if at is None:
        return {"hide_by": kind}
    if kind == "percentile":
        return {"hide_by": kind, "hide": _number(at, "a share to hide", 0, MOST_HIDDEN, whole=True)}
    if kind == "u":
        low, high = float(dataset.uncertainty.min()), float(dataset.uncertainty.max())
        # What the link says was rounded: the largest u of all may have become a little larger.
        return {"hide_by": kind, "max_u": _number(at, "a u", low, high, slack=1e-5 * abs(high))}
    percent = _number(at, "a risk", 0, 100)
    if percent / 100 not in ALPHAS:
        offered = ", ".join(f"{100 * alpha:g}" for alpha in ALPHAS)
        raise QueryError(f"The link asks for a risk of {percent:g} %; possible are {offered} %.")
    return {"hide_by": kind, "alpha": percent / 100}


def _number(text: str, what: str, low: float, high: float, *, whole: bool = False, slack: float = 0.0) -> Any:
    """A number in a range; not what else float() and int() take, such as "1_0" and the digits of other scripts."""
    usable = text.isascii() and len(text) < 20 and "_" not in text
    try:
        value: float = (int if whole else float)(text) if usable else math.nan
    except ValueError:
        value = math.nan
    if not low - slack <= value <= high + slack:
        kind = "a whole number" if whole else "a number"
        raise QueryError(f"The link names {what} “{text[:20]}”; expected {kind} from {low:.6g} to {high:.6g}.")
    return min(max(value, low), high)
