"""Which image goes where in a new folder, decided and checked before anything is copied."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd

from pvu.errors import PVUError
from pvu.export import corrected_labels
from pvu.paths import allowed_roots, home, is_allowed, typed_path
from pvu.store import EmbeddedDataset

Layout = Literal["paths", "labels"]
UNLABELLED = "unlabelled"
NOTE = ".pvu-copy.json"  # hidden, so that no scan takes it for an image that is broken
LOCK = ".pvu-copy.lock"


class CopyError(PVUError):
    """Images cannot be copied to where they should go."""


@dataclass(frozen=True)
class CopyPlan:
    """Which file goes where, checked before anything is written.

    Args:
        folder: the new folder.
        root: the folder of the originals.
        names: path within the new folder -> the original.
        stamps: path within the new folder -> bytes and mtime_ns of the original when it was embedded.
        note: what the folder's note says: where the images come from and how they are laid out.
        table: a row a file, ``path`` within the new folder, ``label`` and the user's columns; None if there is neither.
    """

    folder: Path
    root: Path
    names: dict[str, Path]
    stamps: dict[str, tuple[int, int]]
    note: dict[str, object]
    table: pd.DataFrame | None


def plan_copy(
    dataset: EmbeddedDataset,
    rows: np.ndarray,
    folder: str | os.PathLike[str],
    *,
    layout: Layout = "paths",
    corrected: bool = False,
    anywhere: bool = False,
) -> CopyPlan:
    """Decide where each image goes, and check that it may.

    Args:
        dataset: any whose originals are still there.
        rows: (m,) int, the images.
        folder: a folder that is not there yet, is empty, or holds an earlier copy of the same kind.
        layout: "paths" keeps the folders of the originals, "labels" makes a folder per label.
        corrected: images tagged "fix label" go to the folder of their new label.
        anywhere: do not ask for an allowed root: for a person at a terminal, never for a page.

    Raises:
        CopyError: if the folder will not do, or the originals are gone.
    """
    if len(rows) == 0:
        raise CopyError("No image is chosen, so there is nothing to copy.")
    if not dataset.source.is_dir():
        raise CopyError(
            f"The originals of {dataset.name} are no longer at {dataset.source}. Mount the disk or move them back; or "
            "embed them where they are now: what is in the store is not needed for that."
        )
    labels = corrected_labels(dataset) if corrected else dataset.labels
    # Over all images, chosen or not: another choice must not give an image another name.
    names = _label_names(dataset, labels) if layout == "labels" else _path_names(dataset, labels)
    note = {"source": str(dataset.source), "layout": layout, "corrected": corrected}
    target = _checked_folder(dataset, folder, note, anywhere=anywhere)
    chosen, root = [names[row] for row in rows], dataset.source
    stamps = zip(dataset.images["bytes"].iloc[rows], dataset.images["mtime_ns"].iloc[rows], strict=True)
    return CopyPlan(
        folder=target,
        root=root,
        names=dict(zip(chosen, (root / path for path in dataset.images["path"].to_numpy()[rows]), strict=True)),
        stamps=dict(zip(chosen, ((int(size), int(time)) for size, time in stamps), strict=True)),
        note=note,
        table=_label_table(dataset, rows, chosen, labels),
    )


def _checked_folder(
    dataset: EmbeddedDataset, folder: str | os.PathLike[str], note: dict[str, object], *, anywhere: bool
) -> Path:
    path = typed_path(folder)
    if not path.is_absolute() and not anywhere:
        raise CopyError(f"{path} is not a full path. Give the whole way to the new folder, from / on.")
    target = Path(os.path.realpath(path))
    if not anywhere and not is_allowed(target):
        roots = ", ".join(str(root) for root in allowed_roots()[:-1])
        raise CopyError(
            f"{target} is outside the folders that this app may use ({roots}). To allow more, start it with PVU_ROOTS."
        )
    source = Path(os.path.realpath(dataset.source))
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise CopyError(f"{target} and the folder of the originals, {source}, lie in each other. Give another folder.")
    if target.is_relative_to(home()) or target.is_relative_to(Path(os.path.realpath(dataset.path))):
        raise CopyError(f"{target} lies where pvu keeps its own files, which may be deleted. Give another folder.")
    if not target.parent.is_dir():
        raise CopyError(f"The folder {target.parent} does not exist. Make it first, or check the path.")
    if target.exists():
        check_content(target, note)
    return target


def check_content(target: Path, note: dict[str, object]) -> None:
    """Raises CopyError unless a folder is empty or holds an earlier copy of the same kind."""
    if not target.is_dir():
        raise CopyError(f"{target} is a file. Give the path of a new folder.")
    try:
        found = json.loads((target / NOTE).read_text())
    except FileNotFoundError:
        names = [entry.name for entry in os.scandir(target) if entry.name != LOCK]
        if names:
            raise CopyError(
                f"{target} holds other things already ({names[0]}, …). Give a new or empty folder."
            ) from None
        return
    except (OSError, ValueError) as error:
        raise CopyError(f"{target / NOTE} cannot be read ({error}). Give a new or empty folder.") from error
    if found != note:
        raise CopyError(
            f"{target} holds a copy of other images, or one laid out in another way ({_in_words(found)}). "
            "Give a new or empty folder."
        )


def _in_words(note: dict[str, object]) -> str:
    layout = "a folder per label" if note.get("layout") == "labels" else "the originals' folders"
    return f"from {note.get('source')}, {layout}{', corrected labels' if note.get('corrected') else ''}"


def _path_names(dataset: EmbeddedDataset, labels: np.ndarray) -> list[str]:
    """Each image's own path; where its label is corrected, with the folder named as the old label renamed."""
    names = []
    for path, old, new in zip(dataset.images["path"], dataset.labels, labels, strict=True):
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        if new != old:
            places = [place for place, part in enumerate(parts[:-1]) if part == old]
            if not places:
                raise CopyError(
                    f"The folders of {dataset.name} are not named as its labels ({path} is {old or 'without one'}), so "
                    "corrected labels cannot go into them. Lay the copy out as a folder per label."
                )
            parts[places[-1]] = folder_name(new)
        names.append("/".join(parts))
    return _unique(names)


