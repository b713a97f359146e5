"""Lists the images of a source, whatever holds them: a folder tree, zips, tars, WebDataset shards, tables.

Nothing is unpacked: each image is given as the place where its bytes are. Archives are listed by their directories
(zip), headers (tar) or label columns (tables) alone.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pvu.errors import SourceError
from pvu.images import EXTENSIONS
from pvu.tables import LABEL_COLUMNS, bytes_of_column, class_names, image_and_label, name_of, open_arrow, unreadable
from training.members import Cell, Member, TarMember, ZipMember

CONTAINERS = (".zip", ".tar", ".parquet", ".arrow")
WNID = re.compile(r"n\d{8}")
MAX_GROUP = 1 << 31  # bytes of images in a row group, which workers read whole
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_MAX_LABEL_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a source.

    Args:
        name: its path in the source, with /; inside an archive below the archive's.
        member: where its bytes are.
        size: bytes; of a table's images, whose sizes only reading would tell, those of the whole table.
        label: the label's name, or None.
        number: the label's number where the source numbers its labels, or None.
    """

    name: str
    member: Member
    size: int
    label: str | None
    number: int | None = None


def find_files(folder: Path) -> list[Path]:
    """The files of a folder that hold its images, all of one kind: image files, or containers with one extension.

    Raises:
        SourceError: if there are none, or of two kinds.
    """
    kinds: dict[str, list[Path]] = {}
    for path in sorted(Path(at, name) for at, _, names in os.walk(folder) for name in names):
        suffix = path.suffix.lower()
        kind = suffix if suffix in CONTAINERS else "images" if suffix in EXTENSIONS else ""
        if path.name.lower().endswith(_COMPRESSED):
            kind = "compressed"
        if kind and path.is_file():
            kinds.setdefault(kind, []).append(path)
    if len(kinds) > 1:
        found = " and ".join(f"{len(paths)} {kind}" for kind, paths in sorted(kinds.items()))
        raise SourceError(f"{folder} holds {found}. Name those that are meant: path: {folder.name}/*.tar, say.")
    if not kinds:
        raise SourceError(
            f"Found 0 images in {folder}. Supported extensions: {', '.join(sorted(EXTENSIONS))}; "
            f"or {', '.join(CONTAINERS)} files that hold such images."
        )
    (paths,) = kinds.values()
    return paths


def list_entries(root: Path, files: Sequence[Path]) -> Iterator[Entry]:
    """The images of the files of a source, file by file, in the order of their names.

    Args:
        root: the folder that names are relative to.
        files: image files, or containers.

    Raises:
        SourceError: if a container cannot be read.
    """
    for path in files:
        suffix = path.suffix.lower()
        if suffix in EXTENSIONS:
            yield _entry_of_file(root, path)
            continue
        if suffix not in CONTAINERS:
            raise SourceError(_unknown(path))
        listed = {".zip": _zip_entries, ".tar": _tar_entries}.get(suffix, _table_entries)(path)
        # One archive is as good as its folder; of several, each is a folder of its own.
        prefix = "" if path == root else path.relative_to(root).with_suffix("").as_posix() + "/"
        by_name = {entry.name: entry for entry in listed}  # of two members with one name, the last counts, as unpacked
        for _, entry in sorted(by_name.items(), key=lambda item: item[0].split("/")):
            yield replace(entry, name=prefix + entry.name)


def _unknown(path: Path) -> str:
    if path.name.lower().endswith(_COMPRESSED):
        return (
            f"{path} is compressed, so that its images cannot be read in place. Undo the compression (gunzip, say); "
            "the tar itself need not be unpacked."
        )
    if path.suffix.lower() in (".h5", ".hdf5"):
        return f"{path} holds representations, not images. Turn it into a cache with training.hdf5."
    return f"{path} holds no images that can be read. Expected a folder of images, or {', '.join(CONTAINERS)}."


def _entry_of_file(root: Path, path: Path) -> Entry:
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # gone since it was found: it will count as undecodable
    at_top = path.parent == root and not WNID.fullmatch(root.name)
    return Entry(path.relative_to(root).as_posix(), path, size, None if at_top else path.parent.name)


def _label_of(name: str, archive: Path) -> str | None:
    """The label of a member: its folder's name, or the wnid that its archive is named by (one tar a wnid)."""
    folder = PurePosixPath(name).parent.name
    return folder or (archive.stem if WNID.fullmatch(archive.stem) else None)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = path.name.startswith(".") or path.parts[:1] == ("__MACOSX",)  # a Mac's notes on the files beside them
    return path.suffix.lower() in EXTENSIONS and not hidden


