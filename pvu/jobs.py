"""Long work in its own process, with a status file: it outlives a page's rerun, a reload and the browser.

    python -m pvu.jobs JOB_FOLDER

A job is a folder under PVU_HOME/jobs with job.json (its kind and arguments), status.json (how far it is), log.txt, and
`cancel` once somebody wants it to stop. The same work asked for twice is one job that both watch.

To add a kind of work:

1. Write its function, anywhere in pvu: ``(arguments, progress, should_stop) -> result``. ``arguments`` is the dict that
   the job was started with, all of it JSON; ``progress`` takes a :class:`pvu.progress.Progress` as often as you like;
   raise :class:`pvu.errors.Cancelled`, saying what is kept, soon after ``should_stop()`` is true. Another PVUError ends
   the job with its message. ``result`` is a dict of JSON for whoever watches; ``"store"`` in it is a store's path.
2. Add a line to KINDS below: the function's address, imported when a job of the kind runs, and what is kept of one
   that was interrupted.
3. Give its phases words in ``pvu.progress.PHASES``, and their shares of the bar in ``pvu.ui.runs.WORDS``.

A page then calls ``pvu.ui.runs.start(kind, **arguments)``, ``watched_job(kind)`` and ``show_run(job, finished)``; a
library user ``jobs.start(kind, **arguments)`` and ``job.status()``. Arguments that say the same thing are one job.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pvu.errors import Cancelled, PVUError
from pvu.paths import home
from pvu.progress import Progress, ProgressCallback

Arguments = dict[str, Any]
Work = Callable[[Arguments, ProgressCallback, Callable[[], bool]], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """A kind of work.

    Args:
        work: where its function is, "module:function".
        kept: what an interrupted job leaves, to end the sentence "The run ended unexpectedly; ...".
    """

    work: str
    kept: str


KINDS = {
    "embed": Kind("pvu.work:embed_images", "finished images are kept, start again to go on"),
    "bring": Kind("pvu.bring:bring_job", "thumbnails that were done are kept, start again to go on"),
    "fit": Kind("pvu.own_heads:fit_job", "nothing is kept of a head that is not finished, start again"),
    "copy": Kind("pvu.copying:run_copy", "finished images are in the new folder, start again to go on"),
}
DEMO = "demo"
"""The source that stands for the demo data set, made first if it is not there."""
_STARTING = "starting"
_RUNNING = (_STARTING, "running")


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Args:
        state: "starting", "running", "done", "cancelled", "failed" or "crashed".
        progress: the newest Progress; None before the first.
        message: why it failed, or what a cancelled job kept.
        result: what the work has returned; empty before.
        seconds: since the job began.
    """

    state: str
    progress: Progress | None = None
    message: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def active(self) -> bool:
        return self.state in _RUNNING

    @property
    def store(self) -> str:
        """The path of the store that the work has made; empty if there is none."""
        return str(self.result.get("store", ""))


