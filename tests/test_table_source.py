"""Tables of images are unpacked once, safely, with everything that they say in labels.csv."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pvu import table_source
from pvu.errors import Cancelled, SourceError
from pvu.pipeline import embed
from pvu.progress import Progress
from pvu.sources import find_images, resolve_source
from pvu.table_source import tables_in, unpack_tables
from tests.fakes import FakeEncoder, picture, write_pictures

NAMES = ["owl", "cat", "dog"]


def png(seed: int, tmp_path: Path) -> bytes:
    path = tmp_path / f"{seed}.made"
    picture(seed, (20, 16)).save(path, "PNG")
    return path.read_bytes()


@pytest.fixture
def pictures(tmp_path: Path) -> list[bytes]:
    (tmp_path / "made").mkdir()
    return [png(seed, tmp_path / "made") for seed in range(9)]


def table_of(pictures: list[bytes], *, labels: list[int]) -> pa.Table:
    """The schema and metadata of ``datasets`` for images, class labels, and columns of other kinds."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": NAMES, "_type": "ClassLabel"},
        "species": {"names": ["a", "b"], "_type": "ClassLabel"},
        "width": {"dtype": "int32", "_type": "Value"},
        "caption": {"dtype": "string", "_type": "Value"},
        "tags": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = (image, pa.int64(), pa.int64(), pa.int32(), pa.string(), pa.list_(pa.string()))
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    count = len(pictures)
    columns: dict[str, list[Any]] = {
        "image": [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(pictures)],
        "label": labels,
        "species": [i % 2 for i in range(count)],
        "width": list(range(count)),
        "caption": [f'no. {i}, "fine"' if i else None for i in range(count)],
        "tags": [["x"]] * count,
    }
    return pa.table(columns, schema=pa.schema(list(zip(features, kinds, strict=True)), metadata))


def save_to_disk(folder: Path, table: pa.Table, *, shards: int = 2) -> None:
    """As ``Dataset.save_to_disk`` of datasets 5.2 does, down to the names."""
    folder.mkdir(parents=True)
    size = -(-len(table) // shards)
    files = [f"data-{shard:05d}-of-{shards:05d}.arrow" for shard in range(shards)]
    for shard, name in enumerate(files):
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table.slice(shard * size, size))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))
    (folder / "dataset_info.json").write_text("{}")
    (folder / "cache-0123456789abcdef.arrow").write_bytes(b"")  # what .map() leaves there


def save_dict_to_disk(folder: Path, splits: dict[str, pa.Table]) -> None:
    for name, table in splits.items():
        save_to_disk(folder / name, table, shards=1)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


def push_to_hub(folder: Path, splits: dict[str, pa.Table]) -> None:
    """As a snapshot of the hub looks: the Parquet files are links into a folder beside it."""
    blobs = folder.parents[1] / "blobs"
    blobs.mkdir(parents=True)
    (folder / "data").mkdir(parents=True)
    for name, table in splits.items():
        pq.write_table(table, blobs / name, row_group_size=2)
        (folder / "data" / f"{name}-00000-of-00001.parquet").symlink_to(blobs / name)
    (folder / "README.md").write_text("---\n")


@pytest.fixture
def splits(pictures: list[bytes]) -> dict[str, pa.Table]:
    return {
        "train": table_of(pictures[:5], labels=[0, 1, 2, 0, -1]),
        "test": table_of(pictures[5:], labels=[2, 2, 1, 1]),
    }


def contents(root: Path, files: pd.DataFrame) -> dict[bytes, tuple[str | None, str]]:
    return {(root / row.path).read_bytes(): (row.label, row.caption) for row in files.itertuples()}


