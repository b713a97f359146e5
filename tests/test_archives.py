"""Archives and uploads from strangers: what is fine is unpacked once, and of anything else nothing is written."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pvu import archives
from pvu.archives import extract_zip, safe_path, save_upload
from pvu.errors import SourceError
from pvu.sources import find_images, resolve_source
from tests.fakes import write_pictures


@dataclass
class Upload:
    """As Streamlit's UploadedFile."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def getbuffer(self) -> memoryview:
        return memoryview(self.content)


def zip_of(path: Path, members: dict[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "set.zip"


@pytest.fixture(autouse=True)
def _nothing_outside(tmp_path: Path, pvu_home: Path, archive: Path) -> Iterator[None]:
    """Whatever a test unpacks, no file may appear anywhere but in PVU_HOME, and no half-written folder may stay."""
    yield
    written = {path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(pvu_home)}
    assert {path for path in written if path != archive and "photos" not in path.parts} == set()
    assert not list(pvu_home.rglob("*.partial"))


def refused(archive: Path, pvu_home: Path, match: str) -> None:
    with pytest.raises(SourceError, match=match):
        extract_zip(archive)
    assert not pvu_home.exists() or tree(pvu_home) == {}


def test_a_zip_becomes_its_folder(archive: Path, pvu_home: Path) -> None:
    members = {"cat/1.jpg": b"one", "cat/2.jpg": b"two" * 100_000, "readme.txt": b"hello", "Käuzchen/ü.png": b"x"}
    folder = extract_zip(zip_of(archive, members))
    assert folder.parent == pvu_home / "sources"
    assert folder.name.startswith("set-")
    assert tree(folder) == members


def test_folders_in_a_zip_and_empty_files_are_fine(archive: Path) -> None:
    assert tree(extract_zip(zip_of(archive, {"cat/": b"", "cat/1.jpg": b""}))) == {"cat/1.jpg": b""}


def test_the_same_archive_is_unpacked_once(archive: Path) -> None:
    folder = extract_zip(zip_of(archive, {"1.jpg": b"one"}))
    (folder / "mark").touch()
    assert extract_zip(archive) == folder
    assert (folder / "mark").exists()
    assert extract_zip(io.BytesIO(archive.read_bytes()), name="set") == folder
    assert extract_zip(zip_of(archive, {"1.jpg": b"two"})) != folder


def test_an_open_file_is_called_what_it_is_told(archive: Path) -> None:
    zip_of(archive, {"1.jpg": b"one"})
    with archive.open("rb") as file:
        assert extract_zip(file, name="My pictures/../x").name.startswith("My-pictures-..-x-")
    assert extract_zip(io.BytesIO(archive.read_bytes())).name.startswith("upload-")


def test_a_zip_is_a_source(tmp_path: Path, archive: Path) -> None:
    pictures = write_pictures(tmp_path / "photos", [f"{label}/{index}.png" for label in "ab" for index in range(2)])
    members = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in pictures}
    files = find_images(resolve_source(zip_of(archive, members)))
    assert files["path"].tolist() == sorted(members)
    assert files["label"].tolist() == ["a", "a", "b", "b"]


ESCAPES = [
    "../evil.jpg",
    "a/../../evil.jpg",
    "/evil.jpg",
    "..\\evil.jpg",
    "a\\..\\..\\evil.jpg",
    "\\evil.jpg",
    "C:\\evil.jpg",
    "c:/evil.jpg",
    "C:evil.jpg",
    "..",
]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_escape_are_refused_before_anything_is_written(archive: Path, pvu_home: Path, name: str) -> None:
    zip_of(archive, {"fine.jpg": b"x", name: b"evil"})
    refused(archive, pvu_home, r"leads outside its folder\. Nothing was written")


@pytest.mark.parametrize("name", [*ESCAPES, "", ".", "a\0b"])
def test_safe_path_refuses(name: str) -> None:
    with pytest.raises(SourceError, match="leads outside"):
        safe_path(name)


@pytest.mark.parametrize(
    ("name", "path"), [("a/b.jpg", "a/b.jpg"), ("./a//b.jpg", "a/b.jpg"), ("a\\b.jpg", "a/b.jpg"), ("a..b", "a..b")]
)
def test_safe_path_takes_what_stays_inside(name: str, path: str) -> None:
    assert safe_path(name).as_posix() == path


def test_a_link_is_refused(archive: Path, pvu_home: Path) -> None:
    link = zipfile.ZipInfo("link.jpg")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    zip_of(archive, [("fine.jpg", b"x"), (link, b"/etc/passwd")])
    refused(archive, pvu_home, r"holds the link 'link\.jpg'")


def test_an_encrypted_archive_is_refused(archive: Path, pvu_home: Path) -> None:
    data = bytearray(zip_of(archive, {"1.jpg": b"one"}).read_bytes())
    data[6] |= 1  # the flag in the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    archive.write_bytes(data)
    refused(archive, pvu_home, "is encrypted")


def test_a_bomb_is_refused(archive: Path, pvu_home: Path) -> None:
    zip_of(archive, {"fine.jpg": b"x", "bomb.jpg": bytes(30 << 20)})
    assert archive.stat().st_size < 100_000
    refused(archive, pvu_home, r"'bomb\.jpg' in set grows \d{3,4} times")


def test_a_header_that_understates_the_size_writes_nothing(archive: Path, pvu_home: Path) -> None:
    data = bytearray(zip_of(archive, {"1.jpg": np.random.default_rng(0).bytes(5000)}).read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[22:26] = data[directory + 24 : directory + 28] = struct.pack("<I", 10)
    archive.write_bytes(data)
    refused(archive, pvu_home, "not a .zip that can be read")


def test_a_stream_longer_than_declared_is_stopped(tmp_path: Path, pvu_home: Path) -> None:
    """The check does not lean on zipfile's own."""
    with pytest.raises(SourceError, match="longer than the archive says"):
        archives._write(pvu_home, "x.jpg", io.BytesIO(bytes(11)), 10)


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_BYTES"])
def test_limits(archive: Path, pvu_home: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    zip_of(archive, {f"{index}.jpg": b"x" for index in range(5)})
    monkeypatch.setattr(archives, limit, 4)
    refused(archive, pvu_home, "holds 5 files, at most 4" if limit == "MAX_FILES" else "unpacks to .* at most")
    monkeypatch.setattr(archives, limit, 5)
    extract_zip(archive)


def test_an_archive_that_does_not_fit_on_the_disk_is_refused(
    archive: Path, pvu_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zip_of(archive, {"1.jpg": b"x" * 1000})
    usage = type("Usage", (), {"free": 2**28 + 999})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    refused(archive, pvu_home, "are free in")


def test_an_empty_archive_is_refused(archive: Path, pvu_home: Path) -> None:
    zip_of(archive, {})
    refused(archive, pvu_home, "holds no files")
    zip_of(archive, {"folder/": b""})
    refused(archive, pvu_home, "holds no files")


def test_what_is_no_zip_is_refused(archive: Path, pvu_home: Path) -> None:
    archive.write_bytes(b"not a zip at all")
    refused(archive, pvu_home, r"not a \.zip that can be read")
    archive.write_bytes(b"")
    refused(archive, pvu_home, r"not a \.zip that can be read")


def test_of_two_members_with_one_name_the_last_counts(archive: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        zip_of(archive, [("1.jpg", b"first, and longer"), ("1.jpg", b"second")])
    assert tree(extract_zip(archive)) == {"1.jpg": b"second"}


@pytest.mark.parametrize("names", [("a", "a/b.jpg"), ("a/b.jpg", "a"), ("x" * 300 + ".jpg", "y.jpg")])
def test_names_that_no_disk_can_hold_are_refused(archive: Path, pvu_home: Path, names: tuple[str, str]) -> None:
    zip_of(archive, dict.fromkeys(names, b"x"))
    refused(archive, pvu_home, "cannot be unpacked")


def test_damaged_archives_give_files_or_a_source_error_and_nothing_else(archive: Path, pvu_home: Path) -> None:
    rng = np.random.default_rng(0)
    data = zip_of(archive, {"a/1.jpg": rng.bytes(300), "b/2.jpg": bytes(2000), "ü.txt": b"hello " * 50}).read_bytes()
    refusals = 0
    for _ in range(600):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        try:
            folder = extract_zip(io.BytesIO(bytes(damaged)))
            assert folder.is_relative_to(pvu_home)
        except SourceError:
            refusals += 1
    assert refusals > 100


# Uploads


def test_an_upload_becomes_a_folder_named_after_its_top_folder(pvu_home: Path) -> None:
    files = [Upload("holiday/cat/1.jpg", b"one"), Upload("holiday/2.jpg", b"two")]
    folder = save_upload(files)
    assert folder.parent == pvu_home / "sources"
    assert folder.name.startswith("holiday-")
    assert tree(folder) == {"holiday/cat/1.jpg": b"one", "holiday/2.jpg": b"two"}


def test_the_same_upload_is_saved_once_in_whatever_order() -> None:
    files = [Upload("a/1.jpg", b"one"), Upload("b/2.jpg", b"two")]
    folder = save_upload(files, name="pictures")
    assert folder.name.startswith("pictures-")
    assert save_upload(files[::-1], name="pictures") == folder
    assert save_upload([Upload("a/1.jpg", b"ONE"), files[1]], name="pictures") != folder
    # Bytes that move from one file to the next are another upload.
    assert save_upload([Upload("a/1.jpg", b"onet"), Upload("b/2.jpg", b"wo")], name="pictures") != folder


@pytest.mark.parametrize("name", ESCAPES)
def test_uploads_that_escape_are_refused(pvu_home: Path, name: str) -> None:
    with pytest.raises(SourceError, match="leads outside"):
        save_upload([Upload("fine.jpg", b"x"), Upload(name, b"evil")])
    assert not pvu_home.exists()


def test_limits_of_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="holds no files"):
        save_upload([])
    monkeypatch.setattr(archives, "MAX_FILES", 1)
    with pytest.raises(SourceError, match="holds 2 files, at most 1"):
        save_upload([Upload("1.jpg", b"x"), Upload("2.jpg", b"x")])


def test_uploads_whose_names_clash_are_refused(pvu_home: Path) -> None:
    with pytest.raises(SourceError, match="cannot be unpacked"):
        save_upload([Upload("a", b"x"), Upload("a/b.jpg", b"y")])
    assert tree(pvu_home) == {}
