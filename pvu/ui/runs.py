"""Watch a job: progress bar, speed, time left, cancel, resume. Every kind of work has its own phases and words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from pvu import jobs
from pvu.progress import PHASES, Progress, counted, format_seconds
from pvu.ui.text import plain


@dataclass(frozen=True)
class Words:
    """What is said while a kind of work goes on.

    Args:
        phases: its phases in order, each with its share in percent of the whole, so that one bar moves from left to
            right.
        name: what it works on, from its arguments, as Markdown: names of files and tables through ``plain``.
        back: on the button that leaves a job that has not ended well.
        stopping: while it is being cancelled.
    """

    phases: dict[str, int]
    name: Callable[[jobs.Arguments], str]
    back: str = "Back"
    stopping: str = "Stopping …"


WORDS = {
    "embed": Words(
        {"demo": 3, "scan": 1, "unpack": 6, "model": 2, "images": 70, "neighbors": 6, "map": 10, "save": 2},
        lambda asked: f"**{plain(Path(asked['source']).name)}** with {plain(asked['model'])}",
        "Choose other images",
        "Stopping after this batch …",
    ),
    "bring": Words(
        {"check": 6, "unpack": 6, "scan": 4, "thumbnails": 50, "neighbors": 12, "map": 20, "save": 2},
        lambda asked: f"**{plain(asked['name'] or Path(asked['embeddings']).stem)}**: embeddings of your own",
        "Choose other files",
        "Stopping after this batch …",
    ),
    "fit": Words(
        {"model": 5, "read": 2, "probe": 8, "fit": 14, "folds": 66, "measure": 4, "save": 1},
        lambda asked: f"A head for {plain(asked['model'])}, from the labels of **{plain(asked['name'])}**",
    ),
    "copy": Words(
        {"copy": 100},
        lambda asked: f"{counted(len(asked['rows']), 'image')} to **{plain(asked['folder'])}**",
        "Choose other images",
        "Stopping after this image …",
    ),
}
Finished = Callable[[jobs.Status], None]


def start(kind: str, /, **arguments: Any) -> None:
    """Start a piece of work, or join the one that is under way, and watch it. Arguments as of ``jobs.start``."""
    st.session_state[_key(kind)] = str(jobs.start(kind, **arguments).folder)
    st.rerun()


def watched_job(kind: str) -> jobs.Job | None:
    """The job that this visitor watches: the one started here, or after a reload the one under way."""
    if _key(kind) in st.session_state:
        job = jobs.Job(Path(st.session_state[_key(kind)]))
        if _is_there(job):
            return job
        forget_job(kind)
    if f"{_key(kind)}:looked" not in st.session_state:
        st.session_state[f"{_key(kind)}:looked"] = True
        active = jobs.active_jobs(kind)
        if active:
            st.session_state[_key(kind)] = str(active[0].folder)
            return active[0]
    return None


def forget_job(kind: str) -> None:
    """Stop watching."""
    st.session_state.pop(_key(kind), None)


def _is_there(job: jobs.Job) -> bool:
    """Whether it has not been taken off the list, which may happen in another tab."""
    return (job.folder / "job.json").is_file()


def _key(kind: str) -> str:
    return f"pvu_job:{kind}"


@st.fragment(run_every="1s")
def show_run(job: jobs.Job, finished: Finished, more: Callable[[Progress], None] | None = None) -> None:
    """The job's progress, and what can be done about it.

    Args:
        job: of any kind in WORDS.
        finished: called once it is done, before the whole page runs again without the job.
        more: draws what there is beside the bar while it works.
    """
    if not _is_there(job):
        st.rerun()
    kind, status = job.kind, job.status()
    words = WORDS[kind]
    if status.state == "done":
        forget_job(kind)
        finished(status)
        st.rerun()
    st.markdown(words.name(job.arguments))
    if status.active:
        _show_progress(job, status, words)
        if more is not None and status.progress is not None:
            more(status.progress)
        return
    show = st.info if status.state == "cancelled" else st.error
    show(plain(status.message))
    again, back, _ = st.columns([1, 1, 3])
    word = "Go on" if status.state in ("cancelled", "crashed") else "Try again"
    if again.button(word, type="primary", width="stretch", key=f"{kind}:resume"):
        start(kind, **job.arguments)
    if back.button(words.back, width="stretch", key=f"{kind}:back"):
        forget_job(kind)
        st.rerun()


def _show_progress(job: jobs.Job, status: jobs.Status, words: Words) -> None:
    progress = status.progress
    if progress is None:
        st.progress(0.0, text="Starting …")
    else:
        st.progress(_share(progress, words), text=str(progress))
        if progress.failed:
            st.caption(f"{progress.failed:,} files could not be read so far; they will be listed.")
    cancelling = (job.folder / "cancel").exists()
    left, right = st.columns([1, 4], vertical_alignment="center")
    left.button("Cancel", on_click=job.cancel, disabled=cancelling, width="stretch", key=f"{job.kind}:cancel")
    now = progress.phase if progress else ""
    rare = ("demo", "unpack")  # named while they go on; most runs do without
    steps = " → ".join(
        f"**{PHASES[phase]}**" if phase == now else PHASES[phase]
        for phase in words.phases
        if phase == now or phase not in rare
    )
    right.caption(words.stopping if cancelling else f"{format_seconds(status.seconds)} · {steps}")


def _share(progress: Progress, words: Words) -> float:
    """How much of the whole is done, in [0, 1]."""
    before = 0
    for phase, percent in words.phases.items():
        if phase == progress.phase:
            inside = progress.done / progress.total if progress.total else 0
            return (before + percent * inside) / 100
        before += percent
    return before / 100