def _label_names(dataset: EmbeddedDataset, labels: np.ndarray) -> list[str]:
    """A folder per label; labels that would have the same folder name get folders of their own."""
    known = sorted({label for label in labels if label is not None})
    folders: dict[str | None, str] = dict(zip(known, _unique([folder_name(label) for label in known]), strict=True))
    folders[None] = UNLABELLED if UNLABELLED not in folders.values() else f"{UNLABELLED}-2"
    pairs = zip(dataset.images["path"], labels, strict=True)
    return _unique([f"{folders[label]}/{path.rpartition('/')[2]}" for path, label in pairs])


def folder_name(label: str) -> str:
    """A label as the name of a folder on any file system: no separators or control characters, not hidden, not long."""
    name = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", label).strip(" .")
    return name.encode()[:120].decode(errors="ignore").strip(" .") or "_"


def _unique(names: list[str]) -> list[str]:
    """The names, those that occurred before with a number: cat.jpg, cat-2.jpg."""
    taken = set(names)
    seen: set[str] = set()
    result = []
    for name in names:
        number, free = 2, name
        while free in seen or (free != name and free in taken):
            path = PurePosixPath(name)
            free = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
            number += 1
        seen.add(free)
        result.append(free)
    return result


def _label_table(
    dataset: EmbeddedDataset, rows: np.ndarray, names: list[str], labels: np.ndarray
) -> pd.DataFrame | None:
    """Written even where the folders say the same: of a part of them (two splits of one label) they may not."""
    if not dataset.metadata_columns and all(label is None for label in labels):
        return None
    table = pd.DataFrame({"path": names, "label": pd.Series(labels[rows], dtype=object)})
    return pd.concat([table, dataset.images[dataset.metadata_columns].iloc[rows].reset_index(drop=True)], axis=1)
