"""What the retrieval page leaves out: by uncertainty or risk on the right, by the table's columns on both sides."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st

from pvu.conditions import Condition, Kind, column_kind, column_values, filter_columns, meets_all, to_json
from pvu.risk import ALPHAS, Risk
from pvu.store import EmbeddedDataset
from pvu.ui.linking import WHERE, where_key
from pvu.ui.measures import risk_of, risk_reason
from pvu.ui.text import plain
from pvu.ui.view import HIDE_BY, MOST_HIDDEN, View

_NONE = "(none)"
_NAMES = {"percentile": "Percentile", "u": "Value of u", "risk": "Risk"}
_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True)
class Narrowing:
    """What the right column shows of the images.

    Args:
        kept: (N,) bool; None shows all.
        title: of the right column.
        mark: over the images on the left that the right does not show.
        hidden: how many it hides, in words: "the most uncertain 10 %".
        key: a string that says the same as ``kept``, for caches.
        reason: why nothing is filtered, in one sentence; None if something is.
    """

    kept: np.ndarray | None
    title: str
    mark: str = "too uncertain"
    hidden: str = ""
    key: str = ""
    reason: str | None = None


def uncertainty_filter(dataset: EmbeddedDataset, view: View) -> tuple[Narrowing, View]:
    """Show the filter by uncertainty; gives what it keeps, and the view with what was chosen."""
    if not dataset.has_uncertainty:
        st.slider("Hide the most uncertain", 0, MOST_HIDDEN, key="hide", format="%d %%", disabled=True)
        return Narrowing(None, "All images again", reason="This model has no uncertainty head"), view
    left, right = st.columns([2, 3], gap="medium")
    with left:
        by = st.segmented_control(
            "Hide by",
            HIDE_BY,
            format_func=lambda name: _NAMES[name],
            key="hide_by",
            required=True,
            help="Percentile: the most uncertain share of this data set. Value: everything above one u, to use the "
            "same limit for several data sets of one model. Risk: with labels, what is proved to be mostly right.",
        )
    by = by or view.hide_by
    view = replace(view, hide_by=by)
    with right:
        return {"percentile": _by_percentile, "u": _by_value, "risk": _by_risk}[by](dataset, view)


def _by_percentile(dataset: EmbeddedDataset, view: View) -> tuple[Narrowing, View]:
    st.session_state.setdefault("hide", view.hide)  # Streamlit forgets it while another filter is shown
    hide = st.slider(
        "Hide the most uncertain",
        0,
        MOST_HIDDEN,
        step=5,
        format="%d %%",
        key="hide",
        help="The share of this data set that is left out of the search on the right, the most uncertain first.",
    )
    hidden = f"the most uncertain {hide} %"
    reason = "Nothing is hidden yet: move the slider" if hide == 0 else None
    kept = None if hide == 0 else dataset.uncertainty <= dataset.threshold(1 - hide / 100)
    return Narrowing(kept, f"Without {hidden}", hidden=hidden, key=f"p{hide}", reason=reason), replace(view, hide=hide)


def _by_value(dataset: EmbeddedDataset, view: View) -> tuple[Narrowing, View]:
    low, high = float(dataset.uncertainty.min()), float(dataset.uncertainty.max())
    if low == high:
        st.caption(f"All images have u = {low:.3f}: there is nothing to filter by.")
        return Narrowing(None, "All images again", reason="Every image is as uncertain as the others"), view
    st.session_state.setdefault("max_u", dataset.threshold(0.9) if view.max_u is None else view.max_u)
    limit = st.slider(
        "Largest u",
        low,
        high,
        step=(high - low) / 200,
        format="%.3f",
        key="max_u",
        help="The scale of u has no unit and belongs to the model: between models it means nothing.",
    )
    kept = dataset.uncertainty <= limit
    share = f"the {100 * (1 - kept.mean()):.0f} % with u above {limit:.3f}"
    return Narrowing(kept, f"With u up to {limit:.3f}", hidden=share, key=f"u{limit!r}"), replace(view, max_u=limit)


def _by_risk(dataset: EmbeddedDataset, view: View) -> tuple[Narrowing, View]:
    reason = risk_reason(dataset.version, dataset)
    risk = None if reason else risk_of(dataset.version, dataset)
    st.session_state.setdefault("alpha", view.alpha)
    alpha = st.segmented_control(
        "Wrong at most",
        ALPHAS,
        format_func=lambda value: f"{100 * value:g} %",
        key="alpha",
        required=True,
        disabled=risk is None or not _any_proved(risk),
        help="Keeps images by a rule that was proved on labelled images: among queries that it keeps the nearest "
        "other image has another label in at most this share, with 90 % certainty, if they come as those came.",
    )
    alpha = alpha or view.alpha
    view = replace(view, alpha=alpha)
    if risk is not None:
        reason = risk.why_not(alpha)
    if reason is not None or risk is None:
        st.caption(plain(reason), width="stretch")
        return Narrowing(None, "All images again", reason="The risk cannot be used"), view
    kept = risk.keeps(alpha)
    st.caption(f"Keeps {100 * kept.mean():.0f} % of the images.")
    title = f"Where at most {100 * alpha:g} % are wrong"
    return Narrowing(kept, title, "too risky", f"the riskiest {100 * (1 - kept.mean()):.0f} %", f"r{alpha}"), view


def _any_proved(risk: Risk) -> bool:
    return any(risk.why_not(alpha) is None for alpha in ALPHAS)


def column_filter(dataset: EmbeddedDataset, view: View) -> View:
    """Show the filters by the table's columns; gives the view with what was chosen."""
    known = filter_columns(dataset)
    st.session_state[WHERE] = [column for column in st.session_state.get(WHERE, []) if column in known]
    columns = st.multiselect(
        "Only images with",
        known,  # shown as they are: options are no Markdown
        key=WHERE,
        placeholder="any label, path, size, …",
        help="Conditions on labels, paths, picture sizes and the columns of your table, for both sides.",
    )
    found = [_condition(dataset, column) for column in columns]
    return replace(view, where=tuple(condition for condition in found if condition is not None))


