from __future__ import annotations

import json
import tarfile
from pathlib import Path

import packing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pvu.errors import SourceError
from training import containers
from training.containers import Entry, find_files, list_entries
from training.members import read_member


@pytest.fixture
def folder(data: Path) -> Path:
    """20 pictures in 4 folders that are named by wnids."""
    return data / "labelled"


def entries(path: Path) -> list[Entry]:
    return list(list_entries(path, find_files(path) if path.is_dir() else [path]))


def contents(listed: list[Entry]) -> list[tuple[str | None, bytes]]:
    return sorted((entry.label, read_member(entry.member)) for entry in listed)


@pytest.mark.parametrize("form", packing.FORMS)
def test_every_form_gives_the_images_and_labels_of_the_folder(form: str, folder: Path, tmp_path: Path) -> None:
    assert form in set(packing.forms(folder, tmp_path))
    found = next(tmp_path.glob(f"{form}*"))
    wanted = [(name.split("/")[0], content) for name, content in packing.files_of(folder)]
    if form == "webdataset_cls":
        names = sorted({label for label, _ in wanted})
        wanted = [(str(names.index(label)), content) for label, content in wanted]
    listed = entries(found)
    assert contents(listed) == sorted(wanted)
    assert len({entry.name for entry in listed}) == 20
    assert listed == entries(found)
    numbered = form in ("webdataset_cls", "parquet", "arrow")
    assert {entry.number for entry in listed} == ({0, 1, 2, 3} if numbered else {None})
    if form not in ("parquet", "arrow"):
        assert all(entry.size == len(read_member(entry.member)) for entry in listed)


@pytest.mark.parametrize("form", ["zip.zip", "tar.tar", "wnid_tars", "tar_of_tars.tar"])
def test_archives_have_the_names_and_the_order_of_their_unpacked_folder(
    form: str, folder: Path, tmp_path: Path
) -> None:
    list(packing.forms(folder, tmp_path))
    unpacked = [(entry.name, entry.size, entry.label) for entry in entries(folder)]
    assert [(entry.name, entry.size, entry.label) for entry in entries(tmp_path / form)] == unpacked


def test_labels_of_images_at_the_top(tmp_path: Path) -> None:
    packing.write_tar(tmp_path / "shard-0001.tar", [("a.png", b"a"), ("./cat/b.png", b"b")])
    packing.write_tar(tmp_path / "n01440764.tar", [("a.png", b"a")])
    assert [(e.name, e.label) for e in entries(tmp_path)] == [
        ("n01440764/a.png", "n01440764"),
        ("shard-0001/a.png", None),  # the name of a shard says nothing of what it shows
        ("shard-0001/cat/b.png", "cat"),
    ]


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    names = ["a/x.png", "a/._x.png", "__MACOSX/a/x.png", "a/x.txt", "a/X.JPEG", "a/x.xml"]
    packing.write_zip(tmp_path / "z.zip", [(name, b"") for name in names])
    packing.write_tar(tmp_path / "t.tar", [(name, b"") for name in names])
    with tarfile.open(tmp_path / "t.tar", "a") as archive:
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    for archive_name in ("z.zip", "t.tar"):
        assert [entry.name for entry in entries(tmp_path / archive_name)] == ["a/X.JPEG", "a/x.png"]


def test_of_two_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    packing.write_tar(tmp_path / "t.tar", [("a/x.png", b"old"), ("a/x.png", b"new")])
    assert contents(entries(tmp_path / "t.tar")) == [("a", b"new")]


def test_long_names_of_tars_are_read(tmp_path: Path) -> None:
    name = "label/" + "x" * 200 + ".png"
    packing.write_tar(tmp_path / "t.tar", [(name, b"long")])
    assert contents(entries(tmp_path / "t.tar")) == [("label", b"long")]
    assert entries(tmp_path / "t.tar")[0].name == name


def test_a_truncated_tar_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tar"
    packing.write_tar(whole, packing.files_of(folder))
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:9000])  # in the middle of a member
    with pytest.raises(SourceError, match=r"cut.tar is not a whole, uncompressed tar \(unexpected end of data\)"):
        entries(cut)


