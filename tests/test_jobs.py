"""Jobs: a run in its own process that can be watched, cancelled, killed and taken up again.

Most tests replace the process by a call of ``jobs.run`` in a thread with the fake encoder; two start the real one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pvu import jobs
from pvu.errors import Cancelled
from pvu.jobs import Job, active_jobs
from pvu.paths import home
from pvu.pipeline import embed
from pvu.progress import Progress, ProgressCallback
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, write_pictures


def wait_for(job: Job, *states: str, seconds: float = 120) -> jobs.Status:
    """The status once it has one of these states."""
    deadline = time.monotonic() + seconds
    while (status := job.status()).state not in states:
        assert time.monotonic() < deadline, f"still {status} after {seconds} s: {log_of(job)}"
        time.sleep(0.05)
    return status


def log_of(job: Job) -> str:
    log = job.folder / "log.txt"
    return log.read_text() if log.exists() else "no log"


def find_job(source: str, model: str = "default", table: str | None = None) -> Job:
    return jobs.find_job("embed", source=source, model=model, table=table)


def start_embed(source: str, model: str = "default", table: str | None = None) -> Job:
    return jobs.start("embed", source=source, model=model, table=table)


class Started:
    """Stands in for subprocess.Popen: runs the job in a thread, with the fake encoder."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.homes: list[str] = []
        self.threads: list[threading.Thread] = []

    def __call__(self, command: list[str], *, env: dict[str, str], **_: Any) -> None:
        self.commands.append(command)
        self.homes.append(env["PVU_HOME"])
        thread = threading.Thread(target=jobs.run, args=(Path(command[-1]),))
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, quick_map: None) -> Iterator[Started]:
    runner = Started()
    monkeypatch.setattr(jobs.subprocess, "Popen", runner)
    monkeypatch.setattr("pvu.pipeline._load", lambda _: FakeEncoder(seconds_per_image=0.002))
    yield runner
    for job in active_jobs():
        job.cancel()
    runner.join()


def test_a_job_ends_in_a_store(started: Started, photos: Path) -> None:
    job = start_embed(str(photos), "default")
    assert job.status().active
    status = wait_for(job, "done")
    assert len(EmbeddedDataset(Path(status.store))) == 12
    assert job.arguments == {"source": str(photos), "model": "default", "table": None}
    assert not status.active
    assert status.seconds >= 0
    assert active_jobs() == []
    (command,) = started.commands
    assert command == [sys.executable, "-m", "pvu.jobs", str(job.folder)]
    assert job.folder.is_relative_to(home() / "jobs")


