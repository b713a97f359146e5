"""Embeddings that somebody has computed, made a store like the pipeline's: neighbours, map, thumbnails, uncertainty."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from pvu.assemble import assemble
from pvu.brought import Brought, read_brought
from pvu.catalog import MANIFEST, partial_path, recover
from pvu.decoding import Outcome, decode_all
from pvu.errors import Cancelled, ModelError, SourceError
from pvu.images import EXTENSIONS, THUMBNAIL_SIDE, Preprocessing
from pvu.paths import is_allowed, typed_path
from pvu.pipeline import Encoder, encode_files, store_path, worker_count, writing
from pvu.progress import PhaseTimer, Progress, ProgressCallback
from pvu.shards import Key, Result, ShardWriter, atomic_write, shard_keys
from pvu.sources import resolve_source, table_hash
from pvu.store import BROUGHT, EmbeddedDataset

_SHARD_SIZE = 1024
_STEP = 256  # rows without pictures that are done in one go
_MARK = "brought.json"  # in a store that is being made: what its shards are of


@dataclass
class _Maker:
    """What stands in the manifest where the pipeline has its model."""

    name: str
    fingerprint: str
    dim: int
    reference_quantiles: Any = None


def bring(
    embeddings: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    uncertainty: str | os.PathLike[str] | None = None,
    uncertainty_model: str | Encoder | None = None,
    images: str | os.PathLike[str] | None = None,
    name: str | None = None,
    space: str | None = None,
    only_allowed: bool = False,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> EmbeddedDataset:
    """Make a data set of embeddings that are there already, and of what is known of their images.

    Nothing that is given is written to. Rows that cannot be used (NaN, all zeros) are listed in ``failed``, and images
    whose file is not there, or is none, get a neutral tile for a thumbnail.

    Args:
        embeddings: a .npy of (N, D), or a .parquet with a column of lists of numbers.
        table: a .csv or .parquet with a row for each: ``path``, ``label``, ``uncertainty`` (or ``u``) and others; see
            :func:`pvu.brought.read_brought`.
        uncertainty: a .npy of (N,), higher is more uncertain; else the table's column; else there is none.
        uncertainty_model: a model's name, or an encoder, that is to give the uncertainties instead, from the files of
            the images.
        images: the folder that paths are relative to. Paths may be absolute; without both there are no pictures.
        name: what to call it; None takes the name of the embeddings' file.
        space: a name for what has made the embeddings. Two sets of one ``space`` can be compared.
        only_allowed: refuse images outside :func:`pvu.paths.allowed_roots`.
        workers: decoding processes; None takes one per core (at most 8).
        progress: called often with a Progress.
        should_stop: asked after every batch; once it is true the work stops, and thumbnails that are done are kept.

    Raises:
        SourceError: if something that was given cannot be used.
        ModelError: if uncertainty_model cannot be loaded, or has no head.
        Cancelled: if should_stop said so.
        StoreError: if the disk is full.
    """
    report = progress or (lambda _: None)
    report(Progress("check"))
    brought = _read(embeddings, table, uncertainty, with_model=uncertainty_model is not None)
    root = brought.file
    if images is not None:
        root = _readable(resolve_source(images, progress=progress, should_stop=should_stop), only_allowed)
    files = _locate(brought.table, root, only_allowed=only_allowed, report=report)
    encoder = _head(uncertainty_model, files)
    maker = _maker(brought, encoder, space)
    facts = _facts(brought, files, encoder, space)
    # One store for each file of embeddings and folder: bringing a newer version of the file replaces it.
    path = store_path(brought.file, _Maker(BROUGHT, str(root), maker.dim))
    notes = {"name": name or brought.file.stem, "brought": facts}
    with writing(path):
        recover(path)
        if not _is_current(path, notes, files):
            work = _Work(path, brought, files, root, encoder, report, should_stop or (lambda: False))
            work.compute(facts, worker_count(workers))
            assemble(path, files, None, maker, root=root, report=report, notes=notes)
    return EmbeddedDataset(path)


def bring_job(arguments: dict[str, Any], progress: ProgressCallback, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """What a job of the kind "bring" does: :func:`bring` with its arguments, inside the folders that the app may read.

    Returns:
        ``store``, the path of the store.
    """
    dataset = bring(**arguments, only_allowed=True, progress=progress, should_stop=should_stop)
    return {"store": str(dataset.path)}


def _read(
    embeddings: str | os.PathLike[str],
    table: str | os.PathLike[str] | None,
    uncertainty: str | os.PathLike[str] | None,
    *,
    with_model: bool,
) -> Brought:
    others = [None if path is None else _file(path) for path in (table, uncertainty)]
    brought = read_brought(_file(embeddings), table=others[0], uncertainty=others[1])
    if brought.has_uncertainty and with_model:
        raise SourceError("Uncertainties came with the embeddings. Take these, or a model's, not both.")
    return brought


def _file(text: str | os.PathLike[str]) -> Path:
    path = typed_path(text)
    if not path.is_file():
        raise SourceError(f"There is no file at {path}. Check the path.")
    return path.resolve()


def _readable(root: Path, only_allowed: bool) -> Path:
    if only_allowed and not is_allowed(root):
        raise SourceError(f"The folder {root} is outside those that may be read. Set PVU_ROOTS to allow more.")
    return root


def _head(model: str | Encoder | None, files: pd.DataFrame) -> Encoder | None:
    """The model that is to give the uncertainties."""
    if model is None:
        return None
    if not (files["bytes"] > 0).any():
        raise SourceError(
            "None of the images' files was found, so no model can say how uncertain they are. Give the folder that the "
            "paths in the table are relative to."
        )
    if not isinstance(model, str):
        return model
    from pvu.models import load_model

    loaded = load_model(model)
    if loaded.head is None:
        raise ModelError(f"{loaded.name} has no uncertainty head. Take the default model.")
    return loaded


def _maker(brought: Brought, encoder: Encoder | None, space: str | None) -> _Maker:
    """Two data sets have the same fingerprint, and can be compared, if they are of one space, u included."""
    of_u = encoder.fingerprint if encoder is not None else "given" if brought.has_uncertainty else "none"
    dim = brought.matrix.shape[1]
    identity = f"{space or brought.digest}\0{of_u}\0{dim}"
    fingerprint = "brought-" + hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    return _Maker(BROUGHT, fingerprint, dim, getattr(encoder, "reference_quantiles", None))


def _facts(brought: Brought, files: pd.DataFrame, encoder: Encoder | None, space: str | None) -> dict[str, Any]:
    """What the manifest says under "brought"."""
    return {
        "embeddings": str(brought.file),
        "digest": brought.digest,
        "space": space,
        "uncertainty": "given" if brought.has_uncertainty else None if encoder is None else encoder.name,
        "pictures": int((files["bytes"] > 0).sum()),
    }


def _is_current(path: Path, notes: dict[str, Any], files: pd.DataFrame) -> bool:
    """Whether the store says all this already."""
    if not (path / MANIFEST).is_file():
        return False
    manifest = EmbeddedDataset(path).manifest
    return manifest["table_hash"] == table_hash(files) and all(manifest[key] == notes[key] for key in notes)


def _locate(table: pd.DataFrame, root: Path, *, only_allowed: bool, report: ProgressCallback) -> pd.DataFrame:
    """The table with ``bytes`` and ``mtime_ns`` of each image's file, as a store has it; 0 where there is none.

    Raises:
        SourceError: if a path leads outside the folder by a link, or to where the app may not read.
    """
    real = lru_cache(os.path.realpath)  # of folders, which many images share
    timer = PhaseTimer("scan", len(table), report)
    stats = []
    for row, path in enumerate(table["path"]):
        stats.append(_stat(path, root, real, only_allowed))
        if row % 4096 == 4095:
            timer.step(4096)
    files = table.drop(columns="uncertainty")
    files.insert(2, "bytes", [size for size, _ in stats])
    files.insert(3, "mtime_ns", [mtime for _, mtime in stats])
    return files


def _stat(path: str, root: Path, real: Callable[[str], str], only_allowed: bool) -> tuple[int, int]:
    """Size and time of an image's file; (0, 0) if there is none to be read."""
    absolute = path.startswith("/")
    if (not absolute and not root.is_dir()) or os.path.splitext(path)[1].lower() not in EXTENSIONS:
        return 0, 0
    file = os.path.join(root, path)
    folder, name = os.path.split(file)
    try:
        target = os.path.realpath(file) if os.path.islink(file) else os.path.join(real(folder), name)
        found = os.stat(target)
    except (OSError, ValueError):  # not there, too long, no permission
        return 0, 0
    inside = not absolute and target.startswith(f"{root}{os.sep}")
    if not inside and (only_allowed or not absolute) and not is_allowed(Path(target)):
        raise SourceError(f"The path {path!r} leads to where images may not be read. Set PVU_ROOTS to allow more.")
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (0, 0)


