from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.rows import JoinedColumns, MappedRows, allow_open_files


@pytest.fixture
def parts(tmp_path: Path) -> list[np.ndarray]:
    """Four memory-mapped arrays of 5, 1, 0 and 9 rows."""
    rng = np.random.default_rng(0)
    for index, count in enumerate((5, 1, 0, 9)):
        np.save(tmp_path / f"{index}.npy", rng.normal(size=(count, 3)).astype(np.float16))
    return [np.load(tmp_path / f"{index}.npy", mmap_mode="r" if index != 2 else None) for index in range(4)]


def test_it_is_indexed_like_one_array(parts: list[np.ndarray]) -> None:
    rows, whole = MappedRows(parts), np.concatenate(parts)
    assert (len(rows), rows.shape, rows.dtype, rows.ndim) == (15, (15, 3), np.float16, 2)
    rng = np.random.default_rng(0)
    for index in (
        slice(None),
        slice(3, 12, 4),
        slice(None, None, -1),
        rng.integers(-15, 15, 40),
        rng.random(15) < 0.4,
        np.zeros(15, bool),
        [14, 0, 0, 5],
        [],
    ):
        found = rows[index]
        np.testing.assert_array_equal(found, whole[np.array(index, int) if isinstance(index, list) else index])
        assert found.dtype == np.float16
    np.testing.assert_array_equal(np.asarray(rows), whole)
    np.testing.assert_array_equal(np.asarray(rows, np.float32), whole.astype(np.float32))


@pytest.mark.parametrize("index", [[15], [-16], [0.5], np.zeros(3, bool), np.zeros((2, 2), int)])
def test_rows_that_are_not_there_are_refused(index: object, parts: list[np.ndarray]) -> None:
    with pytest.raises(IndexError, match="Expected"):
        MappedRows(parts)[index]  # type: ignore[index]


def test_more_files_than_a_system_allows_unless_asked(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    np.save(tmp_path / "0.npy", np.zeros((2, 3), np.float16))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            _ = [np.load(tmp_path / "0.npy", mmap_mode="r") for _ in range(300)]
        allow_open_files(300)
        assert len([np.load(tmp_path / "0.npy", mmap_mode="r") for _ in range(300)]) == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("index", [slice(2, 9), np.array([7, 0, 7]), np.arange(10) % 3 == 0])
def test_joined_columns_are_those_of_the_concatenated_tables(index: object) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(10, 3)), rng.normal(size=(10, 5))
    joined = JoinedColumns([MappedRows([left[:4], left[4:]]), right])
    whole = np.concatenate([left, right], axis=1)
    assert (len(joined), joined.shape, joined.ndim, joined.dtype) == (10, (10, 8), 2, whole.dtype)
    np.testing.assert_array_equal(joined[index], whole[index])  # type: ignore[index]
    np.testing.assert_array_equal(np.asarray(joined), whole)