def test_one_saved_data_set(splits: dict[str, pa.Table], pictures: list[bytes], tmp_path: Path) -> None:
    save_to_disk(tmp_path / "mine", splits["train"])
    root = resolve_source(tmp_path / "mine")
    files = find_images(root)
    assert files["error"].isna().all()
    assert files["path"].tolist() == [f"{i:07d}.png" for i in range(5)]
    assert [(root / path).read_bytes() for path in files["path"]] == pictures[:5]
    assert files["label"].tolist() == ["owl", "cat", "dog", "owl", None]
    assert files["species"].tolist() == ["a", "b", "a", "b", "a"]
    assert files["width_from_table"].tolist() == [0, 1, 2, 3, 4]
    assert files["caption"].tolist()[1:] == [f'no. {i}, "fine"' for i in range(1, 5)]
    assert files["original_path"].tolist() == [f"{i}.png" for i in range(5)]
    assert not {"tags", "split", "image"} & set(files)


@pytest.mark.parametrize("layout", ["dict", "hub"])
def test_splits_become_a_column(
    layout: str,
    splits: dict[str, pa.Table],
    pictures: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path))
    folder = tmp_path / "hub" / "snapshots" / "abc" if layout == "hub" else tmp_path / "two"
    (push_to_hub if layout == "hub" else save_dict_to_disk)(folder, splits)
    root = resolve_source(folder)
    files = find_images(root)
    assert files["split"].value_counts().to_dict() == {"train": 5, "test": 4}
    assert (files["path"].str.split("/").str[0] == files["split"]).all()
    labels = {(root / row.path).read_bytes(): row.label for row in files.itertuples()}
    expected = ["owl", "cat", "dog", "owl", None, "dog", "dog", "cat", "cat"]
    assert labels == dict(zip(pictures, expected, strict=True))


def test_a_single_file_of_plain_bytes_and_words(pictures: list[bytes], tmp_path: Path) -> None:
    table = pa.table(
        {"jpg": pa.array(pictures[:3], pa.large_binary()), "cls": ["007", "None", " x"], "path": list("abc")}
    )
    pq.write_table(table, tmp_path / "photos.parquet")
    files = find_images(resolve_source(tmp_path / "photos.parquet"))
    assert files["label"].tolist() == ["007", "None", "x"]
    assert files["path_in_table"].tolist() == list("abc")
    assert "split" not in files


def test_the_same_tables_are_unpacked_once_and_changed_ones_again(
    splits: dict[str, pa.Table], tmp_path: Path, pvu_home: Path
) -> None:
    save_to_disk(tmp_path / "mine", splits["train"])
    seen: list[Progress] = []
    root = unpack_tables(tmp_path / "mine", progress=seen.append)
    assert root.parent == pvu_home / "sources"
    assert root.name.startswith("mine-")
    assert [(p.phase, p.done, p.total) for p in seen] == [("unpack", 0, 5), ("unpack", 3, 5), ("unpack", 5, 5)]
    seen.clear()
    assert unpack_tables(tmp_path / "mine", progress=seen.append) == root
    assert seen == []
    with pa.ipc.new_stream(tmp_path / "mine" / "data-00001-of-00002.arrow", splits["test"].schema) as writer:
        writer.write_table(splits["test"])
    assert len(find_images(unpack_tables(tmp_path / "mine"))) == 3 + 4


@pytest.mark.usefixtures("quick_map")
def test_the_pipeline_takes_such_a_source(splits: dict[str, pa.Table], tmp_path: Path) -> None:
    save_dict_to_disk(tmp_path / "two", splits)
    dataset = embed(tmp_path / "two", model=FakeEncoder(), workers=0)
    assert (len(dataset), dataset.name) == (9, "two")
    assert dataset.has_labels
    assert set(dataset.metadata_columns) == {"split", "species", "width_from_table", "caption", "original_path"}


def test_rows_without_bytes_are_listed_and_rows_of_nonsense_too(pictures: list[bytes], tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([pictures[0], None, b"no image"], pa.binary()), "label": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "t.parquet")
    files = find_images(resolve_source(tmp_path / "t.parquet")).sort_values("path")
    assert files["error"].tolist() == [
        None,
        "listed in labels.csv, but not in the folder",
        "not an image type that is read (.bin)",
    ]


