"""What people bring: embeddings, uncertainties and tables of every usual form, and one sentence for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pvu.brought import read_brought
from pvu.errors import SourceError

RNG = np.random.default_rng(0)


@pytest.fixture
def z() -> np.ndarray:
    return RNG.normal(size=(12, 5)).astype(np.float32)


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.int8, np.uint8])
def test_every_real_type_of_number(dtype: str, tmp_path: Path, z: np.ndarray) -> None:
    brought = read_brought(save(tmp_path / "z.npy", (10 * np.abs(z)).astype(dtype)))
    rows = np.array([3, 0])
    assert brought.half(rows).dtype == np.float16
    np.testing.assert_allclose(brought.half(rows), (10 * np.abs(z)).astype(dtype)[rows], rtol=1e-3)
    assert brought.table["path"].tolist() == [f"{row:07d}" for row in range(12)]
    assert not brought.has_uncertainty


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1.0, 1e5, 1e30])
def test_what_float16_cannot_hold_is_scaled_so_that_no_cosine_notices(
    factor: float, tmp_path: Path, z: np.ndarray
) -> None:
    half = read_brought(save(tmp_path / "z.npy", z.astype(np.float64) * factor)).half(np.arange(12)).astype(np.float64)
    assert np.isfinite(half).all()
    cosines = (half * z).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(z, axis=1)
    assert (cosines > 1 - 1e-6).all()
    if factor == 1:
        np.testing.assert_array_equal(half, z.astype(np.float16))


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed"])
def test_a_parquet_file_of_everything(kind: str, tmp_path: Path, z: np.ndarray) -> None:
    number = pa.float32()
    kinds = {"list": pa.list_(number), "large_list": pa.large_list(number), "fixed": pa.list_(number, 5)}
    rows: list[list[float] | None] = [*z.tolist()]
    rows[4] = None
    columns = {
        "file_name": [f"{i}.jpg" for i in range(12)],
        "vec": pa.array(rows, kinds[kind]),
        "label": list(range(2)) * 6,
        "u": np.arange(12) / 7,
        "width": list(range(12)),
        "tags": [["a"]] * 12,
    }
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), tmp_path / "z.parquet", row_group_size=5)
    brought = read_brought(tmp_path / "z.parquet")
    kept = np.array([row for row in range(12) if row != 4])
    np.testing.assert_allclose(brought.half(kept), z[kept], rtol=1e-3)
    table = brought.table
    assert table["error"].tolist() == [
        "its embedding holds NaN or infinite values" if row == 4 else None for row in range(12)
    ]
    assert table["label"].tolist() == ["cat", "dog"] * 6
    assert table["path"].tolist() == [f"{i}.jpg" for i in range(12)]
    np.testing.assert_array_equal(table["uncertainty"], np.arange(12) / 7)
    assert table["width_from_table"].tolist() == list(range(12))
    assert set(table) == {"path", "label", "uncertainty", "error", "width_from_table"}
    assert brought.has_uncertainty


def test_a_csv_beside_and_uncertainties_of_a_file_of_their_own(tmp_path: Path, z: np.ndarray) -> None:
    lines = [f"a\\{i}.jpg,00{i},9,s{i}\n" for i in range(12)]
    (tmp_path / "t.csv").write_text("path,label,uncertainty,site\n" + "".join(lines))
    table = read_brought(save(tmp_path / "z.npy", z), table=tmp_path / "t.csv").table
    assert table["path"].tolist() == [f"a/{i}.jpg" for i in range(12)]
    assert table["label"].tolist() == [f"00{i}" for i in range(12)]
    assert set(table["uncertainty"]) == {9}
    u = save(tmp_path / "u.npy", np.arange(12)[:, None])
    table = read_brought(tmp_path / "z.npy", table=tmp_path / "t.csv", uncertainty=u).table
    assert table["uncertainty"].tolist() == list(range(12))
    assert table["site"].tolist() == [f"s{i}" for i in range(12)]


def test_rows_that_cannot_be_used_are_noted_and_the_rest_counts(tmp_path: Path, z: np.ndarray) -> None:
    z[1, 2], z[5], z[7, 0] = np.nan, 0, np.inf
    u = np.arange(12.0)
    u[9] = np.nan
    brought = read_brought(save(tmp_path / "z.npy", z), uncertainty=save(tmp_path / "u.npy", u))
    errors = brought.table["error"].dropna()
    assert errors.to_dict() == {
        1: "its embedding holds NaN or infinite values",
        5: "its embedding is all zeros, which is like nothing",
        7: "its embedding holds NaN or infinite values",
        9: "its uncertainty is no finite number",
    }


def test_the_digest_is_of_embeddings_and_uncertainties(tmp_path: Path, z: np.ndarray) -> None:
    path = save(tmp_path / "z.npy", z)
    u = save(tmp_path / "u.npy", np.arange(12.0))
    first = read_brought(path).digest
    assert read_brought(save(tmp_path / "again.npy", z)).digest == first
    assert read_brought(path, uncertainty=u).digest != first
    z[3, 3] += 1
    assert read_brought(save(path, z)).digest != first


ONES = np.ones((4, 3))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(4), r"an array of shape \(4,\). Expected \(N, D\)"),
        (np.ones((4, 0)), r"an array of shape \(4, 0\)"),
        (np.ones((2, 3, 4)), r"an array of shape \(2, 3, 4\)"),
        (ONES.astype(complex), "holds complex128. Expected numbers"),
        (ONES > 0, "holds bool"),
        (np.array([["a", "b"]]), "holds <U1"),
        (np.array([[{}]], dtype=object), "not a .npy of numbers that can be read .*Python objects"),
        (np.full((4, 3), np.nan), "None of the 4 rows of z.npy can be used: .*NaN"),
        (np.zeros((4, 3)), "None of the 4 rows of z.npy can be used: .*zeros"),
    ],
)
def test_arrays_that_are_no_embeddings(array: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        read_brought(save(tmp_path / "z.npy", array))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path\na\nb\nc\n", r"z.npy has 4 rows, t.csv has 3. Expected one row of the table for each embedding"),
        ("path\na\nb\na\nb\n", r"2 paths occur more than once: 'a', 'b'"),
        ("path\na\nb\n../c\nd\n", r"path of row 2 leads outside its folder: '../c'"),
        ("path,x\na,1\nb,1\n,1\nd,1\n", r"path of row 2 is empty"),
        ("path,u\na,1\nb,x\nc,1\nd,1\n", r"column 'u' holds what is no number"),
    ],
)
def test_tables_that_do_not_fit(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(SourceError, match=message):
        read_brought(save(tmp_path / "z.npy", ONES), table=tmp_path / "t.csv")


@pytest.mark.parametrize("u", [np.ones(3), np.ones((2, 2)), np.array(list("abcd"))])
def test_uncertainties_that_do_not_fit(u: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"Expected \(4,\), one number for each embedding"):
        read_brought(save(tmp_path / "z.npy", ONES), uncertainty=save(tmp_path / "u.npy", u))


def test_parquet_files_that_hold_no_embeddings(tmp_path: Path) -> None:
    path = tmp_path / "z.parquet"

    def refused(columns: dict[str, object], message: str) -> None:
        pq.write_table(pa.table(columns), path)
        with pytest.raises(SourceError, match=message):
            read_brought(path)

    refused({"a": [1, 2]}, "columns a, of which 0 hold lists of numbers")
    refused({"a": [[1.0], [2.0]], "b": [[1.0], [2.0]]}, "columns a, b, of which 2 hold lists of numbers")
    refused({"z": [[1.0, 2.0], [2.0]]}, r"different lengths: 2 numbers at first, 1 in row 1")
    refused({"z": pa.array([None, None], pa.list_(pa.float32()))}, r"shape \(2, 0\)")
    path.write_bytes(b"x" * 100)
    with pytest.raises(SourceError, match="not a table that can be read"):
        read_brought(path)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    np.savez(tmp_path / "z.npz", a=ONES)
    with pytest.raises(SourceError, match=r"z.npz is none of .npy, .parquet"):
        read_brought(tmp_path / "z.npz")
    (tmp_path / "z.npz").rename(tmp_path / "z.npy")
    with pytest.raises(SourceError, match="holds several arrays"):
        read_brought(tmp_path / "z.npy")
    pd.DataFrame({"path": ["a"]}).to_json(tmp_path / "t.json")
    with pytest.raises(SourceError, match=r"t.json is none of .csv, .parquet"):
        read_brought(save(tmp_path / "y.npy", ONES), table=tmp_path / "t.json")
