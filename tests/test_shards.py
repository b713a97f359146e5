"""Finished pieces survive a crash, damaged ones count as not there."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import numpy as np
import pytest

from pvu.shards import Result, ShardWriter, atomic_write, read_shards, shard_keys


def result(index: int, *, error: str | None = None) -> Result:
    if error is not None:
        return Result(f"ü{index}.png", 10 + index, 1_700_000_000_123_456_789 + index, error=error)
    return Result(
        path=f"ü{index}.png",
        bytes=10 + index,
        mtime_ns=1_700_000_000_123_456_789 + index,
        width=index + 1,
        height=index + 2,
        content_hash=f"{index:032x}",
        uncertainty=float(np.float32(0.1 * index)),
        embedding=np.arange(index, index + 4, dtype=np.float16).tobytes(),
        thumbnail=bytes([index]) * index,
    )


def fill(folder: Path, count: int, size: int = 4, start: int = 0) -> None:
    writer = ShardWriter(folder, size)
    for index in range(start, start + count):
        writer.add(result(index))
    writer.flush()


def test_round_trip_keeps_every_field(tmp_path: Path) -> None:
    fill(tmp_path / "shards", 10)
    assert list(read_shards(tmp_path / "shards")) == [result(index) for index in range(10)]
    assert shard_keys(tmp_path / "shards") == {result(index).key for index in range(10)}


def test_failures_round_trip(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 4)
    writer.add(result(1, error="truncated"))
    writer.flush()
    (read,) = read_shards(tmp_path)
    assert (read.error, read.embedding, read.thumbnail) == ("truncated", b"", b"")
    assert math.isnan(read.uncertainty)


def test_a_shard_is_written_as_soon_as_it_is_full(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 4)
    for index in range(11):
        writer.add(result(index))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["000000.parquet", "000001.parquet"]
    assert len(shard_keys(tmp_path)) == 8
    writer.flush()
    writer.flush()
    assert len(shard_keys(tmp_path)) == 11
    assert len(list(tmp_path.iterdir())) == 3


def test_a_later_run_adds_shards_behind_the_others(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    (tmp_path / "000002.parquet.tmp").write_bytes(b"half a shard")
    fill(tmp_path, 3, start=6)
    assert list(read_shards(tmp_path)) == [result(index) for index in range(9)]
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("damage", [b"", b"PAR1 and then nothing", None])
@pytest.mark.parametrize("read", [shard_keys, read_shards])
def test_a_damaged_shard_counts_as_not_there(tmp_path: Path, damage: bytes | None, read: object) -> None:
    fill(tmp_path, 12)
    victim = tmp_path / "000001.parquet"
    victim.write_bytes(victim.read_bytes()[:-100] if damage is None else damage)
    assert len(list(read(tmp_path))) == 8  # type: ignore[operator]
    assert not victim.exists()
    assert shard_keys(tmp_path) == {result(index).key for index in (*range(4), *range(8, 12))}


def test_no_folder_means_no_results(tmp_path: Path) -> None:
    assert shard_keys(tmp_path / "none") == set()
    assert list(read_shards(tmp_path / "none")) == []


def test_atomic_write_keeps_the_old_file_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"half of the ne")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, fail)
    assert path.read_bytes() == b"old"
    atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
