"""Embeddings that somebody has computed, and the table that goes with them: read, checked, never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from pvu.errors import SourceError
from pvu.progress import counted
from pvu.sources import free_names, path_column, read_table
from pvu.tables import class_names, name_of, unreadable

EMBEDDING_SUFFIXES = (".npy", ".parquet")
TABLE_SUFFIXES = (".csv", ".parquet")
_EMBEDDING_COLUMNS = ("embedding", "embeddings", "vector", "emb", "features", "z")
_UNCERTAINTY_COLUMNS = ("uncertainty", "u")
_BLOCK = 8192  # rows looked at in one go
# float16 keeps eleven bits between these; vectors beyond them are scaled, which no cosine notices.
_SMALL, _LARGE = 2.0**-8, float(np.finfo(np.float16).max)
_SHOWN = 3  # culprits named in a message


@dataclass(frozen=True)
class Brought:
    """Embeddings, one a row, and what is known of each.

    Args:
        file: where they are from.
        matrix: (N, D) of any real dtype; memory-mapped where the file allows it.
        table: N rows: ``path`` (str, unique), ``label`` (str or None), ``uncertainty`` (float64; NaN throughout if
            there is none), ``error`` (str, why a row cannot be used, or None), and the columns of the table.
        has_uncertainty: whether uncertainties came along.
        digest: hexadecimal; another one means other embeddings, or other uncertainties.
    """

    file: Path
    matrix: np.ndarray
    table: pd.DataFrame
    has_uncertainty: bool
    digest: str

    def half(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), D) float16 of these rows; those that float16 cannot hold are scaled by a power of two."""
        vectors = _wide(self.matrix[rows])
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        beyond = (largest < _SMALL) | (largest > _LARGE)
        safe = np.where(beyond & (largest > 0) & np.isfinite(largest), largest, 1)
        return (vectors * np.where(beyond, 2.0 ** -np.floor(np.log2(safe)), 1)).astype(np.float16)


def read_brought(embeddings: Path, *, table: Path | None = None, uncertainty: Path | None = None) -> Brought:
    """Read and check embeddings, without changing anything.

    Args:
        embeddings: a .npy of (N, D) numbers, or a .parquet with a column of lists of numbers, all of one length.
        table: a .csv or .parquet with a row for each embedding, in the same order: ``path`` (or ``file_name``),
            ``label``, ``uncertainty`` (or ``u``) and other columns, none of them necessary. A Parquet file of
            embeddings may have these columns itself.
        uncertainty: a .npy of (N,) numbers; else the column.

    Raises:
        SourceError: if a file cannot be read, shapes or numbers of rows do not fit, paths occur twice or lead out of
            their folder, or no row at all can be used. A row with NaN, infinities or nothing but zeros is no reason: it
            is noted in the column ``error``.
    """
    matrix, own = _read_embeddings(embeddings)
    columns = own if table is None else _read_columns(table)
    if columns is not None and len(columns) != len(matrix):
        raise SourceError(
            f"{embeddings.name} has {len(matrix):,} rows, {(table or embeddings).name} has {len(columns):,}. "
            "Expected one row of the table for each embedding, in the same order."
        )
    known = _known(columns if columns is not None else pd.DataFrame(index=range(len(matrix))))
    if uncertainty is not None:
        known["uncertainty"] = _read_uncertainty(uncertainty, len(matrix))
    has_uncertainty = bool(known["uncertainty"].notna().any())
    digest = hashlib.blake2b(known["uncertainty"].to_numpy().tobytes(), digest_size=16)
    known["error"] = pd.Series(list(_errors(matrix, digest)), dtype=object)
    if has_uncertainty:
        unsure = known["error"].isna() & ~np.isfinite(known["uncertainty"])
        known.loc[unsure, "error"] = "its uncertainty is no finite number"
    if known["error"].notna().all():
        raise SourceError(
            f"None of the {counted(len(known), 'row')} of {embeddings.name} can be used: "
            f"of the first, {known['error'].iloc[0]}."
        )
    return Brought(embeddings, matrix, known, has_uncertainty, digest.hexdigest())


