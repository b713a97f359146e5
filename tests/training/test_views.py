from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import packing
import pytest
from PIL import Image

from pvu.images import Preprocessing
from training.augment import Augmentation
from training.data import SourceConfig, list_images
from training.views import CHUNK, Chunk, chunks_of, make_views, views_in_order

SMALL = Preprocessing(size=16)


class Killer(type(pathlib.Path())):  # type: ignore[misc]
    """A path that ends the process that it is sent to, as an image does that crashes its decoder."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (1,)


@pytest.fixture
def numbered(tmp_path: Path) -> list[Path]:
    """Pictures of one grey each: picture i is all i."""
    paths = [tmp_path / f"{index:02d}.png" for index in range(3 * CHUNK + 5)]
    for index, path in enumerate(paths):
        Image.new("L", (20, 20), index).save(path)
    return paths


def chunks(paths: list[Path]) -> list[Chunk]:
    parts = [tuple(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
    return [Chunk(tuple(map(str, part)), part, 0, 0, Augmentation(), SMALL) for part in parts]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_view_once_and_in_order(numbered: list[Path], workers: int) -> None:
    made = list(views_in_order(chunks(numbered), workers))
    assert [len(pixels) for pixels, _ in made] == [CHUNK] * 3 + [5]
    assert np.concatenate([pixels[:, 0, 0, 0] for pixels, _ in made]).tolist() == list(range(len(numbered)))
    assert all((changes == [1, 1, 0, 0]).all() for _, changes in made)


def test_an_image_that_kills_its_worker_costs_only_itself(numbered: list[Path]) -> None:
    culprits = (CHUNK + 3, CHUNK + 9)
    for culprit in culprits:
        numbered[culprit] = Killer(numbered[culprit])
    made = list(views_in_order(chunks(numbered), 2))
    shown = np.concatenate([pixels[:, 0, 0, 0] for pixels, _ in made])
    decoded = np.concatenate([changes[:, 0] for _, changes in made])
    assert np.flatnonzero(decoded == 0).tolist() == list(culprits)
    assert shown[decoded == 1].tolist() == [i for i in range(len(numbered)) if i not in culprits]


def test_a_reader_that_stops_early_leaves_no_workers(numbered: list[Path]) -> None:
    def children() -> set[str]:
        return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

    if not Path("/proc").is_dir():
        pytest.skip("needs /proc to see processes")
    before = children()
    views = views_in_order(chunks(numbered), 2)
    next(views)
    workers = children() - before
    assert workers
    views.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 30
    while workers & children() and time.monotonic() < deadline:
        time.sleep(0.05)
    # multiprocessing's own resource tracker stays for the next pool.
    left = [pid for pid in workers & children() if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert left == []


def test_views_are_the_same_from_an_archive(data: Path) -> None:
    packing.write_tar(data / "packed" / "labelled.tar", packing.files_of(data / "labelled"))
    source = SourceConfig("labelled", passes=1)
    augmentation = Augmentation(degrade=0.5)
    for pass_index in (0, 1):
        made = [
            [
                make_views(chunk)
                for chunk in chunks_of(
                    list_images(place, source), SMALL, pass_index=pass_index, seed=3, augmentation=augmentation
                )
            ]
            for place in (data, data / "packed")
        ]
        for (pixels, changes), (packed_pixels, packed_changes) in zip(*made, strict=True):
            np.testing.assert_array_equal(pixels, packed_pixels)
            np.testing.assert_array_equal(changes, packed_changes)
            assert pixels.std() > 10


def test_a_bad_image_is_black_and_counted(tmp_path: Path) -> None:
    packing.write_zip(tmp_path / "set.zip", [("a/x.png", b"no picture")])
    (chunk,) = chunks_of(list_images(tmp_path, SourceConfig("set", passes=0)), SMALL)
    pixels, changes = make_views(chunk)
    assert not pixels.any()
    assert changes.tolist() == [[0, 0, 0, 0]]
