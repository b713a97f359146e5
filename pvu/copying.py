"""Copy or hard-link chosen images to a new folder. The originals are only read, and nothing is ever overwritten.

The new folder carries a hidden note of what it holds, so that the same copy can be asked for again: it goes on where a
cancelled or crashed one ended, and adds what is missing. A folder that holds anything else is refused.
"""

from __future__ import annotations

import errno
import filecmp
import io
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from pvu.copy_plan import LOCK, NOTE, CopyError, CopyPlan, check_content, plan_copy
from pvu.errors import Cancelled
from pvu.export import write_table
from pvu.paths import is_allowed
from pvu.progress import PhaseTimer, Progress, ProgressCallback, counted
from pvu.store import EmbeddedDataset

LABELS = "labels.csv"
_PARTIAL = ".pvu-copy.partial"
_SPARE = 2**28
"""Bytes that a copy leaves free on the disk."""
_CLOCK = 2 * 10**9
"""Nanoseconds to which the coarsest file systems (FAT) round the time of a file."""
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass
class CopyReport:
    """What came of a copy.

    Args:
        folder: the new folder.
        copied: files copied now.
        linked: files hard-linked now.
        there: files that an earlier, equal copy had put there.
        changed: copied or linked files whose original has changed since it was embedded.
        others: files of an earlier copy that are not among the chosen images; they were left there.
        failed: path within the new folder -> why it could not be put there.
        no_links: why files were copied although links were asked for; "" if there was no need.
    """

    folder: Path
    copied: int = 0
    linked: int = 0
    there: int = 0
    changed: int = 0
    others: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    no_links: str = ""

    def __str__(self) -> str:
        parts = [
            (self.copied, f"{counted(self.copied, 'image')} copied"),
            (self.linked, f"{counted(self.linked, 'image')} linked"),
            (self.there, f"{self.there:,} there already"),
            (len(self.failed), f"{len(self.failed):,} could not be put there"),
        ]
        text = ", ".join(part for count, part in parts if count) or "Nothing to copy"
        notes = [f"{text}: {self.folder}."]
        if self.no_links:
            notes.append(f"Copied instead of linked, since {self.no_links}.")
        if self.changed:
            notes.append(f"{counted(self.changed, 'original')} changed since the images were embedded.")
        if self.others:
            notes.append(f"{counted(self.others, 'image')} of an earlier copy, not chosen this time, were left there.")
        return " ".join(notes)


