"""Copy or hard-link images to a new folder: the form, the job's progress, and what came of it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pvu.copy_plan import plan_copy
from pvu.errors import PVUError
from pvu.jobs import Status
from pvu.progress import counted
from pvu.store import EmbeddedDataset
from pvu.tags import FIX, Tags
from pvu.ui.runs import show_run, start, watched_job
from pvu.ui.text import plain

_COPIED = "pvu_copied"


def copy_form(dataset: EmbeddedDataset, rows: np.ndarray) -> None:
    """The form; in its place the job's progress while one is under way, and above it what came of the last.

    Args:
        dataset: any.
        rows: (m,) int, the images to copy.
    """
    job = watched_job("copy")
    if job is not None:
        show_run(job, lambda status: st.session_state.update({_COPIED: status}))
        return
    _show_copied(st.session_state.get(_COPIED))
    folder = st.text_input(
        "New folder", placeholder=f"{dataset.source}-kept", key="copy_folder", persist_state="session"
    )
    left, right = st.columns(2)
    layout = left.radio(
        "Folders inside",
        ["paths", "labels"],
        format_func={"paths": "as the originals'", "labels": "one per label"}.__getitem__,
        horizontal=True,
        key="copy_layout",
        persist_state="session",
    )
    fixed = Tags.of(dataset).counts[FIX]
    corrected = right.checkbox(
        f"Use corrected labels ({fixed:,})",
        disabled=not fixed,
        key="copy_corrected",
        persist_state="session",
        help="Images tagged 'fix label' go to the folder of their new label.",
    )
    link = right.checkbox(
        "Hard links",
        key="copy_link",
        persist_state="session",
        help="They take no room: a link is the same file under a second name, so who edits one edits the other. Where "
        "the disk has none, files are copied.",
    )
    asked = {"folder": folder.strip(), "layout": layout, "corrected": corrected and fixed > 0}
    if st.button(f"{'Link' if link else 'Copy'} {counted(len(rows), 'image')}", type="primary", key="copy_start"):
        _begin(dataset, rows, link=link, **asked)
    st.caption("The originals are only read, and nothing is overwritten. The same copy can be repeated to go on.")


def _begin(dataset: EmbeddedDataset, rows: np.ndarray, *, link: bool, **asked: object) -> None:
    try:
        if not asked["folder"]:
            raise PVUError("Give the path of a new folder.")
        plan_copy(dataset, rows, **asked)  # type: ignore[arg-type]  # what is wrong is said now
    except PVUError as error:
        st.error(plain(error), icon=":material/error:")
        return
    st.session_state.pop(_COPIED, None)
    start("copy", store=str(dataset.path), version=dataset.version, rows=rows.tolist(), link=link, **asked)


def _show_copied(status: Status | None) -> None:
    if status is None:
        return
    failed = status.result["failed"]
    (st.warning if failed else st.success)(plain(status.result["text"]), icon=":material/folder_copy:")
    if failed:
        table = [{"Image": path, "Why": reason} for path, reason in failed.items()]
        st.dataframe(table, hide_index=True, width="stretch")
