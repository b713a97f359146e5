"""Long work in its own process, with a status file: it outlives a page's rerun, a reload and the browser.

    python -m pvu.jobs JOB_FOLDER

A job is a folder under PVU_HOME/jobs with job.json (what to do), status.json (how far it is), log.txt, and `cancel`
once somebody wants it to stop. The same work asked for twice is one job that both watch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pvu.errors import Cancelled, PVUError
from pvu.paths import home
from pvu.progress import Progress

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
        store: the finished store's path; empty before.
        seconds: since the job began.
    """

    state: str
    progress: Progress | None = None
    message: str = ""
    store: str = ""
    seconds: float = 0.0

    @property
    def active(self) -> bool:
        return self.state in _RUNNING


class Job:
    """A run of the pipeline in its own process.

    Args:
        folder: the job's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def arguments(self) -> dict[str, Any]:
        """What the job was asked to do."""
        loaded: dict[str, Any] = json.loads((self.folder / "job.json").read_text())
        return loaded

    def status(self) -> Status:
        """The newest status. A job whose process is gone without a last word has crashed."""
        try:
            raw = json.loads((self.folder / "status.json").read_text())
        except FileNotFoundError:
            raw = {"state": _STARTING}
        progress = raw.pop("progress", None)
        started = raw.pop("started", time.time())
        raw.pop("pid", None)
        status = Status(**raw, progress=_progress(progress), seconds=time.time() - started)
        if not status.active or self._is_locked() or (time.time() - started < 20 and status.state == _STARTING):
            return status
        raw = json.loads((self.folder / "status.json").read_text())  # it may have ended between the two looks
        if raw["state"] not in _RUNNING:
            return self.status()
        return dataclasses.replace(status, state="crashed", message=self._last_words())

    def cancel(self) -> None:
        """Ask the job to stop after its current batch. What it has finished is kept."""
        (self.folder / "cancel").touch()

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
        return f"The run ended unexpectedly; finished images are kept, start again to go on.{last}"


def find_job(source: str, model: str, table: str | None = None) -> Job:
    """The job of a piece of work, whether it was ever started or not."""
    identity = hashlib.blake2b(json.dumps([source, model, table]).encode(), digest_size=8).hexdigest()
    return Job(home() / "jobs" / identity)


def start_embed(source: str, model: str, table: str | None = None) -> Job:
    """Start embedding a folder in its own process, unless that is under way already.

    Args:
        source: the folder of images, or DEMO.
        model: a model's name.
        table: a CSV of labels, or None.

    Returns:
        The job, to be watched with ``status()``.
    """
    job = find_job(source, model, table)
    job.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(job.folder / "start.lock"):
        if (job.folder / "status.json").exists() and job.status().active:
            return job
        (job.folder / "cancel").unlink(missing_ok=True)
        (job.folder / "job.json").write_text(json.dumps({"source": source, "model": model, "table": table}))
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


def active_jobs() -> list[Job]:
    """Every job that is under way, so that a reloaded page finds its own again."""
    folders = [path.parent for path in (home() / "jobs").glob("*/status.json")]
    return [job for job in map(Job, folders) if job.status().active]


def run(folder: Path) -> None:
    """The job's process: does the work and keeps status.json up to date."""
    job = Job(folder)
    arguments = job.arguments
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
            source = arguments["source"]
            if source == DEMO:
                show(Progress("demo"))
                from pvu.demo import make_demo

                source = make_demo()
            from pvu.pipeline import embed

            dataset = embed(
                source,
                model=arguments["model"],
                table=arguments["table"],
                progress=show,
                should_stop=(folder / "cancel").exists,
            )
            state |= {"state": "done", "store": str(dataset.path)}
        except Cancelled as error:
            state |= {"state": "cancelled", "message": str(error)}
        except PVUError as error:
            state |= {"state": "failed", "message": str(error)}
        except Exception as error:
            logging.getLogger(__name__).exception("the run failed")
            message = f"Something unforeseen happened ({type(error).__name__}: {error}). Finished images are kept."
            state |= {"state": "failed", "message": f"{message} Details: {folder / 'log.txt'}"}
        _write_status(folder, state)


def _progress(raw: dict[str, Any] | None) -> Progress | None:
    return Progress(**raw) if raw is not None else None


def _write_status(folder: Path, status: dict[str, Any]) -> None:
    temporary = folder / f"status.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(status))  # Python reads back the NaN that it writes
    os.replace(temporary, folder / "status.json")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    run(Path(sys.argv[1]))
