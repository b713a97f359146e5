"""Put a store together from finished shards and the store before it, and let it take its place in one step."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pvu.catalog import MANIFEST, SCHEMA, commit, partial_path
from pvu.clusters import find_clusters
from pvu.errors import SourceError
from pvu.neighbors import nearest_neighbors
from pvu.paths import home
from pvu.progress import Progress, ProgressCallback
from pvu.projection import project
from pvu.reference import as_quantiles
from pvu.shards import Key, Result, atomic_write, read_shards
from pvu.sources import table_hash
from pvu.store import EmbeddedDataset

NEIGHBORS = 30
"""Neighbours kept for each image: enough for UMAP (15), Recall@k and the review lists."""
_COLUMNS = ("path", "bytes", "mtime_ns", "width", "height", "content_hash", "uncertainty", "status", "error")
_KEPT = ("fitted_head",)
"""What a manifest says of its model's head, and not of this run."""
_VERSIONS = ("pvu", "torch", "timm", "faiss-cpu", "faiss-gpu", "umap-learn", "numpy", "pillow")


class Maker(Protocol):
    """What a store's manifest says of where its embeddings are from: a model, or somebody who brought them."""

    name: str
    fingerprint: str
    dim: int


def assemble(
    path: Path,
    files: pd.DataFrame,
    previous: EmbeddedDataset | None,
    encoder: Maker,
    *,
    root: Path,
    report: ProgressCallback,
    notes: dict[str, Any] | None = None,
) -> None:
    """Build ``path.partial`` from the shards in it and the previous store, and commit it as ``path``.

    Args:
        path: the store.
        files: what :func:`pvu.sources.find_images` found; its order becomes the row order.
        previous: the store that is there already, or None.
        encoder: what made the shards.
        root: the folder of the images.
        report: gets a Progress at each phase.
        notes: what else the manifest is to say, over what it says otherwise.
    """
    building = partial_path(path)
    building.mkdir(parents=True, exist_ok=True)
    wanted = _keys(files[files["error"].isna()])
    table = _write_images(building, wanted, previous, encoder.dim)
    embeddings = np.load(building / "embeddings.npy", mmap_mode="r")
    report(Progress("neighbors"))
    indices, similarities = _graph(embeddings)
    atomic_write(building / "neighbors.npz", lambda file: np.savez(file, indices=indices, similarities=similarities))
    report(Progress("map"))
    coords = project(embeddings, indices, similarities)
    atomic_write(building / "umap.npy", lambda file: np.save(file, coords))
    clusters = find_clusters(coords)
    atomic_write(building / "clusters.npy", lambda file: np.save(file, clusters))
    report(Progress("save"))
    failed = _failed(files, table)
    extra = [column for column in files if column not in ("path", "label", "bytes", "mtime_ns", "error")]
    full = _with_labels(pd.concat([table[table["status"] == "ok"], failed], ignore_index=True), files, extra)
    images = pa.Table.from_pandas(full, preserve_index=False)
    atomic_write(building / "images.parquet", lambda file: pq.write_table(images, file))
    kept = {} if previous is None else {name: previous.manifest[name] for name in _KEPT if name in previous.manifest}
    manifest = _manifest(full, encoder, root, extra, files) | kept | (notes or {})
    atomic_write(building / MANIFEST, lambda file: file.write(json.dumps(manifest, indent=1).encode()))
    commit(path)


def _keys(table: pd.DataFrame) -> list[Key]:
    return list(zip(table["path"], table["bytes"].tolist(), table["mtime_ns"].tolist(), strict=True))


def _write_images(building: Path, wanted: list[Key], previous: EmbeddedDataset | None, dim: int) -> pd.DataFrame:
    """Write embeddings.npy and thumbs.bin; returns a row for every wanted image, the good ones first, in order."""
    position = {key: place for place, key in enumerate(wanted)}
    rows: list[dict[str, Any] | None] = [None] * len(wanted)
    matrix = np.lib.format.open_memmap(
        building / "embeddings.all.npy", mode="w+", dtype=np.float16, shape=(len(wanted), dim)
    )
    _reserve(building / "embeddings.all.npy")
    offset = 0
    # Not written over: what a crash has left there may be a hard link to the file of a store that is in use.
    (building / "thumbs.bin").unlink(missing_ok=True)
    with (building / "thumbs.bin").open("wb") as thumbs:
        for result in _results(building, previous):
            place = position.get(result.key)
            if place is None or rows[place] is not None:
                continue
            row: dict[str, Any] = {name: getattr(result, name) for name in _COLUMNS if name != "status"}
            row |= {"status": "failed" if result.error else "ok", "thumb_offset": offset}
            row["thumb_bytes"] = len(result.thumbnail)
            if result.error is None:
                matrix[place] = np.frombuffer(result.embedding, np.float16)
            offset += thumbs.write(result.thumbnail)
            rows[place] = row
        thumbs.flush()
        os.fsync(thumbs.fileno())
    table = pd.DataFrame(rows)
    _require_one(table)
    good = (table["status"] == "ok").to_numpy()
    kept = matrix[good]
    atomic_write(building / "embeddings.npy", lambda file: np.save(file, kept))
    del matrix
    (building / "embeddings.all.npy").unlink()
    return pd.concat([table[good], table[~good]], ignore_index=True)


