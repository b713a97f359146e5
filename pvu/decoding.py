"""Decode many images in worker processes, in order, whatever the files do to the workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from pvu.errors import BadImageError
from pvu.images import DecodedImage, Preprocessing, decode_file

# One task: enough images to make the hand-over cheap, few enough to keep a CPU's model fed evenly.
CHUNK = 16

Outcome = DecodedImage | str
"""A decoded image, or in plain words why there is none."""


def decode_chunk(paths: Sequence[Path], preprocessing: Preprocessing) -> list[Outcome]:
    """Decode a few images, one outcome each."""
    outcomes: list[Outcome] = []
    for path in paths:
        try:
            outcomes.append(decode_file(path, preprocessing))
        except BadImageError as error:
            outcomes.append(str(error))
    return outcomes


def decode_all(
    paths: Sequence[Path], preprocessing: Preprocessing, *, workers: int, chunk: int = CHUNK
) -> Iterator[list[Outcome]]:
    """Decode images in ``workers`` processes, ahead of the consumer but never far ahead.

    A file that kills its worker (a decoder's crash, memory) costs only itself: its chunk is done again, one image at
    a time, and the culprit's outcome says so.

    Args:
        paths: the files.
        preprocessing: what to turn them into.
        workers: number of processes; 0 decodes in this process.
        chunk: images in one task.

    Yields:
        Outcomes in the order of ``paths``, ``chunk`` at a time.
    """
    chunks = [paths[start : start + chunk] for start in range(0, len(paths), chunk)]
    if workers == 0:
        for part in chunks:
            yield decode_chunk(part, preprocessing)
        return
    done = 0
    while done < len(chunks):
        pool = worker_pool(workers)
        try:
            for outcomes in _ordered(pool, chunks[done:], preprocessing, ahead=2 * workers + 2):
                yield outcomes
                done += 1
        except BrokenProcessPool:
            yield _one_by_one(chunks[done], preprocessing)
            done += 1
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ordered(
    pool: ProcessPoolExecutor, chunks: Sequence[Sequence[Path]], preprocessing: Preprocessing, *, ahead: int
) -> Iterator[list[Outcome]]:
    pending: deque[Future[list[Outcome]]] = deque()
    for part in chunks:
        pending.append(pool.submit(decode_chunk, part, preprocessing))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _one_by_one(paths: Sequence[Path], preprocessing: Preprocessing) -> list[Outcome]:
    outcomes: list[Outcome] = []
    pool = worker_pool(1)
    for path in paths:
        try:
            outcomes += pool.submit(decode_chunk, [path], preprocessing).result()
        except BrokenProcessPool:
            outcomes.append("the image decoder crashed on it")
            pool.shutdown(wait=False)
            pool = worker_pool(1)
    pool.shutdown(wait=False)
    return outcomes


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Processes for decoding that leave Ctrl-C to their parent, give way to it, and end with it.

    Spawned, not forked: a fork would copy the threads' locks of torch and faiss in whatever state they are.
    """
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    with _main_hidden():
        for _ in range(workers):  # each starts one process
            pool.submit(os.getpid)
    return pool


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keeps spawned processes from importing the caller's script, which they do not need.

    Without this, a script that calls ``pvu.embed`` without ``if __name__ == "__main__"`` would start itself again in
    every worker.
    """
    main = sys.modules["__main__"]
    hidden: dict[str, object] = {
        name: main.__dict__[name] for name in ("__file__", "__spec__") if name in main.__dict__
    }
    main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)


def _start_worker() -> None:
    # A terminal sends Ctrl-C to every process of a run. A worker that dies of it while it holds the queue's lock hangs
    # the rest: the run's own process decides, and its workers end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The model, not the decoding, is the bottleneck: it gets the core first when both want it.
    if hasattr(os, "nice"):
        os.nice(5)
    warnings.simplefilter("ignore")  # of odd EXIF data in a file that decodes all the same
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is gone: one that was killed cannot tell its workers to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