def test_a_relative_home_is_the_same_folder_in_the_job(
    started: Started, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PVU_HOME", "here")
    wait_for(start_embed(str(photos), "default"), "done")
    assert started.homes == [str(tmp_path / "here")]


def test_progress_comes_through(started: Started, make_photos: Callable[..., Path]) -> None:
    job = start_embed(str(make_photos(64)), "default")
    seen: list[Progress] = []
    while (status := job.status()).active:
        if status.progress is not None:
            seen.append(status.progress)
        time.sleep(0.01)
    assert status.state == "done"
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == [phase for phase in ("scan", "model", "images", "neighbors", "map", "save") if phase in phases]
    assert "images" in phases
    assert max(progress.total for progress in seen) == 64


def test_the_same_work_twice_is_one_job(started: Started, make_photos: Callable[..., Path]) -> None:
    source = str(make_photos(40))
    together: list[Job] = []
    callers = [threading.Thread(target=lambda: together.append(start_embed(source, "default"))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len({job.folder for job in together}) == 1
    assert len(started.commands) == 1
    assert [job.folder for job in active_jobs()] == [together[0].folder]
    assert find_job(source, "default").folder == together[0].folder
    wait_for(together[0], "done")


def test_other_work_is_another_job(photos: Path) -> None:
    folders = {
        find_job(str(photos), "default").folder,
        find_job(str(photos), "other").folder,
        find_job(str(photos), "default", "labels.csv").folder,
        find_job(str(photos.parent), "default").folder,
    }
    assert len(folders) == 4


def test_work_that_is_done_can_be_asked_for_again(started: Started, photos: Path) -> None:
    first = wait_for(start_embed(str(photos), "default"), "done")
    started.join()
    write_pictures(photos, ["cat/new.png"])
    second = wait_for(start_embed(str(photos), "default"), "done")
    assert second.store == first.store
    assert len(EmbeddedDataset(Path(second.store))) == 13
    assert len(started.commands) == 2


def test_a_cancelled_job_keeps_its_work_and_goes_on_from_there(
    started: Started, make_photos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = FakeEncoder(seconds_per_image=0.01), FakeEncoder()
    monkeypatch.setattr("pvu.pipeline._load", lambda _: slow)
    job = start_embed(str(make_photos(200)), "default")
    while not slow.encoded:
        time.sleep(0.01)
    job.cancel()
    status = wait_for(job, "cancelled")
    started.join()
    assert 0 < slow.encoded < 200
    assert f"Cancelled after {slow.encoded} of 200 images. They are kept" in status.message
    assert active_jobs() == []
    monkeypatch.setattr("pvu.pipeline._load", lambda _: quick)
    again = start_embed(**job.arguments)
    assert again.folder == job.folder
    assert len(EmbeddedDataset(Path(wait_for(again, "done").store))) == 200
    assert quick.encoded == 200 - slow.encoded


def test_a_folder_without_images_is_said_in_a_sentence(started: Started, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    status = wait_for(start_embed(str(tmp_path / "empty"), "default"), "failed")
    assert status.message.startswith(f"Found 0 images in {tmp_path / 'empty'} (1 other files). Supported extensions:")
    assert "Traceback" not in status.message
    assert status.store == ""


def test_something_unforeseen_is_said_with_the_place_of_the_details(
    started: Started, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr("pvu.pipeline._load", broken)
    job = start_embed(str(photos), "default")
    status = wait_for(job, "failed")
    assert "(ZeroDivisionError: by accident)" in status.message
    assert str(job.folder / "log.txt") in status.message


def asked_for(source: str) -> Job:
    """A job that was asked for, of whose process nothing is known."""
    job = find_job(source)
    job.folder.mkdir(parents=True)
    arguments = {"source": source, "model": "default", "table": None}
    (job.folder / "job.json").write_text(json.dumps({"kind": "embed", "arguments": arguments}))
    return job


def write_status(job: Job, **status: Any) -> None:
    (job.folder / "status.json").write_text(json.dumps(status))


def test_a_job_without_a_process_has_crashed() -> None:
    job = asked_for("somewhere")
    write_status(job, state="running", started=time.time(), pid=1)
    (job.folder / "log.txt").write_text("INFO: fine\n\nKilled: out of memory\n")
    status = job.status()
    assert status.state == "crashed"
    assert status.message.startswith("The run ended unexpectedly; finished images are kept, start again to go on.")
    assert status.message.endswith("Its last words: Killed: out of memory")
    assert not status.active
    assert active_jobs() == []


def test_a_job_of_the_first_version_is_still_understood(pvu_home: Path) -> None:
    job = Job(pvu_home / "jobs" / "old")
    job.folder.mkdir(parents=True)
    (job.folder / "job.json").write_text(json.dumps({"source": "cats", "model": "m", "table": None}))
    write_status(job, state="done", started=time.time(), store="/somewhere")
    assert active_jobs() == []
    assert job.status().state == "done"
    write_status(job, state="running", started=time.time(), pid=1)
    assert "finished images are kept" in job.status().message
    assert (job.kind, job.arguments["source"]) == ("embed", "cats")


def test_a_job_that_is_just_starting_is_given_time() -> None:
    job = asked_for("somewhere")
    write_status(job, state="starting", started=time.time())
    assert job.status().state == "starting"
    write_status(job, state="starting", started=time.time() - 3600)
    assert job.status().state == "crashed"
    with FileLock(job.folder / "lock"):  # it holds its lock: slow, but alive
        assert job.status().state == "starting"
        assert [found.folder for found in active_jobs()] == [job.folder]


def test_watchers_never_read_half_a_status(
    started: Started, make_photos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    write = jobs._write_status

    def count(folder: Path, status: dict[str, Any]) -> None:
        nonlocal written
        written += 1
        for _ in range(50):
            write(folder, {**status, "message": "x" * 20_000})

    monkeypatch.setattr(jobs, "_write_status", count)
    job = start_embed(str(make_photos(40)), "default")
    reads = 0
    while job.status().active:  # raises if the JSON is cut
        reads += 1
    assert job.status().state == "done"
    assert reads > 20
    assert written > 3
    started.join()  # the last status is written fifty times, and the first of them says "done" already
    assert list(job.folder.glob("*.tmp")) == []


def count_to(arguments: dict[str, Any], progress: ProgressCallback, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Work of another kind."""
    for step in range(arguments["steps"]):
        progress(Progress("count", step, arguments["steps"], unit="steps", curve=(1.0, 0.5)))
        if should_stop():
            raise Cancelled(f"Cancelled at step {step}. Nothing is kept.")
        time.sleep(0.01)
    return {"counted": arguments["steps"]}


@pytest.fixture
def counting(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "count", jobs.Kind(f"{__name__}:count_to", "nothing is kept, start it again"))


@pytest.mark.usefixtures("counting")
def test_another_kind_of_work_gives_back_what_it_likes() -> None:
    job = jobs.start("count", steps=40)
    seen = []
    while (status := job.status()).active:
        seen.append(status.progress)
        time.sleep(0.01)
    assert (status.state, status.result, status.store) == ("done", {"counted": 40}, "")
    assert (job.kind, job.arguments) == ("count", {"steps": 40})
    assert seen[-1] is not None
    assert (seen[-1].unit, seen[-1].curve) == ("steps", (1.0, 0.5))


@pytest.mark.usefixtures("counting")
def test_another_kind_of_work_is_cancelled_in_its_own_words() -> None:
    job = jobs.start("count", steps=100_000)
    wait_for(job, "running")
    assert [found.folder for found in active_jobs("count")] == [job.folder]
    assert active_jobs("embed") == []
    job.cancel()
    assert wait_for(job, "cancelled").message.endswith("Nothing is kept.")


@pytest.mark.usefixtures("counting")
def test_what_is_kept_of_a_crash_is_said_in_the_words_of_the_kind() -> None:
    job = jobs.find_job("count", steps=5)
    job.folder.mkdir(parents=True)
    (job.folder / "job.json").write_text(json.dumps({"kind": "count", "arguments": {"steps": 5}}))
    write_status(job, state="running", started=time.time(), pid=1)
    assert job.status().message == "The run ended unexpectedly; nothing is kept, start it again."


def test_the_order_of_arguments_says_nothing() -> None:
    assert jobs.find_job("a", x=1, y=2).folder == jobs.find_job("a", y=2, x=1).folder
    assert jobs.find_job("a", x=1, y=2).folder != jobs.find_job("b", x=1, y=2).folder


def test_an_unknown_kind_is_refused_before_anything_is_written() -> None:
    with pytest.raises(ValueError, match="no kind of work named 'nonsense'"):
        jobs.start("nonsense", x=1)
    assert not (home() / "jobs").exists()


@pytest.mark.parametrize("kind", jobs.KINDS)
def test_the_work_of_every_kind_is_there(kind: str) -> None:
    module, _, function = jobs.KINDS[kind].work.partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Path]:
    """A folder for a job in a real process, with the real model; whatever still runs is ended."""
    write_pictures(tmp_path / "real", [f"{label}/{i}.jpg" for label in ("a", "b") for i in range(6)], size=(96, 80))
    yield tmp_path / "real"
    for job in active_jobs():
        pid = json.loads((job.folder / "status.json").read_text()).get("pid")
        if pid:
            os.kill(pid, signal.SIGKILL)


def test_a_real_process_does_the_work(real: Path) -> None:
    job = start_embed(str(real), "default")
    assert job.status().state == "starting"
    status = wait_for(job, "done", "failed", "crashed", seconds=200)
    assert status.state == "done", f"{status.message} {log_of(job)}"
    dataset = EmbeddedDataset(Path(status.store))
    assert len(dataset) == 12
    assert set(dataset.labels) == {"a", "b"}


SLOW = """
import sys, time
from pathlib import Path
from pvu import jobs
import pvu.pipeline
from tests.fakes import FakeEncoder
pvu.pipeline._load = lambda _: FakeEncoder(seconds_per_image=0.02)
jobs.run(Path(sys.argv[1]))
"""


def test_a_killed_process_has_crashed_and_its_work_goes_on(
    make_photos: Callable[..., Path], quick_map: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(make_photos(700))
    processes: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def slow(command: list[str], **options: Any) -> None:
        processes.append(popen([sys.executable, "-c", SLOW, command[-1]], **options))

    monkeypatch.setattr(jobs.subprocess, "Popen", slow)
    job = start_embed(source, "default")
    deadline = time.monotonic() + 100
    while not ((status := job.status()).progress and status.progress.phase == "images" and status.progress.done > 300):
        assert status.active, f"{status} {log_of(job)}"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    processes[0].kill()
    processes[0].wait()
    status = job.status()
    assert status.state == "crashed"
    assert "finished images are kept, start again to go on" in status.message
    encoder = FakeEncoder()
    assert len(embed(source, model=encoder, workers=0)) == 700
    assert encoder.encoded <= 700 - 256  # the finished shard was not done again


def test_the_lock_is_held_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    # Else a job on a busy machine looks crashed while torch is still being imported, and is started a second time.
    code = "import sys, pvu.jobs; print([name for name in ('torch', 'pandas', 'timm') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    job = Job(tmp_path)
    held: list[bool] = []

    def import_embed(name: str, *rest: Any) -> Any:
        if name == "pvu.pipeline":
            held.append(job._is_locked())
        return real_import(name, *rest)

    real_import = __import__
    arguments = {"source": str(tmp_path / "absent"), "model": "m", "table": None}
    (tmp_path / "job.json").write_text(json.dumps({"kind": "embed", "arguments": arguments}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.__import__", import_embed)
        jobs.run(tmp_path)
    assert held[0]
    assert job.status().state == "failed"


def test_stopped_jobs_are_those_that_could_go_on(pvu_home: Path) -> None:
    states = {"cats": "cancelled", "dogs": "failed", "owls": "done", "yaks": "running"}  # nobody works on the yaks
    for number, (name, state) in enumerate(states.items()):
        job = jobs.find_job("embed", source=name, model="m", table=None)
        job.folder.mkdir(parents=True)
        (job.folder / "job.json").write_text(json.dumps({"kind": "embed", "arguments": {"source": name}}))
        (job.folder / "status.json").write_text(json.dumps({"state": state, "started": 0.0}))
        os.utime(job.folder / "status.json", (number, number))
    stopped = jobs.stopped_jobs("embed")
    assert [job.arguments["source"] for job in stopped] == ["yaks", "cats"]
    assert jobs.stopped_jobs("copy") == []
    stopped[1].forget()
    assert [job.arguments["source"] for job in jobs.stopped_jobs("embed")] == ["yaks"]
    assert len(list((pvu_home / "jobs").glob("*/status.json"))) == 3
