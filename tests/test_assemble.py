"""Shards and an older store become one store, in the order of the table of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pvu.assemble import NEIGHBORS, assemble
from pvu.catalog import partial_path
from pvu.errors import SourceError
from pvu.pipeline import embed
from pvu.progress import Progress
from pvu.shards import Result, ShardWriter
from pvu.sources import table_hash
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder

DIM = 48


def result(number: int) -> Result:
    """What a run would have found out about image ``number``: its vector and its uncertainty say which it is."""
    vector = np.zeros(DIM, np.float16)
    vector[number % DIM], vector[(number + 1) % DIM] = 1, number / 100
    return Result(
        path=f"{number:02d}.png",
        bytes=number,
        mtime_ns=number,
        width=number + 1,
        height=number + 2,
        content_hash=f"{number:032x}",
        uncertainty=number + 0.5,
        embedding=vector.tobytes(),
        thumbnail=f"thumbnail {number}".encode(),
    )


def table_of(numbers: list[int], skipped: dict[str, str] | None = None) -> pd.DataFrame:
    files = pd.DataFrame({"path": [f"{n:02d}.png" for n in numbers], "bytes": numbers, "mtime_ns": numbers})
    files["error"] = pd.Series([None] * len(files), dtype=object)
    rest = pd.DataFrame(
        [{"path": path, "bytes": 0, "mtime_ns": 0, "error": why} for path, why in (skipped or {}).items()]
    )
    files = pd.concat([files, rest], ignore_index=True) if skipped else files
    files["label"] = pd.Series([f"label of {path}" for path in files["path"]], dtype=object)
    return files[["path", "label", "bytes", "mtime_ns", "error"]]


def put_together(
    path: Path, files: pd.DataFrame, results: list[Result], previous: EmbeddedDataset | None = None
) -> EmbeddedDataset:
    writer = ShardWriter(partial_path(path) / "shards", 3)
    for each in results:
        writer.add(each)
    writer.flush()
    assemble(path, files, previous, FakeEncoder(), root=path.parent / "photos", report=lambda _: None)
    return EmbeddedDataset(path)


def check(dataset: EmbeddedDataset, numbers: list[int]) -> None:
    expected = [result(number) for number in numbers]
    assert dataset.images["path"].tolist() == [each.path for each in expected]
    assert dataset.uncertainty.tolist() == [each.uncertainty for each in expected]
    assert [dataset.embeddings[row].tobytes() for row in range(len(dataset))] == [each.embedding for each in expected]
    assert [dataset.thumbnail(row) for row in range(len(dataset))] == [each.thumbnail for each in expected]
    for column in ("bytes", "mtime_ns", "width", "height", "content_hash"):
        assert dataset.images[column].tolist() == [getattr(each, column) for each in expected]
    assert dataset.labels.tolist() == [f"label of {each.path}" for each in expected]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.usefixtures("quick_map")
def test_the_order_is_that_of_the_table_whatever_the_order_of_the_shards(path: Path) -> None:
    numbers = list(range(20))
    shuffled = np.random.default_rng(0).permutation(20).tolist()
    check(put_together(path, table_of(numbers), [result(number) for number in shuffled]), numbers)


@pytest.mark.usefixtures("quick_map")
def test_new_results_and_the_older_store_are_woven_together(path: Path) -> None:
    first = put_together(path, table_of([2, 4, 6, 8]), [result(number) for number in (8, 2, 6, 4)])
    check(first, [2, 4, 6, 8])
    wanted = [1, 2, 5, 6, 8, 9]  # 4 is gone
    second = put_together(path, table_of(wanted), [result(number) for number in (9, 1, 5)], first)
    check(second, wanted)
    assert second.manifest["counts"] == {"images": 6, "failed": 0}


@pytest.mark.usefixtures("quick_map")
def test_failures_are_apart_sorted_and_kept_over_runs(path: Path) -> None:
    broken = Result("03.png", 3, 3, error="truncated")
    files = table_of([1, 2, 3, 5], {"00.txt": "not an image type that is read (.txt)", "04.png": "empty file"})
    first = put_together(path, files, [result(1), broken, result(5), result(2)])
    check(first, [1, 2, 5])
    expected = [["00.txt", "not an image type that is read (.txt)"], ["03.png", "truncated"], ["04.png", "empty file"]]
    assert first.failed.to_numpy().tolist() == expected
    assert first.manifest["counts"] == {"images": 3, "failed": 3}
    again = put_together(path, files, [], first)
    check(again, [1, 2, 5])
    assert again.failed.to_numpy().tolist() == expected


@pytest.mark.usefixtures("quick_map")
def test_an_image_that_was_done_twice_is_there_once_and_its_newest_result_counts(path: Path) -> None:
    first = put_together(path, table_of([1, 2]), [result(1), result(2)])
    newer = Result(**{**vars(result(2)), "uncertainty": 99.0})
    second = put_together(path, table_of([1, 2]), [newer, newer], first)
    assert second.uncertainty.tolist() == [1.5, 99.0]


@pytest.mark.usefixtures("quick_map")
def test_results_of_images_that_have_changed_since_are_left_out(path: Path) -> None:
    files = table_of([1, 2])
    old = Result(**{**vars(result(1)), "mtime_ns": 0, "uncertainty": 99.0})
    check(put_together(path, files, [old, result(1), result(2)]), [1, 2])


@pytest.mark.usefixtures("quick_map")
def test_the_manifest_knows_the_table_and_its_columns(path: Path) -> None:
    files = table_of([1, 2, 3]).assign(weather=["rain", None, "sun"], count=[1, 2, 3])
    dataset = put_together(path, files, [result(number) for number in (1, 2, 3)])
    assert dataset.manifest["table_hash"] == table_hash(files)
    assert dataset.metadata_columns == ["weather", "count"]
    assert dataset.images["count"].tolist() == [1, 2, 3]
    assert dataset.images["weather"].tolist()[::2] == ["rain", "sun"]
    assert pd.isna(dataset.images["weather"][1])


@pytest.mark.usefixtures("quick_map")
def test_a_head_that_gave_no_value_for_one_image_is_no_head(path: Path) -> None:
    nameless = Result(**{**vars(result(2)), "uncertainty": float("nan")})
    assert not put_together(path, table_of([1, 2]), [result(1), nameless]).has_uncertainty


def test_nothing_readable_leaves_no_store(path: Path) -> None:
    broken = [Result(f"{number:02d}.png", number, number, error="empty file") for number in (1, 2)]
    with pytest.raises(SourceError, match=r"None of the 2 images could be read\. The first, 01\.png: empty file"):
        put_together(path, table_of([1, 2]), broken)
    assert not path.exists()


def test_the_whole_path_with_the_real_map(photos: Path) -> None:
    seen: list[Progress] = []
    dataset = embed(photos, model=FakeEncoder(), workers=0, progress=seen.append)
    assert dataset.coords.shape == (12, 2)
    assert np.isfinite(dataset.coords).all()
    assert len(np.unique(dataset.coords, axis=0)) == 12
    assert dataset.neighbors.shape == (12, min(NEIGHBORS, 11))
    # Images of one label look alike, so they are each other's neighbours, and close on the map.
    assert (dataset.labels[dataset.neighbors[:, :3]] == dataset.labels[:, None]).all()
    distances = np.linalg.norm(dataset.coords[:, None] - dataset.coords, axis=2)
    same = dataset.labels[:, None] == dataset.labels
    assert distances[same].mean() < distances[~same].mean()