def copy_images(
    plan: CopyPlan,
    *,
    link: bool = False,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> CopyReport:
    """Carry out a plan.

    Args:
        plan: of :func:`plan_copy`.
        link: hard links in the place of copies, which take no room: a file under two names, so who edits one edits the
            other. Where the file system cannot, files are copied and the report says why.
        progress: gets a Progress of the phase "copy".
        should_stop: asked before every file.

    Returns:
        What was done. Files that could not be put there are in it; they stop nothing.

    Raises:
        CopyError: if there is too little room, or the folder cannot be written to.
        Cancelled: if should_stop said so. Finished files stay, and the same copy goes on from there.
    """
    report = CopyReport(plan.folder)
    with _opened(plan):
        todo = [name for name in plan.names if not _is_there(plan, name, report)]
        _check_room(plan, todo, link=link)
        timer = PhaseTimer("copy", len(plan.names), progress or _ignore, already=report.there)
        done = list(plan.names.keys() - set(todo) - set(report.failed))
        try:
            for name in todo:
                if should_stop is not None and should_stop():
                    raise Cancelled(
                        f"Stopped. {counted(len(done), 'image')} of {len(plan.names):,} are in {plan.folder} and stay "
                        "there; the same copy goes on from there."
                    )
                failed = len(report.failed)
                _put(plan, name, report, link=link)
                failed = len(report.failed) - failed
                done += [] if failed else [name]
                timer.step(1, failed)
        finally:
            _write_labels(plan, done)
        report.others = _count_others(plan)
    return report


def _ignore(_: Progress) -> None:
    pass


@contextmanager
def _opened(plan: CopyPlan) -> Iterator[None]:
    """The folder, with its note, for this process alone."""
    try:
        plan.folder.mkdir(exist_ok=True)
        with FileLock(plan.folder / LOCK, timeout=0):
            check_content(plan.folder, plan.note)
            (plan.folder / NOTE).write_text(json.dumps(plan.note))
            yield
    except Timeout:
        raise CopyError(f"Another copy to {plan.folder} is under way. Wait for its end.") from None
    except OSError as error:
        raise CopyError(
            f"{plan.folder} cannot be written to: {error.strerror or error}. Finished images stay there, and the same "
            "copy goes on from there."
        ) from error


def _is_there(plan: CopyPlan, name: str, report: CopyReport) -> bool:
    """Whether nothing is left to do for a file: it is there, or something else is, which stays."""
    try:
        found = os.lstat(plan.folder / name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        original = plan.names[name].stat()
        size, time = original.st_size, original.st_mtime_ns
    except OSError:
        size, time = plan.stamps[name]
    same = stat.S_ISREG(found.st_mode) and found.st_size == size
    if same and abs(found.st_mtime_ns - time) > _CLOCK:
        same = plan.names[name].is_file() and filecmp.cmp(plan.names[name], plan.folder / name, shallow=False)
    if same:
        report.there += 1
    else:
        report.failed[name] = "another file of this name is there; it was left as it is"
    return True


def _check_room(plan: CopyPlan, todo: list[str], *, link: bool) -> None:
    if link and plan.root.stat().st_dev == plan.folder.stat().st_dev:
        return
    needed = sum(plan.stamps[name][0] for name in todo)
    free = shutil.disk_usage(plan.folder).free
    if needed > free - _SPARE:
        raise CopyError(
            f"The copy needs {needed / 2**20:,.0f} MiB, but {free / 2**20:,.0f} MiB are free at {plan.folder}, of "
            f"which {_SPARE >> 20} are left alone. Make room, choose fewer images, or another disk."
        )


def _put(plan: CopyPlan, name: str, report: CopyReport, *, link: bool) -> None:
    """Copy or link one file. What is wrong with this one alone is noted; what is wrong with the disk is raised."""
    try:
        original = _original(plan, name)
        target = _place(plan, name)
        linked = link and not report.no_links and _link(original, target, report)
        if not linked:
            _copy(original, target, plan.folder / _PARTIAL)
        now = original.stat()
    except (OSError, CopyError) as error:
        if isinstance(error, OSError) and error.errno in _FATAL:
            raise
        report.failed[name] = str(getattr(error, "strerror", None) or error)
        return
    report.linked += linked
    report.copied += not linked
    report.changed += (now.st_size, now.st_mtime_ns) != plan.stamps[name]


def _original(plan: CopyPlan, name: str) -> Path:
    """The file itself, links followed; what may not be read may not be copied either."""
    path = Path(os.path.realpath(plan.names[name]))
    if not (path.is_relative_to(os.path.realpath(plan.root)) or is_allowed(path)):
        raise CopyError("a link that leads outside the folder")
    if not path.is_file():
        raise CopyError("the original is no longer there")
    return path


def _place(plan: CopyPlan, name: str) -> Path:
    target = plan.folder / name
    # Before any folder is made, which would be made where the link leads.
    if not Path(os.path.realpath(target.parent)).is_relative_to(plan.folder):
        raise CopyError("a link in the new folder leads elsewhere")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _link(original: Path, target: Path, report: CopyReport) -> bool:
    try:
        os.link(original, target)  # fails where something is: it overwrites nothing
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        elsewhere = error.errno == errno.EXDEV
        report.no_links = "it is on another disk" if elsewhere else f"no links can be made there ({error.strerror})"
        return False
    return True


def _copy(original: Path, target: Path, partial: Path) -> None:
    """Copy under a temporary name first: whatever has a real name is whole."""
    partial.unlink(missing_ok=True)  # of a copy that crashed; it may be read-only, as its original was
    try:
        shutil.copy2(original, partial)
        _rename(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _rename(partial: Path, target: Path) -> None:
    """Give a file its real name, unless something has it: others may write there too, at any moment."""
    try:
        os.link(partial, target)  # unlike a rename it fails where something is; the caller takes the other name away
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "another file of this name is there", str(target)) from None
        os.rename(partial, target)


def _write_labels(plan: CopyPlan, done: Iterable[str]) -> None:
    """Keep labels.csv up to what is there: the file is pvu's own, since the folder was new or empty."""
    if plan.table is None:
        return
    table = _as_text(plan.table[plan.table["path"].isin(set(done))].to_csv(index=False))
    path = plan.folder / LABELS
    if path.exists():
        before = _as_text(path.read_text(encoding="utf-8"))
        table = pd.concat([before[~before["path"].isin(table["path"])], table]).sort_values("path")
    if len(table):
        write_table(table, path)


def _as_text(csv: str) -> pd.DataFrame:
    """Every cell as it is written, so that reading and writing again changes nothing."""
    return pd.read_csv(io.StringIO(csv), dtype=str, keep_default_na=False)


def _count_others(plan: CopyPlan) -> int:
    """Files in the new folder that are not of this plan."""
    found = 0
    for folder, _, names in os.walk(plan.folder):
        inside = Path(folder).relative_to(plan.folder)
        paths = [(inside / name).as_posix() for name in names if not name.startswith(".")]
        found += sum(path not in plan.names and path != LABELS for path in paths)
    return found


def run_copy(arguments: dict[str, Any], progress: ProgressCallback, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """What a job of the kind "copy" does.

    Args:
        arguments: ``store`` (its path) and ``version`` (of the data set whose rows are meant); ``rows``, ``folder``,
            ``layout``, ``corrected`` and ``link``, as :func:`plan_copy` and :func:`copy_images` take them.
        progress: gets a Progress before every file.
        should_stop: asked before every file.

    Returns:
        ``folder``, ``text`` (the report in words) and ``failed`` (path -> why).

    Raises:
        PVUError: as plan_copy and copy_images.
    """
    progress(Progress("copy"))
    dataset = EmbeddedDataset(Path(arguments["store"]))
    if dataset.version != arguments["version"]:
        raise CopyError(f"{dataset.name} has been embedded again since these images were chosen. Choose them again.")
    rows = np.asarray(arguments["rows"], np.int64)
    plan = plan_copy(dataset, rows, arguments["folder"], layout=arguments["layout"], corrected=arguments["corrected"])
    report = copy_images(plan, link=arguments["link"], progress=progress, should_stop=should_stop)
    return {"folder": str(report.folder), "text": str(report), "failed": report.failed}