def test_a_tar_in_a_tar_without_end_is_refused(tmp_path: Path) -> None:
    content = b"a picture"
    for depth in range(300):
        packing.write_tar(tmp_path / "z.tar", [("z.tar" if depth else "a.png", content)])
        content = (tmp_path / "z.tar").read_bytes().rstrip(b"\0") + bytes(1024)
    (tmp_path / "z.tar").write_bytes(content)
    with pytest.raises(SourceError, match="not a whole, uncompressed tar"):
        list(list_entries(tmp_path, [tmp_path / "z.tar"]))


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".parquet", ".arrow"])
def test_what_is_no_container_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photos{suffix}"
    path.write_bytes(b"this is nothing of the kind " * 100)
    with pytest.raises(SourceError, match=f"photos{suffix} is not a .*Copy it again"):
        entries(path)


def test_compressed_tars_and_caches_of_representations_are_told_apart(folder: Path, tmp_path: Path) -> None:
    packing.write_tar(tmp_path / "t" / "t.tar.gz", packing.files_of(folder), mode="w:gz")
    with pytest.raises(SourceError, match=r"compressed.*gunzip"):
        entries(tmp_path / "t")
    with pytest.raises(SourceError, match=r"compressed.*gunzip"):
        entries(tmp_path / "t" / "t.tar.gz")
    for name, message in (("x.h5", "training.hdf5"), ("x.txt", "holds no images")):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(SourceError, match=message):
            entries(tmp_path / name)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    packing.write_zip(path, [("a/x.png", b"x")])
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    path.write_bytes(raw)
    with pytest.raises(SourceError, match=r"z.zip is encrypted"):
        entries(path)


def test_a_folder_of_two_kinds_is_unclear(folder: Path, tmp_path: Path) -> None:
    packing.write_zip(folder / "more.zip", [("a/x.png", b"x")])
    with pytest.raises(SourceError, match=r"holds 1 \.zip and 20 images\. Name those that are meant"):
        find_files(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="Found 0 images"):
        find_files(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "text", "label", "number"),
    [
        ("x.cls", "7\n", "7", 7),
        ("x.cls", "tabby cat", "tabby cat", None),
        ("x.json", json.dumps({"label": 3, "wnid": "n01440764"}), "n01440764", None),
        ("x.json", json.dumps({"label": 3}), "3", 3),
        ("x.json", json.dumps({"width": 3}), "folder", None),
    ],
)
def test_labels_beside_the_images_of_a_shard(
    name: str, text: str, label: str, number: int | None, tmp_path: Path
) -> None:
    packing.write_tar(tmp_path / "t.tar", [("folder/x.png", b""), (f"folder/{name}", text.encode())])
    (entry,) = entries(tmp_path / "t.tar")
    assert (entry.label, entry.number) == (label, number)


def test_a_damaged_label_file_is_named(tmp_path: Path) -> None:
    packing.write_tar(tmp_path / "t.tar", [("x.png", b""), ("x.json", b"{")])
    with pytest.raises(SourceError, match=r"label file x.json cannot be read"):
        entries(tmp_path / "t.tar")


def test_tables_of_other_shapes(tmp_path: Path) -> None:
    def listed(columns: dict[str, pa.Array]) -> list[Entry]:
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        return entries(tmp_path / "t.parquet")

    binary, words = pa.array([b"a", b"b"], pa.large_binary()), pa.array(["cat", None])
    found = listed({"jpg": binary, "label": words, "mask": binary})
    assert [(read_member(e.member), e.label, e.number) for e in found] == [(b"a", "cat", None), (b"b", None, None)]
    found = listed({"photo": binary, "cls": pa.array([-1, 4])})
    assert [(e.label, e.number) for e in found] == [(None, None), ("4", 4)]  # -1 is how test sets say: not known
    with pytest.raises(SourceError, match="columns one, two, of which 2 hold image bytes"):
        listed({"one": binary, "two": binary})
    with pytest.raises(SourceError, match="of which 0 hold image bytes"):
        listed({"label": words})


def test_a_row_group_too_large_for_a_worker_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing.write_parquet(tmp_path / "p", packing.files_of(folder))
    monkeypatch.setattr(containers, "MAX_GROUP", 1000)
    with pytest.raises(SourceError, match=r"row group of .* GiB of images"):
        entries(tmp_path / "p")
