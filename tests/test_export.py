"""Exports: every image with its original, in the asked order, in formats that other programs read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pvu.errors import PVUError, QueryError
from pvu.export import (
    CHOICES,
    choose_rows,
    corrected_labels,
    export_table,
    table_bytes,
    write_embeddings,
    write_table,
)
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.fakes import FakeEncoder, write_pictures

pytestmark = pytest.mark.usefixtures("quick_map")


@pytest.fixture
def dataset(photos: Path) -> EmbeddedDataset:
    """Three labels of four pictures, four of them tagged."""
    opened = embed(photos, model=FakeEncoder(), workers=0)
    tags = Tags.of(opened)
    tags.set([0, 1], "keep")
    tags.set(2, "drop")
    tags.set(5, "fix label", "wolf, grey")
    tags.set(7, "unsure")
    return opened


@pytest.mark.parametrize(
    ("what", "rows"),
    [
        ("all", list(range(12))),
        ("kept", [0, 1]),
        ("not-dropped", [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("dropped", [2]),
        ("fix-label", [5]),
        ("unsure", [7]),
        ("tagged", [0, 1, 2, 5, 7]),
        ("untagged", [3, 4, 6, 8, 9, 10, 11]),
    ],
)
def test_every_choice_is_what_it_says(dataset: EmbeddedDataset, what: str, rows: list[int]) -> None:
    assert choose_rows(dataset, what).tolist() == rows
    assert set(CHOICES) == {
        "all", "kept", "not-dropped", "dropped", "fix-label", "unsure", "tagged", "untagged"
    }  # fmt: skip


def test_a_share_is_of_the_whole_data_set(dataset: EmbeddedDataset) -> None:
    certain = set(np.argsort(dataset.uncertainty)[:6].tolist())
    assert set(choose_rows(dataset, keep=0.5).tolist()) == certain
    assert set(choose_rows(dataset, "untagged", keep=0.5).tolist()) == certain - {0, 1, 2, 5, 7}


def test_an_unknown_choice_names_the_others(dataset: EmbeddedDataset) -> None:
    with pytest.raises(PVUError, match=r"There is no choice 'best'. The choices are all, kept, not-dropped"):
        choose_rows(dataset, "best")


def test_the_table_has_the_rows_in_the_order_asked_for(dataset: EmbeddedDataset, photos: Path) -> None:
    rows = np.array([7, 2, 5])
    table = export_table(dataset, rows)
    assert list(table.columns)[:9] == [
        *("path", "label", "uncertainty", "percentile"),
        *("tag", "new_label", "map_x", "map_y", "cluster"),
    ]
    assert table["path"].tolist() == [str(photos / dataset.images["path"][row]) for row in rows]
    assert all(Path(path).is_file() for path in table["path"])
    assert table["label"].tolist() == ["dog", "cat", "dog"]
    assert table["tag"].tolist() == ["unsure", "drop", "fix label"]
    assert table["new_label"].isna().tolist() == [True, True, False]
    assert table["new_label"][2] == "wolf, grey"
    np.testing.assert_array_equal(table["uncertainty"], dataset.uncertainty[rows])
    ranks = [100 * np.mean(dataset.uncertainty <= dataset.uncertainty[row]) for row in rows]
    np.testing.assert_allclose(table["percentile"], ranks, rtol=1e-6)
    np.testing.assert_array_equal(table[["map_x", "map_y"]], dataset.coords[rows])
    np.testing.assert_array_equal(table["cluster"], dataset.clusters.assignment[rows])
    assert not {"thumb_offset", "thumb_bytes"} & set(table)
    assert {"width", "height", "bytes", "content_hash"} <= set(table)


def test_the_reference_percentile_is_there_where_the_head_says(
    dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "reference_percentile" not in export_table(dataset)
    monkeypatch.setattr(type(dataset), "reference_percentile", lambda _, u: np.full(np.shape(u), 42, np.float32))
    table = export_table(dataset)
    assert table["reference_percentile"].tolist() == [42] * 12
    assert list(table.columns)[3:5] == ["percentile", "reference_percentile"]


def test_columns_of_the_users_own_are_kept_beside_ours(photos: Path) -> None:
    (photos / "labels.csv").write_text("path,label,tag,camera\ncat/0.png,cat,old,phone\n")
    opened = embed(photos, model=FakeEncoder(), workers=0)
    Tags.of(opened).set(0, "drop")
    table = export_table(opened)
    assert table.loc[0, ["tag", "tag_from_table", "camera"]].tolist() == ["drop", "old", "phone"]


def test_without_a_head_percentiles_are_empty_and_shares_refused(photos: Path) -> None:
    opened = embed(photos, model=FakeEncoder(has_head=False), workers=0)
    assert export_table(opened)["percentile"].isna().all()
    with pytest.raises(QueryError, match="no uncertainty head"):
        choose_rows(opened, keep=0.9)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_read_back_as_they_were(dataset: EmbeddedDataset, suffix: str) -> None:
    table = export_table(dataset)
    data = io.BytesIO(table_bytes(table, suffix))
    back = pd.read_csv(data) if suffix == ".csv" else pd.read_parquet(data)
    pd.testing.assert_frame_equal(back, table, check_dtype=suffix == ".parquet", rtol=1e-6)


def test_a_list_is_one_path_a_line(dataset: EmbeddedDataset) -> None:
    table = export_table(dataset)
    assert table_bytes(table, ".txt").decode().splitlines() == table["path"].tolist()
    table.loc[3, "path"] = "/photos/two\nlines.png"
    with pytest.raises(PVUError, match=r"'/photos/two\\nlines.png' holds a line break.*Take .csv"):
        table_bytes(table, ".txt")


def test_other_formats_are_refused(dataset: EmbeddedDataset) -> None:
    with pytest.raises(PVUError, match=r"The export writes .csv, .parquet, .txt, not '.xlsx'"):
        table_bytes(export_table(dataset), ".xlsx")


def test_embeddings_have_the_rows_of_the_table(
    dataset: EmbeddedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pvu.export._CHUNK", 2)
    rows = np.array([9, 0, 4, 4, 11])
    write_embeddings(dataset, rows, tmp_path / "z.npy")
    written = np.load(tmp_path / "z.npy")
    assert written.dtype == np.float16
    np.testing.assert_array_equal(written, np.asarray(dataset.embeddings)[rows])
    write_embeddings(dataset, rows[:0], tmp_path / "none.npy")
    assert np.load(tmp_path / "none.npy").shape == (0, 48)


@pytest.mark.parametrize("name", ["table.csv", "embeddings.npy"])
def test_what_cannot_be_written_is_one_sentence_and_no_half_a_file(
    dataset: EmbeddedDataset, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "nowhere" / name
    with pytest.raises(PVUError, match=f"{name} cannot be written: No such file or directory"):
        write_embeddings(dataset, np.arange(3), out) if out.suffix == ".npy" else write_table(
            export_table(dataset), out
        )
    assert not list(tmp_path.rglob("*.partial"))


def test_corrected_labels_are_the_new_ones_where_there_is_one(tmp_path: Path) -> None:
    write_pictures(tmp_path / "loose", ["a.png", "b.png", "c.png"])
    opened = embed(tmp_path / "loose", model=FakeEncoder(), workers=0)
    Tags.of(opened).set(1, "fix label", "owl")
    assert corrected_labels(opened).tolist() == [None, "owl", None]
    assert opened.labels.tolist() == [None, None, None]


def test_hugging_face_datasets_takes_the_files_in_three_lines(
    dataset: EmbeddedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = np.array([5, 2, 11])
    table, vectors = tmp_path / "kept.parquet", tmp_path / "kept.npy"
    write_table(export_table(dataset, rows), table)
    write_embeddings(dataset, rows, vectors)

    # As README.md has it.
    kept = datasets.Dataset.from_parquet(str(table)).rename_column("path", "image")
    kept = kept.cast_column("image", datasets.Image())
    kept = kept.add_column("embedding", list(np.load(vectors).astype("float32")))

    assert kept["label"][:] == dataset.labels[rows].tolist()
    assert kept["tag"][:] == ["fix label", "drop", None]
    np.testing.assert_allclose(kept["uncertainty"][:], dataset.uncertainty[rows])
    np.testing.assert_array_equal(kept["embedding"][:], np.asarray(dataset.embeddings, np.float32)[rows])
    for row, picture in zip(rows, kept["image"][:], strict=True):
        with Image.open(dataset.image_path(int(row))) as original:
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(original))
