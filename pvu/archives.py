"""Unpack archives and uploads from people whom nobody vouches for: everything is checked before anything is written."""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from pvu.errors import SourceError
from pvu.paths import home

MAX_FILES = 200_000
MAX_BYTES = 50 * 2**30
# A zip of pictures hardly shrinks; a hundredfold one is a bomb.
MAX_RATIO = 100
_CHUNK = 1 << 20
# zipfile and its decompressors raise all of these on damaged or unusual archives.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(OSError, EOFError, ValueError, OverflowError, RuntimeError),
)


class UploadedFile(Protocol):
    """What a browser upload looks like: a relative name and the bytes."""

    name: str
    size: int

    def getbuffer(self) -> memoryview: ...


def extract_zip(archive: Path | BinaryIO, *, name: str | None = None) -> Path:
    """Unpack a .zip under ``PVU_HOME/sources``; the same archive again gives the same folder at once.

    Args:
        archive: a path, or an open binary file.
        name: what to call the folder; None takes the path's.

    Returns:
        The folder that holds the files.

    Raises:
        SourceError: if it is no zip, is encrypted, holds a path that escapes or a link, or is too large.
    """
    name = name or (archive.stem if isinstance(archive, Path) else "upload")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check_members(members, name)
            entries = ((m.filename, m.file_size, m.CRC) for m in members)
            target = source_folder(name, repr(sorted(entries)).encode())
            if target.is_dir():
                return target
            with replacing(target) as partial:
                for member in members:
                    with opened.open(member) as source:
                        _write(partial, member.filename, source, member.file_size)
    except _DAMAGE as error:
        raise SourceError(f"{name} is not a .zip that can be read ({error}).") from error
    return target


def save_upload(files: Sequence[UploadedFile], *, name: str = "upload") -> Path:
    """Write an uploaded folder under ``PVU_HOME/sources``; the same files again give the same folder at once.

    Raises:
        SourceError: if a name escapes the folder, or there are too many files or bytes.
    """
    check_limits(len(files), sum(file.size for file in files), name)
    paths = [safe_path(file.name) for file in files]
    digest = hashlib.blake2b()
    for path, file in sorted(zip(paths, files, strict=True), key=lambda pair: str(pair[0])):
        digest.update(f"{path}\0{file.size}\0".encode())
        digest.update(file.getbuffer())
    top = {path.parts[0] for path in paths if len(path.parts) > 1}
    target = source_folder(top.pop() if len(top) == 1 else name, digest.digest())
    if target.is_dir():
        return target
    with replacing(target) as partial:
        for path, file in zip(paths, files, strict=True):
            write_bytes(partial / path, [file.getbuffer()])
    return target


def safe_path(name: str) -> PurePosixPath:
    """A member's or upload's name as a relative path that stays inside its folder.

    Raises:
        SourceError: if it is absolute, climbs with "..", or is empty.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    escapes = path.is_absolute() or ".." in path.parts or re.match(r"^[A-Za-z]:", name) or "\0" in name
    if escapes or not path.parts:
        raise SourceError(f"Refused: the name {name!r} leads outside its folder. Nothing was written.")
    return path


def _check_members(members: list[zipfile.ZipInfo], name: str) -> None:
    for member in members:
        safe_path(member.filename)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise SourceError(f"Refused: {name} holds the link {member.filename!r}. Nothing was written.")
        if member.flag_bits & 0x1:
            raise SourceError(f"{name} is encrypted. Unpack it yourself and give the folder.")
        if member.file_size > MAX_RATIO * max(member.compress_size, 1 << 16):
            raise SourceError(
                f"Refused: {member.filename!r} in {name} grows {member.file_size // max(member.compress_size, 1)} "
                "times when unpacked. Nothing was written."
            )
    check_limits(len(members), sum(member.file_size for member in members), name)


def check_limits(files: int, size: int, name: str) -> None:
    """Before anything is written: whether so many files and bytes may be unpacked, and fit on the disk.

    Raises:
        SourceError: if not, or if there are no files.
    """
    if files == 0:
        raise SourceError(f"{name} holds no files.")
    if files > MAX_FILES:
        raise SourceError(f"{name} holds {files:,} files, at most {MAX_FILES:,} are taken. Give a folder path instead.")
    if size > MAX_BYTES:
        raise SourceError(f"{name} unpacks to {size / 2**30:.0f} GiB, at most {MAX_BYTES >> 30} GiB are taken.")
    free = shutil.disk_usage(_existing(home())).free
    if size > free - 2**28:
        raise SourceError(f"{name} needs {size / 2**20:.0f} MiB, but {free / 2**20:.0f} MiB are free in {home()}.")


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def source_folder(name: str, content: bytes) -> Path:
    """Where something is unpacked: PVU_HOME/sources/NAME-HASH, with the hash of what tells its content apart."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "upload"
    return home() / "sources" / f"{slug}-{hashlib.blake2b(content, digest_size=6).hexdigest()}"


class replacing:  # noqa: N801 (used as a context manager, like a function)
    """A folder beside the target that becomes the target only if all went well."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f"{target.name}.{os.getpid()}.partial")

    def __enter__(self) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self.folder

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and not self.target.exists():
            os.replace(self.folder, self.target)
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(folder: Path, name: str, source: Iterable[bytes] | BinaryIO, declared: int) -> None:
    """Copy one member, and stop if it is longer than its header said: headers may lie."""

    def chunks() -> Iterable[bytes]:
        left = declared
        while chunk := source.read(_CHUNK):  # type: ignore[union-attr]
            left -= len(chunk)
            if left < 0:
                raise SourceError(f"Refused: {name!r} is longer than the archive says.")
            yield chunk

    write_bytes(folder / safe_path(name), chunks())


def write_bytes(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write one file and the folders above it.

    Raises:
        SourceError: if the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
    except OSError as error:  # a name that is too long, or a file and a folder of one name, or a full disk
        raise SourceError(f"{path.name[:80]!r} cannot be unpacked ({error.strerror or error}).") from error