def _reserve(path: Path) -> None:
    """Claim a sparse file's space now: a disk that fills up under a memory map ends the process with a signal."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _require_one(table: pd.DataFrame) -> None:
    if not (table["status"] == "ok").any():
        raise SourceError(
            f"None of the {len(table):,} images could be read. The first, {table['path'].iloc[0]}: "
            f"{table['error'].iloc[0]}. Check the folder."
        )


def _results(building: Path, previous: EmbeddedDataset | None) -> Iterator[Result]:
    """What this run has computed, then what the store before it had."""
    yield from read_shards(building / "shards")
    if previous is None:
        return
    for row in previous.images.itertuples():
        yield Result(
            path=row.path,
            bytes=int(row.bytes),
            mtime_ns=int(row.mtime_ns),
            width=int(row.width),
            height=int(row.height),
            content_hash=row.content_hash,
            uncertainty=float(row.uncertainty),
            embedding=previous.embeddings[row.Index].tobytes(),
            thumbnail=previous.thumbnail(row.Index),
        )
    table = pd.read_parquet(previous.path / "images.parquet", columns=["path", "bytes", "mtime_ns", "error", "status"])
    for row in table[table["status"] != "ok"].itertuples():
        yield Result(row.path, int(row.bytes), int(row.mtime_ns), error=row.error)


def _graph(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(embeddings) < 2:
        return np.empty((len(embeddings), 0), np.int32), np.empty((len(embeddings), 0), np.float32)
    return nearest_neighbors(embeddings, NEIGHBORS)


def _failed(files: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What was left out before decoding, and what could not be decoded."""
    skipped = files.loc[files["error"].notna(), ["path", "bytes", "mtime_ns", "error"]].assign(
        status="failed", width=0, height=0, content_hash="", uncertainty=np.nan, thumb_offset=0, thumb_bytes=0
    )
    return pd.concat([table[table["status"] != "ok"], skipped], ignore_index=True).sort_values("path")


def _with_labels(table: pd.DataFrame, files: pd.DataFrame, extra: list[str]) -> pd.DataFrame:
    joined = table.merge(files[["path", "label", *extra]], on="path", how="left", sort=False)
    joined["label"] = joined["label"].astype(object).where(joined["label"].notna(), None)
    joined["error"] = joined["error"].astype(object).where(joined["error"].notna(), None)
    types = {"width": np.int32, "height": np.int32, "uncertainty": np.float32, "thumb_offset": np.int64}
    return joined.astype({**types, "thumb_bytes": np.int32, "bytes": np.int64, "mtime_ns": np.int64})


def display_name(root: Path) -> str:
    """The folder's name; for an upload without the hash that keeps uploads apart."""
    if root.parent == home() / "sources":
        return re.sub(r"-[0-9a-f]{12}$", "", root.name)
    return root.name


def _manifest(table: pd.DataFrame, encoder: Maker, root: Path, extra: list[str], files: pd.DataFrame) -> dict[str, Any]:
    ok = table["status"] == "ok"
    return {
        "schema": SCHEMA,
        "name": display_name(root),
        "source": str(root),
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "reference_quantiles": _quantiles(encoder),
        "has_head": bool(ok.any() and table.loc[ok, "uncertainty"].notna().all()),
        "counts": {"images": int(ok.sum()), "failed": int((~ok).sum())},
        "metadata_columns": extra,
        "table_hash": table_hash(files),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        "versions": _versions(),
    }


def _quantiles(encoder: Maker) -> list[float] | None:
    """Of the head's reference pictures; encoders need not have any."""
    quantiles = as_quantiles(getattr(encoder, "reference_quantiles", None))
    return None if quantiles is None else [float(value) for value in quantiles]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