class _Work:
    """Puts embeddings, thumbnails and uncertainties into shards, as the pipeline does with what it has computed.

    Args:
        path: the store.
        brought: the embeddings.
        files: what :func:`_locate` gave.
        root: the folder of the images.
        encoder: gives the uncertainties, or None.
        report: gets a Progress often.
        should_stop: asked after every batch.
    """

    def __init__(
        self,
        path: Path,
        brought: Brought,
        files: pd.DataFrame,
        root: Path,
        encoder: Encoder | None,
        report: ProgressCallback,
        should_stop: Callable[[], bool],
    ) -> None:
        self.building = partial_path(path)
        self.brought, self.files, self.root, self.encoder = brought, files, root, encoder
        self.report, self.should_stop = report, should_stop
        self.keys: list[Key] = list(
            zip(files["path"], files["bytes"].tolist(), files["mtime_ns"].tolist(), strict=True)
        )
        self.uncertainty = brought.table["uncertainty"].to_numpy(np.float64)

    def compute(self, facts: dict[str, Any], workers: int) -> None:
        """Do what an interrupted call has not done; its work counts if it was about the same embeddings."""
        mark = self.building / _MARK
        if not mark.is_file() or json.loads(mark.read_text()) != facts:
            shutil.rmtree(self.building, ignore_errors=True)
            self.building.mkdir(parents=True)
            atomic_write(mark, lambda file: file.write(json.dumps(facts).encode()))
        done = shard_keys(self.building / "shards")
        usable = self.files["error"].isna().to_numpy()
        todo = np.array([row for row in np.flatnonzero(usable) if self.keys[row] not in done], np.int64)
        writer = ShardWriter(self.building / "shards", _SHARD_SIZE)
        timer = PhaseTimer("thumbnails", int(usable.sum()), self.report, already=int(usable.sum()) - len(todo))
        try:
            for results in self._results(todo, workers):
                for result in results:
                    writer.add(result)
                timer.step(len(results))
                if self.should_stop():
                    raise Cancelled(
                        "Cancelled. The thumbnails that are done are kept: start again to go on from there."
                    )
        finally:
            writer.flush()
        mark.unlink()

    def _results(self, todo: np.ndarray, workers: int) -> Iterator[list[Result]]:
        there = self.files["bytes"].to_numpy()[todo] > 0
        yield from self._pictured(todo[there], workers)
        rest = todo[~there]
        for start in range(0, len(rest), _STEP):
            rows = rest[start : start + _STEP]
            yield self._to_results(rows, ["there is no file of it"] * len(rows), np.full(len(rows), np.nan))

    def _pictured(self, rows: np.ndarray, workers: int) -> Iterator[list[Result]]:
        """Rows whose images have files, some at a time."""
        paths = [self.root / self.keys[row][0] for row in rows]
        left = iter(rows.tolist())

        def next_rows(count: int) -> np.ndarray:
            return np.array(list(itertools.islice(left, count)), np.int64)

        if self.encoder is None:
            # Decoded at half this size at the least, which is enough for a thumbnail.
            for outcomes in decode_all(paths, Preprocessing(size=THUMBNAIL_SIDE // 2), workers=workers):
                yield self._to_results(next_rows(len(outcomes)), outcomes, np.full(len(outcomes), np.nan))
            return
        for outcomes, _, u in encode_files(paths, self.encoder, workers):
            measured = np.full(len(outcomes), np.nan)
            measured[[not isinstance(outcome, str) for outcome in outcomes]] = np.nan if u is None else u
            yield self._to_results(next_rows(len(outcomes)), outcomes, measured)

    def _to_results(self, rows: np.ndarray, outcomes: Sequence[Outcome], measured: np.ndarray) -> list[Result]:
        """Rows as results of the pipeline.

        Args:
            rows: (n,) int.
            outcomes: (n,) pictures, or why there is none.
            measured: (n,) float64, the encoder's uncertainties.
        """
        results = []
        u = self.uncertainty[rows] if self.encoder is None else measured
        for row, outcome, vector, value in zip(rows, outcomes, self.brought.half(rows), u, strict=True):
            key: Key = self.keys[int(row)]
            if self.encoder is not None and not np.isfinite(value):
                why = outcome if isinstance(outcome, str) else "the model gave no finite number"
                results.append(Result(*key, error=f"no uncertainty: {why}"))
                continue
            known: dict[str, Any] = {"uncertainty": float(value), "embedding": vector.tobytes()}
            if isinstance(outcome, str):
                # Never the hash of a file: images without one are no duplicates of each other.
                own = hashlib.blake2b(f"{self.brought.digest}\0{key[0]}".encode(), digest_size=16).hexdigest()
                known |= {"content_hash": own, "thumbnail": placeholder()}
            else:
                known |= {"width": outcome.width, "height": outcome.height}
                known |= {"content_hash": outcome.content_hash, "thumbnail": outcome.thumbnail}
            results.append(Result(*key, **known))
        return results


@lru_cache(maxsize=1)
def placeholder() -> bytes:
    """The thumbnail of an image without a file: a grey tile with the outline of a picture, as JPEG."""
    tile = Image.new("L", (96, 96), 236)
    draw = ImageDraw.Draw(tile)
    draw.rectangle((24, 30, 72, 66), outline=170, width=3)
    draw.line((27, 63, 42, 47, 51, 57, 60, 49, 69, 60), fill=170, width=3)
    draw.ellipse((56, 36, 63, 43), fill=170)
    buffer = io.BytesIO()
    tile.save(buffer, "JPEG", quality=70, optimize=True)
    return buffer.getvalue()
