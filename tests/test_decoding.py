"""Decoding in processes: everything once, in order, whatever the files do to the workers."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pvu.decoding import CHUNK, Outcome, decode_all, decode_chunk
from pvu.images import DecodedImage, Preprocessing

SMALL = Preprocessing(size=16)
ROOT = Path(__file__).parents[1]


class Killer(type(pathlib.Path())):  # type: ignore[misc]
    """A path that ends whichever process it is sent to, as a file does that crashes the decoder."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (1,)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of one grey each: picture i is all i."""
    folder = tmp_path_factory.mktemp("numbered")
    paths = [folder / f"{index}.png" for index in range(100)]
    for index, path in enumerate(paths):
        Image.new("L", (20, 20), index).save(path)
    return paths


def numbers(chunks: Iterator[list[Outcome]] | list[list[Outcome]]) -> list[int | str]:
    return [int(out.pixels[0, 0, 0]) if isinstance(out, DecodedImage) else out for chunk in chunks for out in chunk]


@pytest.mark.parametrize("workers", [0, 2])
def test_order_is_kept_and_chunks_are_cut_as_asked(numbered: list[Path], workers: int) -> None:
    chunks = list(decode_all(numbered, SMALL, workers=workers, chunk=7))
    assert [len(chunk) for chunk in chunks] == [7] * 14 + [2]
    assert numbers(chunks) == list(range(100))


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_chunk_boundaries(numbered: list[Path], count: int) -> None:
    chunks = list(decode_all(numbered[:count], SMALL, workers=0))
    assert numbers(chunks) == list(range(count))
    assert all(len(chunk) == CHUNK for chunk in chunks[:-1])


def test_workers_give_what_this_process_gives(numbered: list[Path]) -> None:
    here = decode_chunk(numbered[:5], SMALL)
    there = [out for chunk in decode_all(numbered[:5], SMALL, workers=1, chunk=2) for out in chunk]
    for a, b in zip(here, there, strict=True):
        assert isinstance(a, DecodedImage)
        assert isinstance(b, DecodedImage)
        np.testing.assert_array_equal(a.pixels, b.pixels)
        assert (a.thumbnail, a.content_hash) == (b.thumbnail, b.content_hash)


def test_bad_images_are_outcomes_in_their_place(numbered: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    paths = [numbered[3], tmp_path / "text.png", tmp_path / "absent.png", numbered[4]]
    got = numbers(decode_all(paths, SMALL, workers=0))
    assert got[0] == 3
    assert got[1] == "not an image, or a damaged header"
    assert str(got[2]).startswith("cannot be read (No such file")
    assert got[3] == 4


def test_a_file_that_kills_its_worker_costs_only_itself(numbered: list[Path]) -> None:
    paths: list[Path] = [*numbered[:6], Killer("killer.png"), *numbered[7:20]]
    chunks = list(decode_all(paths, SMALL, workers=2, chunk=4))
    assert [len(chunk) for chunk in chunks] == [4] * 5
    assert numbers(chunks) == [*range(6), "the image decoder crashed on it", *range(7, 20)]


def test_a_worker_that_is_killed_meanwhile_loses_nothing(numbered: list[Path]) -> None:
    before = set(multiprocessing.active_children())
    killed = 0
    got: list[list[Outcome]] = []
    for chunk in decode_all(numbered * 2, SMALL, workers=2, chunk=4):
        got.append(chunk)
        if len(got) in (2, 12):
            victim = next(iter(set(multiprocessing.active_children()) - before))
            os.kill(victim.pid or 0, signal.SIGKILL)
            victim.join(10)
            killed += 1
    assert killed == 2
    assert numbers(got) == [*range(100), *range(100)]


def test_a_consumer_that_stops_early_leaves_no_worker_behind(numbered: list[Path]) -> None:
    before = set(multiprocessing.active_children())
    chunks = decode_all(numbered, SMALL, workers=2, chunk=4)
    assert len(next(chunks)) == 4
    started = set(multiprocessing.active_children()) - before
    assert started
    chunks.close()  # type: ignore[attr-defined]
    # Looked at again and again, since the pool's own thread joins them too: of two that wait for one process, one is
    # told that it is gone, and the other that it was never there.
    deadline = time.monotonic() + 60
    while any(process.is_alive() for process in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(process.is_alive() for process in started)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = f"""
import multiprocessing, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from pvu.decoding import decode_all
from pvu.images import Preprocessing
for _ in decode_all([Path("absent.png")] * 100, Preprocessing(size=16), workers=2, chunk=2):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", script]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.kill()
    parent.wait(10)
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for yet does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_script_without_a_main_guard_embeds_once(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    """A spawned worker that imported the script would run it again, and so on for ever."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import pathlib

        import pvu
        import pvu.assemble
        from tests.fakes import FakeEncoder

        pvu.assemble.project = lambda embeddings, *_: embeddings[:, :2].astype("float32")
        with open({str(tmp_path / "starts")!r}, "a") as file:
            file.write("x")
        dataset = pvu.embed({str(make_photos(40))!r}, model=FakeEncoder(), workers=2)
        print(len(dataset), __file__)
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["40", str(script)]
    assert (tmp_path / "starts").read_text() == "x"
