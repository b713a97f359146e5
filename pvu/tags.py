"""What a person has decided about images: keep, drop, fix label, unsure. Saved the moment it is said.

One append-only file of JSON lines a *source folder*, at ``PVU_HOME/tags/NAME-HASH.jsonl`` where HASH comes from the
folder's path. Not in the store: a store belongs to one model and is replaced by every run, while a decision is about
the picture, and must outlive both. Images are named by their path within the folder, as in ``images.parquet``, so tags
of an image that is gone wait for its return.

A line is one action: one image or thousands, all or nothing. Undoing appends a line too; nothing is ever rewritten. The
actions not undone, one after the other, are the tags.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from filelock import FileLock

from pvu.errors import PVUError
from pvu.paths import home
from pvu.progress import counted
from pvu.store import EmbeddedDataset

KEEP, DROP, FIX, UNSURE = TAGS = ("keep", "drop", "fix label", "unsure")
Label: TypeAlias = str | Sequence[str] | None


class TagError(PVUError):
    """A tag makes no sense, or cannot be saved."""


class TagValues(NamedTuple):
    """The tags in the row order of the data set.

    Args:
        tag: (N,) object: one of TAGS, or None.
        label: (N,) object: the new label, str, where the tag is "fix label"; else None.
    """

    tag: np.ndarray
    label: np.ndarray


class _Action(NamedTuple):
    what: str
    before: list[tuple[int, str | None, str | None]]  # row, tag and label as they were


class Tags:
    """The tags of one source folder, seen in the row order of one data set.

    Objects, processes and browser tabs may read and write at the same time: writers take turns at a file lock, and
    readers take in what was appended since they last looked. All methods may be called from any thread.

    Args:
        path: the file; it need not exist.
        images: (N,) str, each row's path within the source folder.
        source: the source folder, noted in a new file for whoever reads it.
    """

    def __init__(self, path: Path, images: Sequence[str], *, source: str = "") -> None:
        self.path = path
        self._source = source
        self._images = images
        self._rows = {image: row for row, image in enumerate(images)}
        self._thread_lock = threading.RLock()
        self._forget()

    @classmethod
    def of(cls, dataset: EmbeddedDataset) -> Self:
        """The tags of a data set's source folder. Cheap: one object an open data set."""
        with _OPEN_LOCK:
            if dataset not in _OPEN:
                path = tags_path(dataset.manifest["source"], name=dataset.name)
                images = dataset.images["path"].tolist()
                _OPEN[dataset] = cls(path, images, source=dataset.manifest["source"])
            return _OPEN[dataset]  # type: ignore[return-value]

    @property
    def values(self) -> TagValues:
        """All tags as arrays; copies, the caller's to keep."""
        with self._thread_lock:
            self._refresh()
            return TagValues(self._tag.copy(), self._label.copy())

    @property
    def version(self) -> str:
        """Changes whenever a tag does: part of the key of every cache made from tags."""
        with self._thread_lock:
            self._refresh()
            return f"{self._inode}-{self._offset}"

    @property
    def counts(self) -> dict[str, int]:
        """How many images of the data set carry each of TAGS."""
        with self._thread_lock:
            self._refresh()
            return {tag: int((self._tag == tag).sum()) for tag in TAGS}

    @property
    def undoable(self) -> str | None:
        """What :meth:`undo` would take back, such as "drop on 12 images"; None if there is nothing."""
        with self._thread_lock:
            self._refresh()
            return self._actions[-1].what if self._actions else None

    def set(self, rows: Sequence[int] | np.ndarray | int, tag: str, label: Label = None) -> None:
        """Tag images, replacing the tags they have. One action, however many they are; saved when this returns.

        Args:
            rows: one row or (m,) rows; none is no action.
            tag: one of TAGS.
            label: with "fix label", and only then: the new label, or (m,) new labels.

        Raises:
            TagError: if there is no such tag or row, the label is missing or not wanted, or nothing can be written.
        """
        chosen = self._checked_rows(rows)
        labels = _checked_labels(tag, label, len(chosen))
        self._act(chosen, tag, labels)

    def clear(self, rows: Sequence[int] | np.ndarray | int) -> None:
        """Take the tags off images. One action, which can be undone.

        Raises:
            TagError: if there is no such row, or nothing can be written.
        """
        chosen = self._checked_rows(rows)
        self._act(chosen, None, [None] * len(chosen))

    def undo(self) -> str | None:
        """Take back the newest action that is not undone, whoever did it; as often as there are actions.

        Returns:
            What was undone, as a sentence; None if there was nothing.

        Raises:
            TagError: if nothing can be written; the tags stay as they are.
        """
        with self._thread_lock:
            what: str | None = None

            def record() -> dict[str, Any] | None:
                nonlocal what
                what = self._actions[-1].what if self._actions else None
                return None if what is None else {"undo": what}

            self._append(record)
            return None if what is None else f"Undone: {what}."

    def _checked_rows(self, rows: Sequence[int] | np.ndarray | int) -> list[int]:
        given = np.atleast_1d(np.asarray(rows))
        if given.size and given.dtype.kind not in "iu":  # a mask would be taken for the rows 0 and 1
            raise TagError(f"Rows are whole numbers, not {given.dtype}. Of a mask take np.flatnonzero(mask).")
        chosen = given.astype(np.int64).tolist()
        wrong = [row for row in chosen if not 0 <= row < len(self._images)]
        if wrong:
            raise TagError(f"There is no row {wrong[0]}: the data set has the rows 0 to {len(self._images) - 1}.")
        return chosen

    def _act(self, rows: list[int], tag: str | None, labels: list[str | None]) -> None:
        def record() -> dict[str, Any] | None:
            if all(self._tag[row] == tag and self._label[row] == new for row, new in zip(rows, labels, strict=True)):
                return None  # nothing changes, so there is nothing to undo
            same = labels[0] if len(set(labels)) == 1 else labels
            return {"tag": tag, "label": same, "images": [self._images[row] for row in rows]}

        self._append(record)

    def _append(self, make_record: Callable[[], dict[str, Any] | None]) -> None:
        """Add a line made from the newest state. It is on the disk when this returns, or not in the file at all."""
        with self._thread_lock, self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                self._refresh()
                record = make_record()
                if record is not None:
                    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
                    _write_line(self.path, {"time": now, **record}, source=self._source)
                    self._refresh()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TagError(
                f"The tag could not be saved to {self.path} ({error.strerror or error}). All tags from before are "
                "safe; make room or give the right to write there, and tag again."
            ) from error

    def _forget(self) -> None:
        self._offset, self._inode = 0, 0
        self._actions: list[_Action] = []
        self._tag = np.full(len(self._images), None, dtype=object)
        self._label = np.full(len(self._images), None, dtype=object)

    def _refresh(self) -> None:
        """Take in the whole lines that are new in the file. A line that is not whole yet, or never will be, waits."""
        try:
            self._read_new()
        except FileNotFoundError:
            self._forget()  # not there yet, or somebody has deleted it
        except OSError as error:
            raise TagError(f"The tags in {self.path} cannot be read ({error.strerror or error}).") from error

    def _read_new(self) -> None:
        status = self.path.stat()
        if status.st_ino != self._inode or status.st_size < self._offset:
            self._forget()
            self._inode = status.st_ino
        if status.st_size == self._offset:
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole, _, _ = new.rpartition(b"\n")
        if whole:
            self._offset += len(whole) + 1
            for line in whole.split(b"\n"):
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return  # torn by a crash before it was acknowledged
        if not isinstance(record, dict):
            return
        if "undo" in record:
            if self._actions:
                for row, tag, label in reversed(self._actions.pop().before):
                    self._tag[row], self._label[row] = tag, label
        elif "images" in record:
            self._apply(record["images"], record["tag"], record["label"])

    def _apply(self, images: list[str], tag: str | None, label: str | list[str] | None) -> None:
        labels = label if isinstance(label, list) else [label] * len(images)
        before = []
        for image, new in zip(images, labels, strict=True):
            row = self._rows.get(image)
            if row is not None:
                before.append((row, self._tag[row], self._label[row]))
                self._tag[row], self._label[row] = tag, new
        self._actions.append(_Action(_describe(images, tag, label), before))