@st.cache_data(max_entries=64, show_spinner=False)
def _choices(version: str, column: str, _dataset: EmbeddedDataset) -> tuple[Kind, list[Any]]:
    """How a column is filtered: with its words, or with its smallest and largest number."""
    del version  # the key
    kind = column_kind(_dataset, column)
    if kind == "values":
        return kind, [_NONE if value is None else value for value in column_values(_dataset, column)]
    if kind == "text":
        return kind, []
    values = _dataset.images[column]
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    numbers = numbers[np.isfinite(numbers)]
    whole = bool((numbers == np.round(numbers)).all()) and bool((np.abs(numbers) < _SAFE_INTEGER).all())
    ends = [] if len(numbers) == 0 else [float(numbers.min()), float(numbers.max())]
    return kind, [int(end) for end in ends] if whole else ends


def _condition(dataset: EmbeddedDataset, column: str) -> Condition | None:
    kind, choices = _choices(dataset.version, column, dataset)
    key, name = where_key(column), plain(column)
    if kind == "text":
        text = st.text_input(f"{name} holds", key=key)
        return Condition(column, text=text.strip()) if text.strip() else None
    if kind == "values":
        said = st.session_state.get(key, [])
        st.session_state[key] = [word for word in (_NONE if each is None else each for each in said) if word in choices]
        chosen = st.multiselect(f"{name} is", choices, key=key)
        words = tuple(None if word == _NONE else word for word in chosen)
        return Condition(column, values=words) if words else None
    if len(choices) == 0 or choices[0] == choices[1]:
        st.caption(f"{name} is the same for all images.")
        return None
    return _range(column, key, name, choices)


def _range(column: str, key: str, name: str, ends: list[Any]) -> Condition | None:
    low, high = ends
    said = st.session_state.get(key, (low, high))
    inside = (max(said[0], low), min(said[1], high))
    st.session_state[key] = tuple(map(type(low), inside)) if inside[0] <= inside[1] else (low, high)
    chosen = st.slider(name, low, high, key=key)
    if chosen == (low, high):
        return None
    return Condition(
        column, low=-math.inf if chosen[0] == low else chosen[0], high=math.inf if chosen[1] == high else chosen[1]
    )


def allowed_images(dataset: EmbeddedDataset, view: View) -> np.ndarray | None:
    """(N,) bool: the images that meet the conditions on columns; None where there are none."""
    return _allowed(dataset.version, to_json(view.where), dataset, view.where) if view.where else None


@st.cache_data(max_entries=32, show_spinner=False)
def _allowed(version: str, key: str, _dataset: EmbeddedDataset, _where: tuple[Condition, ...]) -> np.ndarray | None:
    del version, key
    return meets_all(_dataset, _where)
