"""Writes a folder of labelled images in every form that a source may have."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def files_of(folder: Path) -> list[tuple[str, bytes]]:
    """Relative path and bytes of each file, not in the order of the names: archives need not be sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in reversed(paths)]


def write_zip(path: Path, files: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)


def write_tar(path: Path, files: list[tuple[str, bytes]], *, mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_wnid_tars(folder: Path, files: list[tuple[str, bytes]]) -> None:
    """As ImageNet-21k is distributed: one tar a wnid, images at its top."""
    for wnid in sorted({name.split("/")[0] for name, _ in files}):
        write_tar(folder / f"{wnid}.tar", [(n.split("/")[1], c) for n, c in files if n.startswith(wnid)])


def write_tar_of_tars(path: Path, files: list[tuple[str, bytes]], scratch: Path) -> None:
    """As ImageNet-1k's training set is distributed."""
    write_wnid_tars(scratch, files)
    write_tar(path, files_of(scratch))


def write_webdataset(folder: Path, files: list[tuple[str, bytes]], *, extension: str, shards: int = 2) -> None:
    """Shards of KEY.png with the label in KEY.cls (its number) or KEY.json (its name)."""
    names = sorted({name.split("/")[0] for name, _ in files})
    for shard in range(shards):
        members = []
        for index, (name, content) in enumerate(files[shard::shards]):
            label = name.split("/")[0]
            text = str(names.index(label)) if extension == "cls" else json.dumps({"label": label, "width": 20})
            # The label stands before its image in every other sample: both orders occur.
            pair = [(f"{index:06d}.png", content), (f"{index:06d}.{extension}", text.encode())]
            members += pair if index % 2 else pair[::-1]
        write_tar(folder / f"train-{shard:06d}.tar", members)


def image_table(files: list[tuple[str, bytes]]) -> pa.Table:
    """As Hugging Face's ``datasets`` writes images and class labels."""
    names = sorted({name.split("/")[0] for name, _ in files})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    images = [{"bytes": content, "path": name} for name, content in files]
    return pa.table({"image": images, "label": [names.index(n.split("/")[0]) for n, _ in files]}, schema=schema)


def write_parquet(folder: Path, files: list[tuple[str, bytes]], *, parts: int = 2, rows: int = 4) -> None:
    (folder / "data").mkdir(parents=True)
    for part in range(parts):
        table = image_table(files[part::parts])
        pq.write_table(table, folder / "data" / f"train-{part:05d}-of-{parts:05d}.parquet", row_group_size=rows)


def write_arrow(folder: Path, files: list[tuple[str, bytes]]) -> None:
    """As ``Dataset.save_to_disk`` does."""
    folder.mkdir(parents=True)
    table = image_table(files)
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    (folder / "state.json").write_text("{}")


def forms(folder: Path, root: Path) -> Iterator[str]:
    """Write ``folder`` under ``root`` in every form; gives the name of each."""
    files = files_of(folder)
    write_zip(root / "zip.zip", files)
    write_tar(root / "tar.tar", files)
    write_wnid_tars(root / "wnid_tars", files)
    write_tar_of_tars(root / "tar_of_tars.tar", files, root / "scratch")
    write_webdataset(root / "webdataset_cls", files, extension="cls")
    write_webdataset(root / "webdataset_json", files, extension="json")
    write_parquet(root / "parquet", files)
    write_arrow(root / "arrow", files)
    yield from FORMS


FORMS = ("zip", "tar", "wnid_tars", "tar_of_tars", "webdataset_cls", "webdataset_json", "parquet", "arrow")
