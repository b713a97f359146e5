"""The retrieval page's settings over runs, other pages and links: the address always says what is shown."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pvu.conditions import Condition
from pvu.store import EmbeddedDataset
from pvu.ui.text import plain
from pvu.ui.view import PARAMS, View, read_view

_VIEW = "retrieval_view"
_WRITTEN = "retrieval_written"
WHERE = "where_columns"
_ALWAYS = "find"
"""Key of a widget that this page always has: Streamlit forgets it when another page is shown."""
_PAGE = "results_page"
PICTURES = "query_pictures"
"""Session key of the pictures from elsewhere that are searched with."""
_WIDGETS = {
    "hide_by": "hide_by",
    "hide": "hide",
    "max_u": "max_u",
    "alpha": "alpha",
    "k": "k",
    "similarity": "similarity",
}


def where_key(column: str) -> str:
    """The key of the widget for a column's condition."""
    return f"where:{column}"


def current_view(dataset: EmbeddedDataset) -> View:
    """What is to be shown: what the address says, if it is not what this page has written there itself.

    Fills the widgets' states, so call it before they are made.
    """
    said = {name: st.query_params[name] for name in PARAMS if name in st.query_params}
    version, view = st.session_state.get(_VIEW, ("", View()))
    written = st.session_state.get(_WRITTEN, {})
    staying = _ALWAYS in st.session_state
    # In between two runs of this page the address says at best what the one before has written: a browser that is
    # quicker than the server sends an older one. Only at first, and after Back, it is the user who says something.
    followed = _came_back() or (bool(said) and not staying)
    if version != dataset.version and version and said.items() <= written.items():
        # Another data set was opened, or this one embedded anew: its rows and columns are others.
        view = replace(view, rows=(), where=(), max_u=None, page=1)
        _fill(view)
    elif followed and said != written:
        view, problems = read_view(said, dataset)
        _fill(view)
        st.session_state.pop(PICTURES, None)
        for problem in problems:
            st.session_state.setdefault("retrieval_problems", []).append(problem)
    elif not staying:
        _fill(view)
    view = _asked(dataset, view)
    for problem in st.session_state.pop("retrieval_problems", []):
        st.warning(plain(problem), icon=":material/link_off:")
    st.session_state[_VIEW] = (dataset.version, view)
    return view


def _came_back() -> bool:
    """Whether the user has pressed Back or Forward."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def _asked(dataset: EmbeddedDataset, view: View) -> View:
    """The view with the query that another page, the image panel or this page's gallery has asked for."""
    asked = st.session_state.pop("query_row", None)
    if asked is None:
        return view
    rows = tuple(asked) if isinstance(asked, tuple) else (asked,)
    if rows:
        st.session_state.pop(PICTURES, None)
    set_page(1)
    return replace(view, rows=tuple(int(row) for row in rows if 0 <= row < len(dataset)), page=1)


def remember(dataset: EmbeddedDataset, view: View) -> None:
    """Keep what is shown, and write it into the address: in one go, since each change is a step of the browser."""
    said = view.params(dataset)
    st.session_state[_VIEW] = (dataset.version, view)
    st.session_state[_WRITTEN] = said
    others = {name: st.query_params.get_all(name) for name in st.query_params if name not in PARAMS}
    now = {name: st.query_params[name] for name in PARAMS if name in st.query_params}
    if now != said:
        st.query_params.from_dict({**others, **said})


def set_page(page: int) -> None:
    """Go to a page of the results, before :func:`page_number` in this run."""
    count, _ = st.session_state.get(_PAGE, (0, 1))
    st.session_state[_PAGE] = (count + 1, page)


def page_number(pages: int) -> int:
    """Show the page numbers of the results, and give the chosen one."""
    count, first = st.session_state.get(_PAGE, (0, 1))
    if first > pages:
        st.caption(f"There is no page {first}, the last is {pages}.")
        set_page(pages)
        count, first = st.session_state[_PAGE]
    # Another key each time the program turns the page: a widget's state cannot be set beside its default.
    return st.pagination(pages, default=first, key=f"{_PAGE}:{count}") if pages > 1 else 1


def _fill(view: View) -> None:
    """Set every widget to what the view says."""
    state = st.session_state
    for field, key in _WIDGETS.items():
        if getattr(view, field) is None:
            state.pop(key, None)
        else:
            state[key] = getattr(view, field)
    set_page(view.page)
    state[WHERE] = [condition.column for condition in view.where]
    for condition in view.where:
        state[where_key(condition.column)] = _state(condition)


def _state(condition: Condition) -> object:
    if condition.text is not None:
        return condition.text
    return list(condition.values) if condition.values is not None else (condition.low, condition.high)