def _wide(block: np.ndarray) -> np.ndarray:
    return np.asarray(block, np.float64 if block.dtype.itemsize > 4 else np.float32)


def _read_embeddings(path: Path) -> tuple[np.ndarray, pd.DataFrame | None]:
    if path.suffix.lower() == ".npy":
        matrix, columns = _load_array(path), None
    elif path.suffix.lower() == ".parquet":
        matrix, columns = _read_parquet(path)
    else:
        raise SourceError(f"{path} is none of {', '.join(EMBEDDING_SUFFIXES)}. Save the embeddings as one of these.")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise SourceError(f"{path} holds an array of shape {matrix.shape}. Expected (N, D), one embedding a row.")
    if matrix.dtype.kind not in "fiu":
        raise SourceError(f"{path} holds {matrix.dtype}. Expected numbers, float32 say.")
    return matrix, columns


def _load_array(path: Path) -> np.ndarray:
    """A .npy, memory-mapped. Pickled objects, which can run code, are refused."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{path} is not a .npy of numbers that can be read ({error}).") from error
    if not isinstance(loaded, np.ndarray):
        raise SourceError(f"{path} holds several arrays. Save the one that is meant as .npy.")
    return loaded


def _read_uncertainty(path: Path, count: int) -> np.ndarray:
    values = _load_array(path)
    if values.shape not in ((count,), (count, 1)) or values.dtype.kind not in "fiu":
        raise SourceError(
            f"{path} holds {values.dtype} of shape {values.shape}. Expected ({count},), one number for each embedding."
        )
    return np.asarray(values, np.float64).reshape(-1)


def _read_parquet(path: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """The embeddings of a Parquet file, and its columns of single values."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            column = _embedding_column(path, schema)
            size, count = 0, file.metadata.num_rows
            matrix = np.empty((count, 0), np.float32)
            start = 0
            for batch in file.iter_batches(batch_size=_BLOCK, columns=[column]):
                block = _vectors(path, batch.column(0), start, size)
                if size == 0 and block.shape[1] > 0:
                    size = block.shape[1]
                    matrix = np.full((count, size), np.nan, block.dtype if block.dtype.kind == "f" else np.float32)
                if block.shape[1] == size:
                    matrix[start : start + len(block)] = block
                start += len(block)
        return matrix, _scalar_columns(path, schema)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise unreadable(path, error) from error


def _embedding_column(path: Path, schema: Any) -> str:
    import pyarrow.types as kinds

    lists = (kinds.is_list, kinds.is_large_list, kinds.is_fixed_size_list)
    found = [
        field.name
        for field in schema
        if any(is_list(field.type) for is_list in lists)
        and (kinds.is_floating(field.type.value_type) or kinds.is_integer(field.type.value_type))
    ]
    found = [name for name in _EMBEDDING_COLUMNS if name in found][:1] or found
    if len(found) != 1:
        raise SourceError(
            f"{path} has the columns {', '.join(schema.names)}, of which {len(found)} hold lists of numbers. Expected "
            f"one, or one named {' or '.join(_EMBEDDING_COLUMNS)}."
        )
    return found[0]


def _vectors(path: Path, column: Any, start: int, size: int) -> np.ndarray:
    """(n, D) of a column of lists; NaN where a list is missing. D = 0 if all are.

    Args:
        path: to be named in messages.
        column: a pyarrow array of lists.
        start: the row of the first.
        size: the length that all are to have; 0 if it is not known yet.
    """
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    there = lengths >= 0
    size = size or int(lengths.max(initial=0))
    wrong = np.flatnonzero(there & (lengths != size))
    if len(wrong):
        raise SourceError(
            f"{path} has embeddings of different lengths: {size} numbers at first, {lengths[wrong[0]]} in row "
            f"{start + wrong[0]:,}. Expected one length."
        )
    values = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    block = np.full((len(lengths), size), np.nan, values.dtype if values.dtype.kind == "f" else np.float32)
    block[there] = values.reshape(-1, size) if size else 0
    return block


