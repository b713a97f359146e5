"""What is there already: data sets that were embedded before, and runs that were stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import streamlit as st

from pvu import jobs
from pvu.catalog import delete_store, find_stores, read_manifest, stores_folder
from pvu.errors import PVUError, StoreError
from pvu.progress import counted
from pvu.ui.runs import WORDS, start
from pvu.ui.state import open_store
from pvu.ui.text import plain

SHOWN = 6
"""Data sets with a card; the menu's box has all."""


@dataclass(frozen=True)
class Known:
    """A data set that can be opened.

    Args:
        path: of the store.
        manifest: as the store has it.
    """

    path: Path
    manifest: dict[str, Any]

    def __str__(self) -> str:
        made = datetime.fromisoformat(self.manifest["created"])
        images = counted(self.manifest["counts"]["images"], "image")
        return f"{images} · {self.manifest['model']} · {_ago(made)}"


def known_sets() -> list[Known]:
    """Everything in pvu's own folder that can be opened, the newest first."""
    known = []
    for path in find_stores():
        if path.is_relative_to(stores_folder()):
            try:
                known.append(Known(path, read_manifest(path)))
            except StoreError:
                continue  # deleted or replaced in this moment
    return known


def open_again(known: Sequence[Known]) -> None:
    """Cards of the newest data sets, each opened by one click. Nothing where there is none."""
    if not known:
        return
    st.subheader("Open again", anchor=False)
    for start_at in range(0, min(len(known), SHOWN), 3):
        for column, each in zip(st.columns(3), known[start_at : start_at + 3], strict=False):
            with column.container(border=True):
                _card(each)
    if len(known) > SHOWN:
        st.caption(f"{len(known) - SHOWN:,} more in the box “Open data set” in the menu.")


def _card(known: Known) -> None:
    title, more = st.columns([5, 1], vertical_alignment="center")
    title.markdown(f"**{plain(known.manifest['name'])}**")
    st.caption(plain(str(known)), help=plain(known.manifest["source"]))
    if st.button("Open", key=f"open:{known.path.name}", width="stretch"):
        open_store(known.path)
        st.rerun()
    with more.popover("", icon=":material/more_vert:", type="tertiary"):
        st.markdown(
            f"Delete what pvu keeps of **{plain(known.manifest['name'])}**: embeddings, map and thumbnails. "
            "Your images and tags stay."
        )
        if st.button("Delete", key=f"delete:{known.path.name}", icon=":material/delete:"):
            try:
                delete_store(known.path)
            except PVUError as error:
                st.error(plain(error))
                return
            st.rerun()


def stopped_runs() -> None:
    """Runs that were cancelled or have crashed, each with the way on. Nothing where there is none."""
    for job in [*jobs.stopped_jobs("embed"), *jobs.stopped_jobs("bring")]:
        with st.container(border=True):
            st.markdown(f"Stopped: {WORDS[job.kind].name(job.arguments)}")
            st.caption(plain(job.status().message))
            with st.container(horizontal=True):
                if st.button("Go on", key=f"go_on:{job.folder.name}"):
                    start(job.kind, **job.arguments)
                if st.button("Forget", key=f"forget:{job.folder.name}", help="Take it off this list."):
                    job.forget()
                    st.rerun()


def _ago(moment: datetime) -> str:
    """ "today", "yesterday", "12 days ago", or the date."""
    days = (datetime.now(UTC).date() - moment.astimezone(UTC).date()).days
    if days <= 1:
        return "today" if days < 1 else "yesterday"
    return f"{days} days ago" if days < 32 else moment.strftime("%-d %B %Y")