def test_tables_of_paths_alone_are_refused(tmp_path: Path, pvu_home: Path) -> None:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": None, "path": "/etc/passwd"}], image)
    pq.write_table(pa.table({"image": cells}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"t.parquet holds no bytes of any image, perhaps only their paths"):
        resolve_source(tmp_path / "t.parquet")
    assert list((pvu_home / "sources").iterdir()) == []


def test_too_many_images_are_refused_before_anything_is_written(
    splits: dict[str, pa.Table], tmp_path: Path, pvu_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_to_disk(tmp_path / "mine", splits["train"])
    monkeypatch.setattr("pvu.archives.MAX_FILES", 4)
    with pytest.raises(SourceError, match=r"mine holds 5 files, at most 4 are taken"):
        resolve_source(tmp_path / "mine")
    monkeypatch.setattr("pvu.archives.MAX_FILES", 5)
    monkeypatch.setattr("pvu.archives.MAX_BYTES", 100)
    with pytest.raises(SourceError, match=r"mine unpacks to"):
        resolve_source(tmp_path / "mine")
    assert not (pvu_home / "sources").exists()


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every cell differs, so that no dictionary hides how large they are.
    cells = [index.to_bytes(2, "big") + bytes(1 << 16) for index in range(64)]
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary())}), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < sum(map(len, cells)) / 100
    monkeypatch.setattr(table_source, "_SLACK", 0)
    with pytest.raises(SourceError, match=r"Refused: .*bomb.parquet unpacks to more than 100 times its size"):
        resolve_source(path)


def test_pictures_that_a_dictionary_repeats_stop_when_the_disk_is_full(
    tmp_path: Path, pvu_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [bytes(1 << 20)] * 10
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary())}), tmp_path / "t.parquet")
    usage = table_source.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(table_source.shutil, "disk_usage", lambda _: usage._replace(free=2**28 + 5 * 2**20))
    with pytest.raises(SourceError, match="need more room than the disk has"):
        resolve_source(tmp_path / "t.parquet")
    assert list((pvu_home / "sources").iterdir()) == []


def test_pictures_that_a_dictionary_repeats_stop_at_the_limit_of_archives(
    tmp_path: Path, pvu_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [bytes(1 << 20)] * 10
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary())}), tmp_path / "t.parquet")
    monkeypatch.setattr(table_source, "MAX_BYTES", 5 * 2**20)
    with pytest.raises(SourceError, match="need more room than the disk has, or than the 0 GiB that are taken"):
        resolve_source(tmp_path / "t.parquet")
    assert list((pvu_home / "sources").iterdir()) == []


def test_stopping_keeps_nothing(splits: dict[str, pa.Table], tmp_path: Path, pvu_home: Path) -> None:
    save_to_disk(tmp_path / "mine", splits["train"])
    with pytest.raises(Cancelled, match="while the images were unpacked"):
        unpack_tables(tmp_path / "mine", should_stop=lambda: True)
    assert list((pvu_home / "sources").iterdir()) == []


def test_links_that_lead_outside_are_refused(
    splits: dict[str, pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path / "elsewhere"))
    push_to_hub(tmp_path / "hub" / "snapshots" / "abc", splits)
    with pytest.raises(SourceError, match=r"test-00000-of-00001.parquet is a link that leads outside the folder"):
        resolve_source(tmp_path / "hub" / "snapshots" / "abc")


def test_what_a_folder_holds(splits: dict[str, pa.Table], tmp_path: Path) -> None:
    save_to_disk(tmp_path / "mine", splits["train"])
    assert [path.name for path in tables_in(tmp_path / "mine")] == [
        "data-00000-of-00002.arrow",
        "data-00001-of-00002.arrow",
    ]
    write_pictures(tmp_path / "mine" / "pictures", ["a.png"])
    assert tables_in(tmp_path / "mine") == []  # a folder of images with a table beside them
    assert resolve_source(tmp_path / "mine") == tmp_path / "mine"


@pytest.mark.parametrize("split", ["../../x", "..", "a b/ü", "/etc"])
def test_a_splits_name_stays_inside_the_folder(split: str) -> None:
    parts = table_source._safe(split).split("/")
    assert all(part == "" or part.strip("abcdefghijklmnopqrstuvwxyz-") == "" for part in parts)
    assert not table_source._safe(split).startswith("..")
