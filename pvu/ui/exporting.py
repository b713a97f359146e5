"""What can be exported, which rows that is, and the files that the browser downloads."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import streamlit as st

from pvu.export import choose_rows, export_table, table_bytes, write_embeddings
from pvu.store import EmbeddedDataset
from pvu.tags import DROP, FIX, KEEP, UNSURE, Tags
from pvu.ui.state import selection

SELECTED, CERTAIN, UNCERTAIN = "selected", "certain", "uncertain"
FORMATS = {
    ".csv": ("CSV", "text/csv"),
    ".parquet": ("Parquet", "application/vnd.apache.parquet"),
    ".txt": ("List of paths", "text/plain"),
}
_NAMES = {
    "all": "All images",
    SELECTED: "Selected on the map",
    "not-dropped": "All but the dropped",
    "kept": "Tagged keep",
    "dropped": "Tagged drop",
    "fix-label": "Tagged fix label",
    "unsure": "Tagged unsure",
    CERTAIN: "The most certain …",
    UNCERTAIN: "The most uncertain …",
}


@dataclass(frozen=True)
class Choice:
    """Something that can be exported.

    Args:
        name: in words.
        count: images; None where a share decides.
    """

    name: str
    count: int | None

    def __str__(self) -> str:
        return self.name if self.count is None else f"{self.name} ({self.count:,})"


def choices(dataset: EmbeddedDataset) -> dict[str, Choice]:
    """What there is to export now; what would be no image is left out, but for the map's selection, which says so."""
    tags = Tags.of(dataset).counts
    counts: dict[str, int | None] = {
        "all": len(dataset),
        SELECTED: len(selection(dataset)),
        "not-dropped": len(dataset) - tags[DROP] if tags[DROP] else 0,
        "kept": tags[KEEP],
        "dropped": tags[DROP],
        "fix-label": tags[FIX],
        "unsure": tags[UNSURE],
    }
    if dataset.has_uncertainty:
        counts |= {CERTAIN: None, UNCERTAIN: None}
    return {key: Choice(_NAMES[key], count) for key, count in counts.items() if count != 0}


def chosen_rows(dataset: EmbeddedDataset, what: str, share: int) -> np.ndarray:
    """The rows of a choice, ascending.

    Args:
        dataset: any.
        what: a key of :func:`choices`.
        share: in percent, for the most certain or uncertain.
    """
    if what == SELECTED:
        return np.sort(selection(dataset))
    if what not in (CERTAIN, UNCERTAIN):
        return choose_rows(dataset, what)
    order = np.argsort(dataset.uncertainty, kind="stable")
    count = max(1, round(share * len(dataset) / 100))
    return np.sort(order[:count] if what == CERTAIN else order[-count:])


def table_download(dataset: EmbeddedDataset, rows: np.ndarray, suffix: str) -> None:
    """The button that gives the table; its content is made when it is pressed."""
    st.download_button(
        f"Download {FORMATS[suffix][0]}",
        data=lambda: table_bytes(export_table(dataset, rows), suffix),
        file_name=f"{dataset.name}{suffix}",
        mime=FORMATS[suffix][1],
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        key="download_table",
    )


def embeddings_download(dataset: EmbeddedDataset, rows: np.ndarray) -> None:
    """The button that gives a .zip of embeddings and table."""
    st.download_button(
        "Download embeddings and table",
        data=lambda: embeddings_zip(dataset, rows),
        file_name=f"{dataset.name}-embeddings.zip",
        mime="application/zip",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        key="download_embeddings",
    )


def embeddings_zip(dataset: EmbeddedDataset, rows: np.ndarray) -> bytes:
    """A .zip of NAME.npy, (m, D) float16, and NAME.parquet, the same rows in the same order."""
    buffer = io.BytesIO()
    # Stored, not deflated: floats hardly shrink, and the wait would.
    with TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        vectors = Path(folder) / "embeddings.npy"
        write_embeddings(dataset, rows, vectors)
        archive.write(vectors, f"{dataset.name}.npy")
        archive.writestr(f"{dataset.name}.parquet", table_bytes(export_table(dataset, rows), ".parquet"))
    return buffer.getvalue()


def report_key(dataset: EmbeddedDataset, *, full_paths: bool) -> str:
    """Changes with whatever a report says."""
    return f"report:{dataset.version}:{Tags.of(dataset).version}:{full_paths}"
