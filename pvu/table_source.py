"""Tables of images as a source: their images are unpacked once, with a labels.csv of all that the tables say."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pvu.archives import MAX_BYTES, check_limits, replacing, source_folder, write_bytes
from pvu.errors import Cancelled, SourceError
from pvu.images import EXTENSIONS
from pvu.paths import is_allowed
from pvu.progress import PhaseTimer, ProgressCallback
from pvu.tables import SUFFIXES, ImageTable, class_names, image_bytes, name_of, read_frame, split_of, unreadable

# A table of photographs hardly shrinks; a hundredfold one is a bomb. As for archives.
MAX_RATIO = 100
_SLACK = 1 << 24  # a small table of one picture may be all of it repeated
_STARTS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)
_OWN = ("path", "file_name", "filename", "label", "split", "original_path")


def tables_in(folder: Path) -> list[Path]:
    """The Parquet or Arrow files that hold a folder's images; none if it holds images themselves, or neither.

    Of a folder as ``datasets.save_to_disk`` writes it these are its Arrow files, of a snapshot of the hub its Parquet
    files. Hidden folders are passed over; ends at the first image file, so that a folder of images costs nothing.
    """
    found: dict[str, list[Path]] = {suffix: [] for suffix in SUFFIXES}
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in EXTENSIONS:
                return []
            if suffix in found and not name.startswith((".", "cache-", "dataset_info")):
                found[suffix].append(Path(at, name))
    return found[".arrow"] or found[".parquet"]


def unpack_tables(
    source: Path, *, progress: ProgressCallback | None = None, should_stop: Callable[[], bool] | None = None
) -> Path:
    """Unpack the images of tables under ``PVU_HOME/sources``; the same files again give the same folder at once.

    Images get generated names, SPLIT/NUMBER.jpg. Beside them is a labels.csv with ``path``, ``label`` (numbers by their
    names), ``split`` if the files' names say so, the name that the table gives the image, and all columns of single
    values.

    Args:
        source: a .parquet or .arrow file, or a folder of some.
        progress: gets a Progress, of the phase "unpack".
        should_stop: asked after every few images; once it is true nothing is kept.

    Returns:
        The folder that holds the images.

    Raises:
        SourceError: if a table cannot be read, there are too many images or bytes, or none at all.
        Cancelled: if should_stop said so.
    """
    root = source if source.is_dir() else source.parent
    paths = tables_in(source) if source.is_dir() else [source]
    for path in paths:
        if path.is_symlink() and not (path.resolve().is_relative_to(root) or is_allowed(path)):
            raise SourceError(f"{path} is a link that leads outside the folder. To allow that, set PVU_ROOTS.")
    target = source_folder(source.stem if source.is_file() else source.name, _identity(root, paths))
    if target.is_dir():
        return target
    tables = [read_frame(path) for path in paths]
    _check(tables, source)
    splits = [split_of(path.relative_to(root).as_posix()) for path in paths]
    several = len(set(splits)) > 1
    timer = PhaseTimer("unpack", sum(table.rows for table in tables), progress or (lambda _: None))
    with replacing(target) as partial:
        unpacking = _Unpacking(partial, source, timer, should_stop or (lambda: False))
        for table, split in zip(tables, splits, strict=True):
            unpacking.add(table, split if several else "")
        unpacking.finish()
    return target


def _identity(root: Path, paths: list[Path]) -> bytes:
    stats = [(path.relative_to(root).as_posix(), path.stat()) for path in paths]
    return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]).encode()


def _check(tables: list[ImageTable], source: Path) -> None:
    """Everything that can be known before anything is written."""
    for table in tables:
        if table.size > MAX_RATIO * table.path.stat().st_size + _SLACK:
            raise SourceError(f"Refused: {table.path} unpacks to more than {MAX_RATIO} times its size.")
    check_limits(sum(table.rows for table in tables), sum(table.size for table in tables), source.name)


class _Unpacking:
    """Writes the images of tables and their labels.csv into a folder.

    Args:
        folder: where to.
        source: what is unpacked, to be named in messages.
        timer: counts the images.
        should_stop: as of :func:`unpack_tables`.
    """

    def __init__(self, folder: Path, source: Path, timer: PhaseTimer, should_stop: Callable[[], bool]) -> None:
        self.folder, self.source, self.timer, self.should_stop = folder, source, timer, should_stop
        # A repeated picture is stored once in a table, and written each time: the declared size is no limit.
        self.left = min(shutil.disk_usage(folder).free - 2**28, MAX_BYTES)
        self.entries: list[dict[str, Any]] = []
        self.images = 0

    def add(self, table: ImageTable, split: str) -> None:
        """Unpack one table.

        Args:
            table: any.
            split: what to call the folder of its images, and the value of its column ``split``; "" for neither.
        """
        label = table.label or next((name for name in table.schema.names if class_names(table.schema, name)), None)
        columns = {name: class_names(table.schema, name) for name in _scalar_columns(table) if name != label}
        names = class_names(table.schema, label)
        wanted = [table.image, *([label] if label else []), *columns]
        for rows in self._rows(table, wanted):
            for row in rows:
                own = {_free_name(name): _value(row[name], classes) for name, classes in columns.items()}
                written = self._write(row[table.image], split)
                self.entries.append(written | {"label": name_of(row[label], names) if label else None} | own)
            self.timer.step(len(rows))

    def _rows(self, table: ImageTable, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
        try:
            for batch in table.batches(columns):
                if self.should_stop():
                    raise Cancelled("Cancelled while the images were unpacked. Nothing of them is kept.")
                yield batch.to_pylist()
        except (OSError, ValueError, MemoryError) as error:  # pyarrow's own errors are ValueErrors
            raise unreadable(table.path, error) from error

    def _write(self, cell: Any, split: str) -> dict[str, Any]:
        """Write one image; gives its path, its split, and what the table calls it."""
        data = image_bytes(cell)
        number = f"{len(self.entries):07d}{_extension(data or b'')}"
        path = f"{_safe(split)}/{number}" if split else number
        if data is not None:
            self.left -= len(data)
            if self.left < 0:
                raise SourceError(
                    f"The images of {self.source} need more room than the disk has, or than the {MAX_BYTES >> 30} GiB "
                    "that are taken. Free some space, or take a part of them."
                )
            write_bytes(self.folder / path, [data])
            self.images += 1
        named = cell.get("path") if isinstance(cell, dict) else None
        return {"path": path, "split": split or None, "original_path": named or None}

    def finish(self) -> None:
        """Write labels.csv, without the columns that stayed empty."""
        if self.images == 0:
            raise SourceError(
                f"{self.source} holds no bytes of any image, perhaps only their paths. Give the folder of the images."
            )
        table = pd.DataFrame(self.entries, dtype=object).dropna(axis=1, how="all")
        table.to_csv(self.folder / "labels.csv", index=False, encoding="utf-8")


def _scalar_columns(table: ImageTable) -> list[str]:
    """The columns of single values: numbers, words, yes or no, times."""
    import pyarrow.types as kinds

    nested = (kinds.is_nested, kinds.is_binary, kinds.is_large_binary, kinds.is_null)
    return [field.name for field in table.schema if not any(is_kind(field.type) for is_kind in nested)]


def _value(value: Any, classes: list[str] | None) -> Any:
    return value if classes is None else name_of(value, classes)


def _free_name(column: str) -> str:
    return f"{column}_in_table" if column in _OWN else column


def _safe(split: str) -> str:
    """A split's name as a relative path, whatever a file was called."""
    return "/".join(re.sub(r"[^A-Za-z0-9_-]+", "-", part) for part in split.split("/"))


def _extension(data: bytes) -> str:
    """What the first bytes say; ".bin", which no image has, if they say nothing."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((extension for start, extension in _STARTS if data.startswith(start)), ".bin")
