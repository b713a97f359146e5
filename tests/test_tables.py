"""Tables of images: which column is which, labels by their names, the split that a file's name tells."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pvu.errors import SourceError
from pvu.tables import class_names, image_and_label, image_bytes, name_of, open_arrow, read_frame, split_of

WHERE = Path("t.parquet")
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"image": STRUCT, "label": pa.int64()}, ("image", "label")),
        ({"photo": pa.binary(), "class": pa.string()}, ("photo", "class")),
        ({"mask": pa.binary(), "img": pa.large_binary()}, ("img", None)),
        (
            {"photo": pa.struct([("bytes", pa.large_binary())]), "wnid": pa.string(), "label": pa.int8()},
            ("photo", "wnid"),
        ),
    ],
)
def test_the_columns_of_images_and_labels(fields: dict[str, pa.DataType], found: tuple[str, str | None]) -> None:
    assert image_and_label(WHERE, pa.schema(fields.items())) == found


@pytest.mark.parametrize(("fields", "count"), [({"label": pa.int64()}, 0), ({"a": pa.binary(), "b": STRUCT}, 2)])
def test_no_column_of_images_or_several_are_refused(fields: dict[str, pa.DataType], count: int) -> None:
    with pytest.raises(SourceError, match=rf"t.parquet has the columns .*, of which {count} hold image bytes"):
        image_and_label(WHERE, pa.schema(fields.items()))


def test_class_names_are_those_of_the_column_and_absent_without_the_metadata() -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    schema = pa.schema([("label", pa.int64())], {"huggingface": json.dumps({"info": {"features": features}})})
    assert class_names(schema, "label") == ["cat", "dog"]
    for column in ("image", "other", None):
        assert class_names(schema, column) is None
    assert class_names(pa.schema([("label", pa.int64())]), "label") is None
    assert class_names(pa.schema([("label", pa.int64())], {"huggingface": "{"}), "label") is None


@pytest.mark.parametrize(
    ("value", "name"),
    [(1, "dog"), (5, "5"), (-1, None), (None, None), ("owl", "owl"), ("", None), (2.5, "2.5"), ([1], None)],
)
def test_labels_as_text(value: object, name: str | None) -> None:
    assert name_of(value, ["cat", "dog"]) == name


def test_the_bytes_of_a_cell() -> None:
    assert image_bytes({"bytes": b"x", "path": "x.jpg"}) == image_bytes(b"x") == b"x"
    for nothing in (None, {"bytes": None, "path": "x.jpg"}, {"path": "x.jpg"}):
        assert image_bytes(nothing) is None


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/train-00000-of-00002-ab12cd.parquet", "train"),
        ("train/data-00001-of-00003.arrow", "train"),
        ("default/validation/0000.parquet", "validation"),
        ("fine/test-00000-of-00001.parquet", "fine/test"),
        ("test/test-00000-of-00001.parquet", "test"),
        ("data-00000-of-00001.arrow", ""),
        ("0000.parquet", ""),
    ],
)
def test_the_split_in_a_name(name: str, split: str) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize("kind", ["stream", "file", "parquet"])
def test_frames_of_every_kind_of_file(kind: str, tmp_path: Path) -> None:
    table = pa.table({"img": pa.array([b"first", b"second", None], pa.binary()), "label": ["a", "b", None]})
    path = tmp_path / f"t.{'parquet' if kind == 'parquet' else 'arrow'}"
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=2)
    else:
        writer = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        with writer(path, table.schema) as opened:
            opened.write_table(table)
        assert open_arrow(path).equals(table)
    frame = read_frame(path)
    assert (frame.image, frame.label, frame.rows) == ("img", "label", 3)
    assert frame.size >= len(b"firstsecond")
    batches = list(frame.batches(["img"]))
    assert [row["img"] for batch in batches for row in batch.to_pylist()] == [b"first", b"second", None]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_what_is_no_table_is_one_sentence(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(SourceError, match=rf"x.{suffix} is not a table that can be read .*Copy it again"):
        read_frame(tmp_path / f"x.{suffix}")
