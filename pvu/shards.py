"""Finished pieces of a run under way: what a crash cannot take back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

Key = tuple[str, int, int]
"""(relative path, bytes, mtime in ns): while it is the same, the image is taken to be the same."""

Blob = bytes  # in Result the word is a column's name


@dataclass(frozen=True)
class Result:
    """What a run found out about one image.

    Args:
        path: relative to the source, with /.
        bytes: file size.
        mtime_ns: modification time, nanoseconds.
        width: pixels; 0 if it failed.
        height: pixels; 0 if it failed.
        content_hash: hexadecimal BLAKE2b; empty if it failed.
        error: why it failed; None if it did not.
        uncertainty: u; NaN if it failed or the model has no head.
        embedding: D float16 values as bytes; empty if it failed.
        thumbnail: JPEG bytes; empty if it failed.
    """

    path: str
    bytes: int
    mtime_ns: int
    width: int = 0
    height: int = 0
    content_hash: str = ""
    error: str | None = None
    uncertainty: float = float("nan")
    embedding: Blob = b""
    thumbnail: Blob = b""

    @property
    def key(self) -> Key:
        return self.path, self.bytes, self.mtime_ns


_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("content_hash", pa.string()),
        ("error", pa.string()),
        ("uncertainty", pa.float32()),
        ("embedding", pa.binary()),
        ("thumbnail", pa.binary()),
    ]
)


class ShardWriter:
    """Collects results and writes a shard whenever it is full, each to a temporary name, fsynced and renamed.

    Args:
        folder: where the shards go; made if absent.
        size: images in a full shard: what a crash can cost.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size
        self._pending: list[Result] = []
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp"):
            leftover.unlink()
        self._next = 1 + max((int(path.stem) for path in folder.glob("*.parquet")), default=-1)

    def add(self, result: Result) -> None:
        """Take one result; it is safe once its shard is written."""
        self._pending.append(result)
        if len(self._pending) >= self.size:
            self.flush()

    def flush(self) -> None:
        """Write what is pending, if anything is, as a shard of its own."""
        if not self._pending:
            return
        table = pa.Table.from_pylist([asdict(result) for result in self._pending], schema=_SCHEMA)
        # Embeddings and JPEGs do not compress.
        atomic_write(
            self.folder / f"{self._next:06d}.parquet", lambda file: pq.write_table(table, file, compression="none")
        )
        self._next += 1
        self._pending = []


def read_shards(folder: Path) -> Iterator[Result]:
    """Every result of the finished shards, one shard in memory at a time. A damaged shard counts as not there."""
    for path in sorted(folder.glob("*.parquet")):
        try:
            rows = pq.read_table(path).to_pylist()
        except (OSError, pa.ArrowException):
            path.unlink()
            continue
        for row in rows:
            yield Result(**row)


def shard_keys(folder: Path) -> set[Key]:
    """The keys of every finished result, without loading pictures and embeddings."""
    keys: set[Key] = set()
    for path in sorted(folder.glob("*.parquet")):
        try:
            table = pq.read_table(path, columns=["path", "bytes", "mtime_ns"])
        except (OSError, pa.ArrowException):
            path.unlink()
            continue
        keys.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return keys


def atomic_write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a crash leaves the old one, the new one, or none, never half of one.

    Args:
        path: the file.
        write: gets an open binary file.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
