from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import packing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pvu.errors import BadImageError
from training import members
from training.members import Cell, Member, TarMember, ZipMember, file_of, read_member

CONTENT = b"the bytes of a picture" * 50


@pytest.fixture
def everywhere(tmp_path: Path) -> list[Member]:
    """The same bytes as a file, in a tar, in a zip, in a Parquet and an Arrow table."""
    (tmp_path / "a.png").write_bytes(CONTENT)
    packing.write_tar(tmp_path / "t.tar", [("b.png", b"other"), ("a.png", CONTENT)])
    packing.write_zip(tmp_path / "z.zip", [("b.png", b"other"), ("a.png", CONTENT)])
    files = [("x/b.png", b"other"), ("x/a.png", CONTENT)]
    pq.write_table(packing.image_table(files), tmp_path / "p.parquet", row_group_size=1)
    packing.write_arrow(tmp_path / "arrow", files)
    return [
        tmp_path / "a.png",
        TarMember(tmp_path / "t.tar", 512 + 512 + 512, len(CONTENT)),  # header, "other" padded to a block, header
        ZipMember(tmp_path / "z.zip", "a.png"),
        Cell(tmp_path / "p.parquet", "image", 1, 0),
        Cell(tmp_path / "arrow" / "data-00000-of-00001.arrow", "image", -1, 1),
    ]


def test_the_same_bytes_from_everywhere(everywhere: list[Member]) -> None:
    for member in everywhere:
        assert read_member(member) == CONTENT
        assert file_of(member).is_file()


def test_members_are_small_to_send_to_a_worker(everywhere: list[Member]) -> None:
    for member in everywhere:
        assert pickle.loads(pickle.dumps(member)) == member  # noqa: S301 (its own)
        assert len(pickle.dumps(member)) < 400


def test_a_bomb_is_a_bad_image(everywhere: list[Member], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_BYTES", len(CONTENT) - 1)
    for member in everywhere:
        with pytest.raises(BadImageError, match="too large: 0 MiB"):
            read_member(member)


def test_a_zip_that_inflates_to_more_than_it_says_gives_no_more(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    packing.write_zip(path, [("a.png", b"0" * 100_000_000)])
    raw = bytearray(path.read_bytes())
    directory = raw.index(b"PK\x01\x02")
    raw[directory + 24 : directory + 28] = (10).to_bytes(4, "little")  # its size, unpacked
    path.write_bytes(raw)
    tracemalloc.start()
    with pytest.raises(BadImageError, match="damaged in its zip"):
        read_member(ZipMember(path, "a.png"))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10_000_000


def test_damage_is_a_bad_image(everywhere: list[Member], tmp_path: Path) -> None:
    missing = [
        tmp_path / "none.png",
        TarMember(tmp_path / "none.tar", 0, 10),
        TarMember(tmp_path / "t.tar", 0, 1 << 20),  # cut off since it was listed
        ZipMember(tmp_path / "none.zip", "a.png"),
        ZipMember(tmp_path / "z.zip", "none.png"),
        Cell(tmp_path / "none.parquet", "image", 0, 0),
        Cell(tmp_path / "p.parquet", "image", 0, 7),
        Cell(tmp_path / "p.parquet", "picture", 0, 0),
        Cell(tmp_path / "p.parquet", "image", 9, 0),
        Cell(tmp_path / "t.tar", "image", -1, 0),
    ]
    for member in missing:
        with pytest.raises(BadImageError):
            read_member(member)
    raw = bytearray((tmp_path / "z.zip").read_bytes())
    raw[raw.rindex(b"a.png", 0, raw.index(b"PK\x01\x02")) + 8] ^= 0xFF
    (tmp_path / "damaged.zip").write_bytes(raw)
    with pytest.raises(BadImageError, match="damaged in its zip"):
        read_member(ZipMember(tmp_path / "damaged.zip", "a.png"))


def test_a_row_without_bytes_is_a_bad_image(tmp_path: Path) -> None:
    rows = pa.array(
        [{"bytes": None, "path": "elsewhere.png"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    pq.write_table(pa.table({"image": rows}), tmp_path / "p.parquet")
    with pytest.raises(BadImageError, match="holds no bytes"):
        read_member(Cell(tmp_path / "p.parquet", "image", 0, 0))


def test_workers_start_without_torch_pyarrow_and_timm() -> None:
    code = "import sys, training.views; print(*sorted({'torch', 'timm', 'pandas', 'pyarrow'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == ""
