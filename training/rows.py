"""Rows that lie in many memory-mapped files, used like one array: what is asked for is read, and no more."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

if sys.platform != "win32":
    import resource

Index = slice | np.ndarray | Sequence[int]


class MappedRows:
    """The rows of several arrays, one after the other.

    Args:
        parts: arrays of (n_i, ...) with one dtype and one shape behind n_i, memory-mapped.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.dtype = parts[0].dtype
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> np.ndarray:
        """The rows (n, ...) of a slice, of indices (n,) int or of a mask (V,) bool, in memory, in that order."""
        rows = self._rows(index)
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        order = np.argsort(rows, kind="stable")  # so that each part is read once, from its beginning to its end
        rows = rows[order]
        edges = np.searchsorted(rows, self.starts)
        for part in np.flatnonzero(np.diff(edges)):
            inside = slice(edges[part], edges[part + 1])
            found[order[inside]] = self.parts[part][rows[inside] - self.starts[part]]
        return found

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def _rows(self, index: Index) -> np.ndarray:
        if isinstance(index, slice):
            return np.arange(*index.indices(len(self)))
        rows = np.asarray(index)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise IndexError(f"Expected a mask of {len(self)} rows, got {rows.shape}.")
            return np.flatnonzero(rows)
        if rows.ndim != 1 or (len(rows) and not np.issubdtype(rows.dtype, np.integer)):
            raise IndexError(f"Expected a slice, a mask or a list of row numbers, got {rows.dtype} {rows.shape}.")
        rows = np.where(rows < 0, rows + len(self), rows).astype(np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"Expected rows of {len(self)}, got {rows.min()} to {rows.max()}.")
        return rows


def allow_open_files(count: int) -> None:
    """Make room for memory-mapped arrays: each keeps its file open, and many systems allow 1,024 unless asked."""
    if sys.platform == "win32":
        return
    wanted = count + 512  # what else is open
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class JoinedColumns:
    """The columns of several tables with the same rows, side by side: rows are joined when they are asked for.

    Args:
        tables: (N, D_i) each, arrays or :class:`MappedRows`, with one dtype.
    """

    def __init__(self, tables: Sequence[np.ndarray | MappedRows]) -> None:
        self.tables = list(tables)
        self.dtype = tables[0].dtype
        self.shape = (len(tables[0]), sum(table.shape[1] for table in tables))
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> np.ndarray:
        """The rows (n, D) of a slice, of indices or of a mask, in memory."""
        return np.concatenate([table[index] for table in self.tables], axis=1)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)
