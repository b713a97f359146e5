"""Which stores there are on this disk, and how a finished one takes its place. The layout is in README.md."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pvu.errors import StoreError
from pvu.paths import home
from pvu.sources import resolve_source

SCHEMA = 1
MANIFEST = "manifest.json"


def stores_folder() -> Path:
    """Where stores live."""
    return home() / "stores"


def read_manifest(path: Path) -> dict[str, Any]:
    """A store's manifest.

    Raises:
        StoreError: if it is missing, damaged, or of another schema.
    """
    try:
        manifest: dict[str, Any] = json.loads(_manifest_text(path))
    except FileNotFoundError:
        raise StoreError(f"There is no store at {path}.") from None
    except (OSError, json.JSONDecodeError) as error:
        raise StoreError(f"The store {path} cannot be read: {error}. Delete it and embed the folder again.") from error
    if manifest.get("schema") != SCHEMA:
        raise StoreError(
            f"The store {path} has schema {manifest.get('schema')}, this version of pvu reads {SCHEMA}. "
            "Embed the folder again."
        )
    return manifest


def _manifest_text(path: Path) -> str:
    for _ in range(20):
        try:
            return (path / MANIFEST).read_text()
        except FileNotFoundError:
            if not path.with_name(path.name + ".old").exists():
                break
            time.sleep(0.01)  # between the two renames of a commit there is no store, for an instant
    return (path / MANIFEST).read_text()


def find_stores(source: Path | None = None, *, model: str | None = None) -> list[Path]:
    """Complete stores, newest first: all, or those of one source folder, or of one model."""
    found: list[tuple[str, Path, tuple[str, ...]]] = []
    for folder in stores_folder().glob("*.partial"):
        finish_commit(folder.with_suffix(""))
    for path in stores_folder().glob(f"*/{MANIFEST}"):
        if path.parent.suffix in (".partial", ".old"):
            continue
        try:
            manifest = read_manifest(path.parent)
        except StoreError:
            continue  # another schema, or damaged: opening it by its path says so
        if model in (None, manifest["model"]):
            brought = manifest.get("brought", {}).get("embeddings", "")
            found.append((manifest["created"], path.parent, (manifest["source"], brought)))
    wanted = None if source is None else _recorded(source, {name for _, _, names in found for name in names})
    return [path for _, path, names in sorted(found, reverse=True) if wanted is None or wanted in names]


def _recorded(source: Path, known: set[str]) -> str:
    """A source as manifests name it. One that they know needs no unpacking: embeddings that were brought cannot be."""
    given = os.path.realpath(source)
    return given if given in known or not source.exists() else str(resolve_source(source))


def partial_path(path: Path) -> Path:
    """Where a store is built before it takes its place."""
    return path.with_name(path.name + ".partial")


def commit(path: Path) -> None:
    """Put a finished ``.partial`` in its store's place. A crash anywhere in between is mended by recover."""
    old = path.with_name(path.name + ".old")
    _remove(old)
    if path.exists():
        os.replace(path, old)
    os.replace(partial_path(path), path)
    _remove(path / "shards")  # the manifest is there: nothing needs them any more
    _remove(old)


def recover(path: Path) -> None:
    """Complete a commit that a crash interrupted. For whoever holds the store's lock.

    The manifest is written last, so a ``.partial`` that has one is whole, and newer than the store.
    """
    if (partial_path(path) / MANIFEST).is_file():
        commit(path)


def finish_commit(path: Path) -> None:
    """As :func:`recover`, for readers: a run that is alive holds the lock, and finishes its commit itself."""
    if path.parent != stores_folder() or not (partial_path(path) / MANIFEST).is_file():
        return
    try:
        with store_lock(path, timeout=0):
            recover(path)
    except Timeout:
        return


def delete_store(path: Path) -> None:
    """Delete a store: embeddings, map and thumbnails, never the images. Whoever has it open may go on with it.

    Raises:
        StoreError: if it is none of pvu's own stores, or a run is working on it.
    """
    if path.parent != stores_folder() or not (path / MANIFEST).is_file():
        raise StoreError(f"{path} is no store in {stores_folder()}, so it is not deleted.")
    try:
        with store_lock(path, timeout=0):
            old = path.with_name(path.name + ".old")
            _remove(old)
            os.replace(path, old)
            _remove(old)
            _remove(partial_path(path))
    except Timeout:
        raise StoreError(f"A run is working on {path.name}. Cancel it first, or wait for its end.") from None


def store_lock(path: Path, *, timeout: float = -1) -> FileLock:
    """What a run holds while it works on a store; released by the system if its process dies."""
    return FileLock(f"{path}.lock", timeout=timeout)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