_OPEN: WeakKeyDictionary[EmbeddedDataset, Tags] = WeakKeyDictionary()
_OPEN_LOCK = threading.Lock()


def tags_path(source: str, *, name: str) -> Path:
    """Where the tags of a source folder are kept.

    Args:
        source: its full path, as the manifest says it.
        name: what the file's name begins with, for people.
    """
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "images"
    return home() / "tags" / f"{slug}-{hashlib.blake2b(source.encode(), digest_size=6).hexdigest()}.jsonl"


def _checked_labels(tag: str, label: Label, count: int) -> list[str | None]:
    if tag not in TAGS:
        raise TagError(f"There is no tag {tag!r}. The tags are {', '.join(TAGS)}.")
    if tag != FIX:
        if label is not None:
            raise TagError(f"A new label goes with the tag {FIX!r}, not with {tag!r}.")
        return [None] * count
    labels = [label] * count if label is None or isinstance(label, str) else list(label)
    if len(labels) != count:
        raise TagError(f"Give one new label, or one an image: found {len(labels)} labels for {count} images.")
    stripped = [str(new or "").strip() for new in labels]
    if not all(stripped):
        raise TagError(f"The tag {FIX!r} needs the new label. Give one.")
    return list(stripped)


def _describe(images: list[str], tag: str | None, label: str | list[str] | None) -> str:
    where = images[0] if len(images) == 1 else counted(len(images), "image")
    if tag is None:
        return f"tags taken off {where}"
    return f"{tag} (to “{label}”) on {where}" if isinstance(label, str) else f"{tag} on {where}"


def _write_line(path: Path, record: dict[str, Any], *, source: str) -> None:
    """Append a line, flushed and fsynced. If that fails, what was written of it is taken out again."""
    is_new = not path.exists()
    with path.open("ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        text = json.dumps(record) + "\n"
        if end == 0:
            text = json.dumps({"source": source}) + "\n" + text
        elif os.pread(file.fileno(), 1, end - 1) != b"\n":
            text = "\n" + text  # a crash tore the line before
        try:
            data = memoryview(text.encode())
            while data:
                data = data[file.write(data) :]  # a disk that is nearly full takes a part first
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
    if is_new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A new file's name is safe only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
