"""What is known of the images, as files that other programs read: a table, a list of paths, the embeddings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from pvu.errors import PVUError
from pvu.store import EmbeddedDataset
from pvu.tags import DROP, FIX, KEEP, UNSURE, Tags

FORMATS = (".csv", ".parquet", ".txt")
CHOICES: dict[str, str] = {
    "all": "all images",
    "kept": "images tagged keep",
    "not-dropped": "all but the images tagged drop",
    "dropped": "images tagged drop",
    "fix-label": "images tagged fix label",
    "unsure": "images tagged unsure",
    "tagged": "images with any tag",
    "untagged": "images without a tag",
}
"""What can be exported by its tags, and in words."""
_OF_TAG = {"kept": KEEP, "dropped": DROP, "fix-label": FIX, "unsure": UNSURE}
_CHUNK = 16_384


def choose_rows(dataset: EmbeddedDataset, what: str = "all", *, keep: float = 1.0) -> np.ndarray:
    """The rows of the images to export, by what a person has decided about them.

    Args:
        dataset: any.
        what: a key of CHOICES.
        keep: in (0, 1], only this most certain share of the whole data set.

    Returns:
        (m,) int64, ascending.

    Raises:
        PVUError: if there is no such choice.
        QueryError: if a share is asked for and the model has no head.
    """
    if what not in CHOICES:
        raise PVUError(f"There is no choice {what!r}. The choices are {', '.join(CHOICES)}.")
    chosen = np.ones(len(dataset), bool)
    if what != "all":
        tag = Tags.of(dataset).values.tag
        has_tag = tag != None  # noqa: E711 (elementwise: None is what an untagged row holds)
        by_name = {"tagged": has_tag, "untagged": ~has_tag, "not-dropped": tag != DROP}
        chosen = by_name[what] if what in by_name else tag == _OF_TAG[what]
    if keep < 1:
        chosen = chosen & (dataset.uncertainty <= dataset.threshold(keep))
    return np.flatnonzero(chosen)


def corrected_labels(dataset: EmbeddedDataset) -> np.ndarray:
    """(N,) object: each image's label, the new one where it is tagged "fix label"; None where there is none."""
    new = Tags.of(dataset).values.label
    return np.where(new != None, new, dataset.labels)  # noqa: E711 (elementwise)


def export_table(dataset: EmbeddedDataset, rows: np.ndarray | None = None) -> pd.DataFrame:
    """A row an image, with all that is known about it.

    Args:
        dataset: any.
        rows: (m,) int, which images, in this order; None takes all.

    Returns:
        ``path`` (of the original, absolute), ``label``, ``uncertainty``, ``percentile`` (NaN without a head), perhaps
        ``reference_percentile``, then ``tag`` and ``new_label`` (missing where nothing was decided), ``map_x``,
        ``map_y``, ``cluster`` (-1 for none), and every other column of the store and of the user's own table.
    """
    rows = np.arange(len(dataset)) if rows is None else np.asarray(rows)
    table = dataset.images.drop(columns=["thumb_offset", "thumb_bytes"]).iloc[rows].reset_index(drop=True)
    source = f"{dataset.source}{os.sep}"
    table["path"] = source + table["path"]
    tags = Tags.of(dataset).values
    has_head = dataset.has_uncertainty
    known = {
        "percentile": dataset.percentiles[rows] if has_head else np.full(len(rows), np.nan, np.float32),
        **_reference(dataset, rows),
        # As text even where none is set: a column without values would be of no type in Parquet.
        "tag": pd.Series(tags.tag[rows], dtype="string"),
        "new_label": pd.Series(tags.label[rows], dtype="string"),
        "map_x": dataset.coords[rows, 0],
        "map_y": dataset.coords[rows, 1],
        "cluster": dataset.clusters.assignment[rows],
    }
    # A column of the user's own that is named as one of these keeps a name of its own.
    table = table.rename(columns={name: f"{name}_from_table" for name in known if name in table})
    table = table.assign(**known)
    first = ["path", "label", "uncertainty", *known]
    return table[first + [column for column in table if column not in first]]


def _reference(dataset: EmbeddedDataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The percentile among the head's reference pictures, where the head says."""
    values = dataset.reference_percentile(dataset.uncertainty[rows])
    return {} if np.isnan(values).all() else {"reference_percentile": values}


def table_bytes(table: pd.DataFrame, suffix: str) -> bytes:
    """A table as the content of a file.

    Args:
        table: of :func:`export_table`.
        suffix: one of FORMATS: ".txt" is one path a line.

    Raises:
        PVUError: if the format is another, or a path cannot be a line.
    """
    buffer = pa.BufferOutputStream()
    if suffix == ".csv":  # pandas' own writer takes ten times as long
        options = pa.csv.WriteOptions(quoting_style="needed")
        pa.csv.write_csv(pa.Table.from_pandas(table, preserve_index=False), buffer, options)
        return buffer.getvalue().to_pybytes()
    if suffix == ".parquet":
        table.to_parquet(buffer, index=False)
        return buffer.getvalue().to_pybytes()
    if suffix != ".txt":
        raise PVUError(f"The export writes {', '.join(FORMATS)}, not {suffix!r}.")
    broken = [path for path in table["path"] if "\n" in path or "\r" in path]
    if broken:
        raise PVUError(f"The name of {broken[0]!r} holds a line break, which a list of lines cannot say. Take .csv.")
    return "".join(f"{path}\n" for path in table["path"]).encode()


def write_table(table: pd.DataFrame, out: Path) -> None:
    """Write a table as .csv, .parquet, or a .txt of its paths, to a temporary name first: never half a table.

    Raises:
        PVUError: if it cannot be written.
    """
    data = table_bytes(table, out.suffix.lower())
    _write(out, lambda partial: partial.write_bytes(data))


def write_embeddings(dataset: EmbeddedDataset, rows: np.ndarray, out: Path) -> None:
    """Write embeddings as a .npy of shape (m, D) float16, row i belonging to row i of ``export_table(dataset, rows)``.

    Args:
        dataset: any.
        rows: (m,) int.
        out: the .npy file. It is complete or not there at all.

    Raises:
        PVUError: if it cannot be written.
    """

    def write(partial: Path) -> None:
        shape = (len(rows), dataset.embeddings.shape[1])
        with partial.open("wb") as file:  # np.save would append .npy to the temporary name
            header = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(rows), _CHUNK):  # the store may be larger than memory
                file.write(np.asarray(dataset.embeddings[rows[start : start + _CHUNK]], "<f2").tobytes())

    _write(out, write)


def _write(out: Path, write: Callable[[Path], object]) -> None:
    partial = out.with_name(out.name + ".partial")
    try:
        write(partial)
        os.replace(partial, out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise PVUError(f"{out} cannot be written: {error.strerror or error}.") from error
