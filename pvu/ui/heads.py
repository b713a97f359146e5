"""Which head a data set has, which one it could have, and the change from one to the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pvu.errors import PVUError
from pvu.head_card import headline
from pvu.own_heads import apply_head, head_to_apply, own_head_facts
from pvu.registry import own_head_path
from pvu.store import EmbeddedDataset
from pvu.ui.state import open_store
from pvu.ui.text import plain


def offer_head(dataset: EmbeddedDataset) -> None:
    """The head that is in use; or one that the model has by now, for a data set that was embedded before."""
    fitted = own_head_facts(dataset)
    if fitted is not None:
        st.info(f"In use: a head that was fitted here, on {plain(headline(fitted))}.", icon=":material/verified:")
    newer = _newer_head(dataset)
    if newer is None:
        return
    st.info(
        f"{plain(dataset.manifest['model'])} has another head by now"
        + (f", fitted on {plain(headline(newer))}" if "r_auroc" in newer else "")
        + ". This data set was embedded before that.",
        icon=":material/update:",
    )
    if st.button("Use it here too", key="apply", icon=":material/check:", help="No image is encoded again."):
        switch_head(lambda: apply_head(dataset))


def _newer_head(dataset: EmbeddedDataset) -> dict[str, Any] | None:
    """What the head says of itself that the model has by now, if the data set was made without it; else None."""
    path = own_head_path(dataset.manifest["model"])
    return _head_to_apply(dataset.version, path.stat().st_mtime_ns, dataset) if path.is_file() else None


@st.cache_data(max_entries=16, show_spinner=False)
def _head_to_apply(version: str, written: int, _dataset: EmbeddedDataset) -> dict[str, Any] | None:
    del version, written  # the key
    return head_to_apply(_dataset)


def switch_head(make: Callable[[], EmbeddedDataset]) -> None:
    """Make a store with another head, and open it."""
    try:
        with st.spinner("Giving every image its uncertainty …"):
            made = make()
    except PVUError as error:
        st.error(plain(error), icon=":material/error:")
        return
    open_store(made.path)
    st.toast("The head is in use: map, search, review and evaluation know uncertainties now.", icon=":material/check:")
    st.rerun()