def _zip_entries(path: Path) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if _is_image(member.filename)]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} is not a .zip that can be read ({error}). Copy it again.") from error
    if any(member.flag_bits & 0x1 for member in members):
        raise SourceError(f"{path} is encrypted. Unpack it yourself and give the folder.")
    for member in members:
        label = _label_of(member.filename, path)
        yield Entry(member.filename, ZipMember(path, member.filename), member.file_size, label)


def _tar_entries(path: Path) -> Iterator[Entry]:
    """The images of a tar; with labels from the files beside them if it is a WebDataset shard (key.jpg, key.cls)."""
    images: list[Entry] = []
    labels: dict[str, str | int | None] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for name, member, start, text in _walk(archive):
                key = _webdataset_key(name)
                if text is None:
                    images.append(Entry(name, TarMember(path, start, member.size), member.size, _label_of(name, path)))
                elif name.endswith(".cls") or key not in labels:
                    labels[key] = _label_in(name, text)
    except (OSError, tarfile.TarError, EOFError, ValueError, RecursionError) as error:  # a tar in a tar in a ...
        raise SourceError(f"{path} is not a whole, uncompressed tar ({error}). Copy it again.") from error
    for image in images:
        label = labels.get(_webdataset_key(image.name))
        if label is None:
            yield image
        else:
            yield replace(image, label=str(label), number=label if isinstance(label, int) else None)


def _walk(archive: tarfile.TarFile, *, base: int = 0) -> Iterator[tuple[str, tarfile.TarInfo, int, bytes | None]]:
    """Images and label files of a tar and of the tars in it: name, header, offset in the outermost file, label text."""
    while (member := archive.next()) is not None:
        # tarfile keeps every header, a kilobyte each, for members to be asked for by name.
        archive.members.clear()  # type: ignore[attr-defined]
        name = member.name.removeprefix("./")
        suffix = PurePosixPath(name).suffix.lower()
        if not member.isreg():
            continue
        if _is_image(name):
            yield name, member, base + member.offset_data, None
        elif suffix in (".cls", ".json") and member.size <= _MAX_LABEL_FILE:
            yield name, member, 0, _content(archive, member).read()
        elif suffix == ".tar":  # ImageNet-1k's training set is a tar of a tar a wnid
            with tarfile.open(fileobj=_content(archive, member), mode="r:") as inner:
                for below, header, start, text in _walk(inner, base=base + member.offset_data):
                    yield f"{name.removesuffix('.tar')}/{below}", header, start, text


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None  # only links and folders have none
    return content


def _webdataset_key(name: str) -> str:
    """What the files of one sample have in common: the path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label_in(name: str, text: bytes) -> str | int | None:
    """The label in a .cls file (a number or a name) or a .json file (under wnid, label, class or cls)."""
    try:
        if name.endswith(".cls"):
            value: Any = text.decode().strip()
            return int(value) if re.fullmatch(r"\d+", value) else value or None
        value = json.loads(text)
    except ValueError as error:  # of bytes, numbers and JSON alike
        raise ValueError(f"the label file {name} cannot be read: {error}") from error
    values = [value.get(column) for column in LABEL_COLUMNS] if isinstance(value, dict) else []
    return next((v for v in values if isinstance(v, str | int) and not isinstance(v, bool)), None)


def _table_entries(path: Path) -> Iterator[Entry]:
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".arrow":
            table = open_arrow(path)
            image, label = image_and_label(path, table.schema)
            counts, labels = [table.num_rows], table[label].to_pylist() if label else None
            schema, first = table.schema, -1
        else:
            with pq.ParquetFile(path) as file:
                schema, first = file.schema_arrow, 0
                image, label = image_and_label(path, schema)
                counts = [_group_rows(path, file.metadata.row_group(i), image) for i in range(file.num_row_groups)]
                labels = file.read(columns=[label]).column(0).to_pylist() if label else None
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise unreadable(path, error) from error
    names, size = class_names(schema, label), path.stat().st_size
    places = [(first + group, row) for group, count in enumerate(counts) for row in range(count)]
    for index, (group, row) in enumerate(places):
        value = labels[index] if labels else None
        number = value if isinstance(value, int) and value >= 0 else None  # -1 in test sets: unknown
        yield Entry(f"{index:07d}", Cell(path, image, group, row), size, name_of(value, names), number)


def _group_rows(path: Path, group: Any, image: str) -> int:
    size = bytes_of_column(group, image)
    if size > MAX_GROUP:
        raise SourceError(
            f"{path} has a row group of {size / 2**30:.1f} GiB of images, which every worker would hold in memory. "
            f"Write it again with row groups of some hundred images."
        )
    return int(group.num_rows)
