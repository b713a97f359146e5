"""Watch a run of the pipeline: progress bar, speed, time left, cancel, resume."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pvu import jobs
from pvu.progress import PHASES, format_seconds
from pvu.ui.state import open_store
from pvu.ui.text import plain

_JOB = "pvu_job"
# How much of the whole each phase is, to let one bar move from left to right.
_SPANS = {
    "demo": (0, 3),
    "scan": (3, 4),
    "model": (4, 6),
    "images": (6, 82),
    "neighbors": (82, 88),
    "map": (88, 98),
    "save": (98, 100),
}


def start(source: str, model: str, table: str | None) -> None:
    """Start a run, or join the one that is under way, and watch it."""
    job = jobs.start_embed(source, model, table)
    st.session_state[_JOB] = str(job.folder)
    st.rerun()


def watched_job() -> jobs.Job | None:
    """The run that this page watches: the one started here, or after a reload the one under way."""
    if _JOB in st.session_state:
        return jobs.Job(Path(st.session_state[_JOB]))
    if "pvu_looked_for_jobs" not in st.session_state:
        st.session_state["pvu_looked_for_jobs"] = True
        active = jobs.active_jobs()
        if active:
            st.session_state[_JOB] = str(active[0].folder)
            return active[0]
    return None


def forget_job() -> None:
    """Stop watching."""
    st.session_state.pop(_JOB, None)


@st.fragment(run_every="1s")
def show_run(job: jobs.Job) -> None:
    """The run's progress, and what can be done about it."""
    status = job.status()
    if status.state == "done":
        forget_job()
        open_store(Path(status.store))
        st.rerun()
    st.markdown(f"**{plain(Path(job.arguments['source']).name)}** with {plain(job.arguments['model'])}")
    if status.active:
        _show_progress(job, status)
        return
    show = st.info if status.state == "cancelled" else st.error
    show(plain(status.message))
    again, back, _ = st.columns([1, 1, 3])
    word = "Go on" if status.state in ("cancelled", "crashed") else "Try again"
    if again.button(word, type="primary", width="stretch", key="resume"):
        arguments = job.arguments
        start(arguments["source"], arguments["model"], arguments["table"])
    if back.button("Choose other images", width="stretch", key="back"):
        forget_job()
        st.rerun()


def _show_progress(job: jobs.Job, status: jobs.Status) -> None:
    progress = status.progress
    if progress is None:
        st.progress(0.0, text="Starting …")
    else:
        low, high = _SPANS[progress.phase]
        share = progress.done / progress.total if progress.total else 0
        st.progress((low + (high - low) * share) / 100, text=str(progress))
        if progress.failed:
            st.caption(f"{progress.failed:,} files could not be read so far; they will be listed.")
    cancelling = (job.folder / "cancel").exists()
    left, right = st.columns([1, 4], vertical_alignment="center")
    left.button("Cancel", on_click=job.cancel, disabled=cancelling, width="stretch", key="cancel")
    steps = " → ".join(
        f"**{text}**" if progress and phase == progress.phase else text
        for phase, text in PHASES.items()
        if phase != "demo" or job.arguments["source"] == jobs.DEMO
    )
    right.caption("Stopping after this batch …" if cancelling else f"{format_seconds(status.seconds)} · {steps}")
