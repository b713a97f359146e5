"""One press of the browser's Back button for one step of the user."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_component = st.components.v2.component(
    "pvu_history",
    html="<span></span>",
    css=":host { display: none; }",
    js=(Path(__file__).parent / "history.js").read_text(encoding="utf-8"),
)


def tidy_history() -> None:
    """Let the browser's history hold pages and queries, not every setting. Called once in every run.

    Streamlit adds an entry for each change of the address: one for the page, another when the page writes which data
    set it shows, and one for every move of a slider.
    """
    _component(key="pvu_history")