def _scalar_columns(path: Path, schema: Any) -> pd.DataFrame:
    """The columns of single values of a Parquet file; numbers that have names as these."""
    import pyarrow.parquet as pq
    import pyarrow.types as kinds

    other = (kinds.is_nested, kinds.is_binary, kinds.is_large_binary, kinds.is_null)
    names = [field.name for field in schema if not any(is_other(field.type) for is_other in other)]
    table = pq.read_table(path, columns=names)
    frame = table.to_pandas() if names else pd.DataFrame(index=range(table.num_rows))
    for name in names:
        classes = class_names(schema, name)
        if classes is not None or name == "label":
            frame[name] = pd.Series([name_of(value, classes) for value in table[name].to_pylist()], dtype=object)
    return frame


def _read_columns(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".csv":
        return read_table(path)
    if path.suffix.lower() != ".parquet":
        raise SourceError(f"{path} is none of {', '.join(TABLE_SUFFIXES)}. Save the table as one of these.")
    import pyarrow.parquet as pq

    try:
        return _scalar_columns(path, pq.read_schema(path))
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise unreadable(path, error) from error


def _known(columns: pd.DataFrame) -> pd.DataFrame:
    """A table's columns under the names that a store has for them."""
    columns = columns.reset_index(drop=True)
    known = pd.DataFrame(index=columns.index)
    name = path_column(columns)
    known["path"] = _paths(columns[name]) if name else [f"{row:07d}" for row in range(len(columns))]
    labels = columns["label"] if "label" in columns else [None] * len(columns)
    known["label"] = pd.Series([None if pd.isna(label) else str(label) for label in labels], dtype=object)
    of_u = next((column for column in _UNCERTAINTY_COLUMNS if column in columns), None)
    known["uncertainty"] = _numbers(columns[of_u]) if of_u else np.full(len(columns), np.nan)
    rest = columns.drop(columns=[column for column in (name, "label", of_u) if column in columns])
    rest = rest.rename(columns=free_names(list(rest.columns)))
    return pd.concat([known, rest], axis=1)


def _numbers(column: pd.Series) -> np.ndarray:
    try:
        return column.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise SourceError(
            f"The column {column.name!r} holds what is no number ({error}). Rename or mend it."
        ) from error


def _paths(column: pd.Series) -> list[str]:
    """Paths as a store has them: with /, inside their folder or absolute, each once."""
    paths = ["" if pd.isna(path) else str(path).replace("\\", "/") for path in column]
    for row, path in enumerate(paths):
        parts = PurePosixPath(path).parts
        if not parts or ".." in parts or "\0" in path:
            found = f"leads outside its folder: {path!r}" if parts else "is empty"
            raise SourceError(f"The path of row {row:,} {found}. Expected the path of an image, or no column of paths.")
    paths = [PurePosixPath(path).as_posix() for path in paths]
    twice = pd.Series(paths)[pd.Series(paths).duplicated()].unique()
    if len(twice):
        named = ", ".join(map(repr, twice[:_SHOWN]))
        raise SourceError(f"{counted(len(twice), 'path')} occur more than once: {named}. Expected one row an image.")
    return paths


def _errors(matrix: np.ndarray, digest: Any) -> Iterator[str | None]:
    """Why each row cannot be used, or None. Feeds the matrix to the digest on the way."""
    digest.update(f"{matrix.shape}{matrix.dtype}".encode())
    for start in range(0, len(matrix), _BLOCK):
        block = np.ascontiguousarray(matrix[start : start + _BLOCK])
        digest.update(block.tobytes())
        finite = np.isfinite(block).all(axis=1) if block.dtype.kind == "f" else np.ones(len(block), bool)
        zero = ~np.asarray(block.any(axis=1))
        for is_finite, is_zero in zip(finite, zero, strict=True):
            yield (
                "its embedding holds NaN or infinite values"
                if not is_finite
                else "its embedding is all zeros, which is like nothing"
                if is_zero
                else None
            )
