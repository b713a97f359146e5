"""Parquet and Arrow files whose rows are images, as Hugging Face's ``datasets`` and its hub write them.

No pyarrow before a table is read: decoding workers import this module's users and start fast.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pvu.errors import SourceError

SUFFIXES = (".parquet", ".arrow")
IMAGE_COLUMNS = ("image", "img", "jpg", "png")
LABEL_COLUMNS = ("wnid", "label", "labels", "fine_label", "class", "cls")
_BATCH = 64  # rows in memory at a time: photographs have megabytes each
# Parts of a file's place that say where it is and not what split it holds.
_NO_SPLIT = re.compile(r"|data|default|plain_text|\d+")


@dataclass(frozen=True)
class ImageTable:
    """A file with an image in every row.

    Args:
        path: the .parquet or .arrow file.
        schema: its pyarrow.Schema.
        image: the column that holds the images' bytes.
        label: the column of labels, or None.
        rows: how many.
        size: bytes of all images, as the file declares them.
    """

    path: Path
    schema: Any
    image: str
    label: str | None
    rows: int
    size: int

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """pyarrow.RecordBatches of some columns, a few rows in memory at a time.

        Raises:
            OSError, ValueError: if the file is damaged.
        """
        if self.path.suffix.lower() == ".arrow":
            yield from open_arrow(self.path).select(list(columns)).to_batches(max_chunksize=_BATCH)
            return
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            yield from file.iter_batches(batch_size=_BATCH, columns=list(columns), use_threads=False)


def read_frame(path: Path) -> ImageTable:
    """What an image table says of itself, without reading any image.

    Raises:
        SourceError: if it cannot be read, or has no column of images, or several and none has a usual name.
    """
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".arrow":
            table = open_arrow(path)
            image, label = image_and_label(path, table.schema)
            return ImageTable(path, table.schema, image, label, table.num_rows, int(table[image].nbytes))
        with pq.ParquetFile(path) as file:
            image, label = image_and_label(path, file.schema_arrow)
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            size = sum(bytes_of_column(group, image) for group in groups)
            return ImageTable(path, file.schema_arrow, image, label, file.metadata.num_rows, size)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise unreadable(path, error) from error


def unreadable(path: Path, error: BaseException) -> SourceError:
    """The sentence about a file that is no table, or a damaged one."""
    return SourceError(f"{path} is not a table that can be read ({error}). Copy it again.")


def open_arrow(path: Path) -> Any:
    """The memory-mapped pyarrow.Table of an Arrow file, a stream as ``datasets`` writes it, or one with a directory.

    Reads nothing but its frame.

    Raises:
        OSError, ValueError: if it is none.
    """
    import pyarrow as pa

    mapped = pa.memory_map(str(path))
    has_directory = mapped.read(6) == b"ARROW1"
    mapped.seek(0)
    return (pa.ipc.open_file if has_directory else pa.ipc.open_stream)(mapped).read_all()


def bytes_of_column(group: Any, column: str) -> int:
    """The uncompressed bytes of a column, with what is nested in it, in a Parquet row group's metadata."""
    parts = (group.column(index) for index in range(group.num_columns))
    return sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == column)


def image_and_label(path: Path, schema: Any) -> tuple[str, str | None]:
    """The column of images and that of labels (None if there is none).

    Args:
        path: the table's file, to be named if it will not do.
        schema: its pyarrow.Schema.

    Raises:
        SourceError: unless there is one column of bytes, or of {bytes, path}, or one of a usual name among several.
    """
    images = [field.name for field in schema if _holds_bytes(field.type)]
    images = [name for name in IMAGE_COLUMNS if name in images][:1] or images
    if len(images) != 1:
        raise SourceError(
            f"{path} has the columns {', '.join(schema.names)}, of which {len(images)} hold image bytes. Expected one, "
            f"or one named {' or '.join(IMAGE_COLUMNS)}."
        )
    return images[0], next((name for name in LABEL_COLUMNS if name in schema.names), None)


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def class_names(schema: Any, column: str | None) -> list[str] | None:
    """The names of a column's numbers, which ``datasets`` keeps in the schema's metadata; None if it has none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):  # not written by datasets, or not a class label
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def name_of(number: Any, names: list[str] | None) -> str | None:
    """A label as text: a number by its name if it has one; None where there is none (-1 in test sets: unknown)."""
    if number is None or isinstance(number, str):
        return number or None
    if isinstance(number, int) and not isinstance(number, bool):
        if number < 0:
            return None
        return names[number] if names and number < len(names) else str(number)
    return str(number) if isinstance(number, float | bool) else None


def image_bytes(value: Any) -> bytes | None:
    """The bytes in a cell of the images' column; None if it holds none."""
    data = value.get("bytes") if isinstance(value, dict) else value
    return data if isinstance(data, bytes) else None


def split_of(name: str) -> str:
    """The split that a table's relative path names: "train" of data/train-00000-of-00002.parquet; "" if none."""
    path = PurePosixPath(name)
    stem = re.sub(r"-\d{5}-of-\d{5}.*$", "", path.stem)
    parts: list[str] = []
    for part in (*path.parts[:-1], stem):
        if not _NO_SPLIT.fullmatch(part) and part not in parts[-1:]:
            parts.append(part)
    return "/".join(parts)
