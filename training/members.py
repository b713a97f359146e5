"""Where the bytes of an image are, in a file of its own or inside an archive or table, and how to get at them.

Small and picklable, so that workers are told where to read and nothing is unpacked. No torch here, and pyarrow only
where a table is read: workers import this and start fast.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pvu.errors import BadImageError
from pvu.images import read_bytes
from pvu.tables import image_bytes, open_arrow

MAX_BYTES = 1 << 28  # of one image. Photographs have a hundredth of it: more is a bomb or no image
_OPEN = 8  # zips and row groups that a worker keeps open: a shard seldom spans more
# zipfile raises all of these on a damaged member; NotImplementedError, a RuntimeError, on an unknown compression.
_DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member of an uncompressed tar.

    Args:
        file: the tar.
        offset: of its first byte.
        size: bytes.
    """

    file: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A member of a zip.

    Args:
        file: the zip.
        name: of the member.
    """

    file: Path
    name: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a Parquet or Arrow table: bytes, or {bytes, path} as Hugging Face's ``datasets`` writes images.

    Args:
        file: the table.
        column: the images' column.
        group: the row group; -1 for an Arrow file, which has none.
        row: inside the group.
    """

    file: Path
    column: str
    group: int
    row: int


Member = Path | TarMember | ZipMember | Cell
"""Where the bytes of an image are; a path is a file of its own."""


def file_of(member: Member) -> Path:
    """The file that holds a member."""
    return member if isinstance(member, Path) else member.file


def read_member(member: Member) -> bytes:
    """The bytes of an image.

    Raises:
        BadImageError: if they cannot be read, or are more than MAX_BYTES.
    """
    if isinstance(member, TarMember):
        return _read_slice(member)
    if isinstance(member, ZipMember):
        return _read_zipped(member)
    if isinstance(member, Cell):
        return _read_cell(member)
    try:
        _check_size(member.stat().st_size)
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror or error})") from None
    return read_bytes(member)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise BadImageError(f"too large: {size >> 20} MiB, at most {MAX_BYTES >> 20} MiB are read")


def _read_slice(member: TarMember) -> bytes:
    _check_size(member.size)
    try:
        with member.file.open("rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror or error})") from None
    if len(data) < member.size:
        raise BadImageError("truncated")
    return data


def _read_zipped(member: ZipMember) -> bytes:
    try:
        archive = _open_zip(member.file)
        size = archive.getinfo(member.name).file_size
        _check_size(size)
        with archive.open(member.name) as content:
            # As much as the directory says; without a number zipfile would inflate all that there is, and then cut it.
            return content.read(size)
    except _DAMAGE as error:
        raise BadImageError(f"damaged in its zip ({error})"[:200]) from None


@lru_cache(maxsize=_OPEN)
def _open_zip(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _read_cell(cell: Cell) -> bytes:
    try:
        value = _cells(cell.file, cell.column, cell.group)[cell.row].as_py()
    except (OSError, ValueError, IndexError, KeyError, MemoryError) as error:  # pyarrow's own errors are ValueErrors
        raise BadImageError(f"cannot be read from its table ({error})"[:200]) from None
    data = image_bytes(value)
    if data is None:
        raise BadImageError("the table holds no bytes of it")
    _check_size(len(data))
    return data


@lru_cache(maxsize=2)
def _cells(path: Path, column: str, group: int) -> Any:
    """The images of a row group (a worker's next image is most often in the same one), or of a mapped Arrow file."""
    if group < 0:
        return open_arrow(path)[column]
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        return table.read_row_group(group, columns=[column]).column(0)