class Job:
    """A piece of work in its own process.

    Args:
        folder: the job's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def kind(self) -> str:
        """A key of KINDS."""
        return str(self._asked()["kind"])

    @property
    def arguments(self) -> Arguments:
        """What the job was asked to do."""
        arguments: Arguments = self._asked()["arguments"]
        return arguments

    def _asked(self) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads((self.folder / "job.json").read_text())
        # Jobs of the first version have their arguments alone.
        return asked if "kind" in asked else {"kind": "embed", "arguments": asked}

    def status(self) -> Status:
        """The newest status. A job whose process is gone without a last word has crashed."""
        try:
            raw = json.loads((self.folder / "status.json").read_text())
        except FileNotFoundError:
            raw = {"state": _STARTING}
        started = raw.get("started", time.time())
        known = {name: raw[name] for name in ("state", "message", "result") if name in raw}
        status = Status(**known, progress=_progress(raw.get("progress")), seconds=time.time() - started)
        if not status.active or self._is_locked() or (time.time() - started < 20 and status.state == _STARTING):
            return status
        raw = json.loads((self.folder / "status.json").read_text())  # it may have ended between the two looks
        if raw["state"] not in _RUNNING:
            return self.status()
        return dataclasses.replace(status, state="crashed", message=self._last_words())

    def cancel(self) -> None:
        """Ask the job to stop at its next step."""
        (self.folder / "cancel").touch()

    def forget(self) -> None:
        """Remove a job that has ended from the list of jobs. What it has made stays."""
        if not self.status().active:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _is_locked(self) -> bool:
        try:
            with FileLock(self.folder / "lock", timeout=0):
                return False
        except Timeout:
            return True

    def _last_words(self) -> str:
        log = self.folder / "log.txt"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        last = f" Its last words: {lines[-1][:300]}" if lines else ""
        return f"The run ended unexpectedly; {KINDS[self.kind].kept}.{last}"


def find_job(kind: str, /, **arguments: Any) -> Job:
    """The job of a piece of work, whether it was ever started or not."""
    identity = json.dumps([kind, arguments], sort_keys=True)
    return Job(home() / "jobs" / hashlib.blake2b(identity.encode(), digest_size=8).hexdigest())


def start(kind: str, /, **arguments: Any) -> Job:
    """Start a piece of work in its own process, unless the same is under way already.

    Args:
        kind: a key of KINDS. "embed" takes source (a folder of images, or DEMO), model (a name) and table (the path of
            a CSV of labels, or None).
        arguments: what its function is to know, all of it JSON.

    Returns:
        The job, to be watched with ``status()``.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no kind of work named {kind!r}. Choose one of {', '.join(KINDS)}.")
    job = find_job(kind, **arguments)
    job.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(job.folder / "start.lock"):
        if (job.folder / "status.json").exists() and job.status().active:
            return job
        (job.folder / "cancel").unlink(missing_ok=True)
        (job.folder / "job.json").write_text(json.dumps({"kind": kind, "arguments": arguments}))
        _write_status(job.folder, {"state": _STARTING, "started": time.time()})
        with (job.folder / "log.txt").open("wb") as log:
            subprocess.Popen(
                [sys.executable, "-m", "pvu.jobs", str(job.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[1],
                env={**os.environ, "PVU_HOME": str(home())},  # which may be relative to this process's folder
                start_new_session=True,  # a Ctrl-C in the app's terminal stops the app, not the run
            )
    return job


def active_jobs(kind: str | None = None) -> list[Job]:
    """Every job that is under way, or those of a kind, so that a reloaded page finds its own again."""
    jobs = [Job(path.parent) for path in (home() / "jobs").glob("*/status.json")]
    return [job for job in jobs if job.status().active and kind in (None, job.kind)]


def stopped_jobs(kind: str) -> list[Job]:
    """Jobs of a kind that were cancelled or have crashed, and could go on; the newest first."""
    places = sorted((home() / "jobs").glob("*/status.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    jobs = [Job(path.parent) for path in places]
    return [job for job in jobs if job.kind == kind and job.status().state in ("cancelled", "crashed")]


def run(folder: Path) -> None:
    """The job's process: does the work and keeps status.json up to date."""
    job = Job(folder)
    kind = KINDS[job.kind]
    started = time.time()
    state: dict[str, Any] = {"state": "running", "pid": os.getpid(), "started": started}
    last_write = 0.0
    last_phase = ""

    def show(progress: Progress) -> None:
        nonlocal last_write, last_phase
        now = time.monotonic()
        if progress.phase == last_phase and now - last_write < 0.3:
            return
        last_write, last_phase = now, progress.phase
        _write_status(folder, {**state, "progress": asdict(progress)})

    # The lock says that the process is alive. It comes before the imports, which can take long on a busy machine.
    with FileLock(folder / "lock"):
        try:
            module, _, function = kind.work.partition(":")
            work: Work = getattr(import_module(module), function)
            state |= {"result": work(job.arguments, show, (folder / "cancel").exists), "state": "done"}
        except Cancelled as error:
            state |= {"state": "cancelled", "message": str(error)}
        except PVUError as error:
            state |= {"state": "failed", "message": str(error)}
        except Exception as error:
            logging.getLogger(__name__).exception("the run failed")
            message = f"Something unforeseen happened ({type(error).__name__}: {error}); {kind.kept}."
            state |= {"state": "failed", "message": f"{message} Details: {folder / 'log.txt'}"}
        _write_status(folder, state)


def _progress(raw: dict[str, Any] | None) -> Progress | None:
    return Progress(**{**raw, "curve": tuple(raw.get("curve", ()))}) if raw is not None else None


def _write_status(folder: Path, status: dict[str, Any]) -> None:
    temporary = folder / f"status.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(status))  # Python reads back the NaN that it writes
    os.replace(temporary, folder / "status.json")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    run(Path(sys.argv[1]))
