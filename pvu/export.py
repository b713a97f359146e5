"""Write what is known of the images to a table."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from pvu.errors import PVUError
from pvu.store import EmbeddedDataset


def export_table(dataset: EmbeddedDataset) -> pd.DataFrame:
    """A row an image: absolute path of the original, label, uncertainty, percentile, place on the map, and the rest."""
    table = dataset.images.drop(columns=["thumb_offset", "thumb_bytes"])
    table["path"] = [str(dataset.source / path) for path in table["path"]]
    percentiles = dataset.percentiles if dataset.has_uncertainty else np.full(len(table), np.nan, np.float32)
    table = table.assign(percentile=percentiles, map_x=dataset.coords[:, 0], map_y=dataset.coords[:, 1])
    first = ["path", "label", "uncertainty", "percentile"]
    return table[first + [column for column in table if column not in first]]


def write_table(table: pd.DataFrame, out: Path) -> None:
    """Write a table as .csv, .parquet, or a .txt of its paths, to a temporary name first: never half a table.

    Raises:
        PVUError: if it cannot be written.
    """
    partial = out.with_name(out.name + ".partial")
    writers: dict[str, Callable[[Path], object]] = {
        ".csv": lambda path: table.to_csv(path, index=False),
        ".parquet": lambda path: table.to_parquet(path, index=False),
        ".txt": lambda path: path.write_text("".join(f"{line}\n" for line in table["path"]), encoding="utf-8"),
    }
    try:
        writers[out.suffix.lower()](partial)
        os.replace(partial, out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise PVUError(f"{out} cannot be written: {error.strerror or error}.") from error
