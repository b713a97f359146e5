"""Copies and links: originals untouched, nothing overwritten, half a copy goes on, and what went wrong is said."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from pvu.copy_plan import LOCK, CopyError, plan_copy
from pvu.copying import LABELS, copy_images, run_copy
from pvu.errors import Cancelled
from pvu.pipeline import embed
from pvu.progress import Progress
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.fakes import FakeEncoder, write_pictures

pytestmark = pytest.mark.usefixtures("quick_map")
ALL = np.arange(12)


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path))


@pytest.fixture
def dataset(photos: Path) -> EmbeddedDataset:
    return embed(photos, model=FakeEncoder(), workers=0)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new"


def content(folder: Path) -> dict[str, str]:
    """Path -> hash of every image."""
    files = [path for path in folder.rglob("*.png") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {str(path): (*path.stat()[6:7], path.stat().st_mtime_ns, path.stat().st_mode) for path in folder.rglob("*")}


def test_copies_are_the_originals_and_the_originals_as_they_were(
    dataset: EmbeddedDataset, photos: Path, new: Path
) -> None:
    (photos / "cat" / "0.png").chmod(0o444)
    before = state(photos)
    report = copy_images(plan_copy(dataset, ALL, new))
    assert (report.copied, report.linked, report.there, report.failed) == (12, 0, 0, {})
    assert content(new) == content(photos)
    assert state(photos) == before
    assert (new / "cat/1.png").stat().st_mtime_ns == (photos / "cat/1.png").stat().st_mtime_ns
    assert not os.path.samefile(new / "cat/1.png", photos / "cat/1.png")
    assert str(report) == f"12 images copied: {new}."


def test_links_are_the_same_files(dataset: EmbeddedDataset, photos: Path, new: Path) -> None:
    report = copy_images(plan_copy(dataset, ALL[:5], new), link=True)
    assert (report.copied, report.linked) == (0, 5)
    for path in dataset.images["path"][:5]:
        assert os.path.samefile(new / path, photos / path)
    assert copy_images(plan_copy(dataset, ALL[:5], new), link=True).there == 5


@pytest.mark.parametrize(
    ("number", "says"), [(errno.EXDEV, "it is on another disk"), (errno.EPERM, "no links can be made there")]
)
def test_where_links_cannot_be_made_files_are_copied_and_it_says_so(
    dataset: EmbeddedDataset, photos: Path, new: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    tries = []

    def refuse(source: Path, _: Path) -> None:
        if Path(source).is_relative_to(photos):
            tries.append(source)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    report = copy_images(plan_copy(dataset, ALL, new), link=True)
    assert (report.copied, report.linked, len(tries)) == (12, 0, 1)
    assert content(new) == content(photos)
    assert f"Copied instead of linked, since {says}" in str(report)


def test_a_link_across_real_devices(dataset: EmbeddedDataset, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path("/dev/shm") / f"pvu-test-{os.getpid()}"  # noqa: S108 (another device is the point)
    if not other.parent.is_dir() or other.parent.stat().st_dev == photos.stat().st_dev:
        pytest.skip("there is no second device at /dev/shm")
    monkeypatch.setenv("PVU_ROOTS", f"{photos.parent}{os.pathsep}{other.parent}")
    try:
        report = copy_images(plan_copy(dataset, ALL[:3], other), link=True)
        assert (report.copied, report.linked, report.no_links) == (3, 0, "it is on another disk")
        assert len(content(other)) == 3
    finally:
        shutil.rmtree(other, ignore_errors=True)


def test_a_cancelled_copy_keeps_whole_files_and_goes_on(dataset: EmbeddedDataset, photos: Path, new: Path) -> None:
    asked = iter(range(100))
    plan = plan_copy(dataset, ALL, new)
    with pytest.raises(Cancelled, match=r"5 images of 12 are in .*/new and stay there; the same copy goes on"):
        copy_images(plan, should_stop=lambda: next(asked) == 5)
    kept = content(new)
    assert len(kept) == 5
    assert kept.items() <= content(photos).items()
    seen: list[Progress] = []
    report = copy_images(plan_copy(dataset, ALL, new), progress=seen.append)
    assert (report.there, report.copied) == (5, 7)
    assert content(new) == content(photos)
    assert [(step.phase, step.done, step.total) for step in seen] == [("copy", done, 12) for done in range(5, 13)]


def test_a_crash_in_the_middle_of_a_file_leaves_no_half_a_file(
    dataset: EmbeddedDataset, photos: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, unlink = shutil.copy2, Path.unlink

    def die(source: Path, target: Path) -> None:
        if Path(source).name == "2.png":
            Path(target).write_bytes(Path(source).read_bytes()[:50])
            Path(target).chmod(0o400)
            monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # the process is gone before it can tidy up
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(shutil, "copy2", die)
    with pytest.raises(KeyboardInterrupt):
        copy_images(plan_copy(dataset, ALL, new))
    assert content(new).keys() == {"cat/0.png", "cat/1.png"}
    assert len(list(new.rglob(".*.partial"))) == 1
    monkeypatch.setattr(shutil, "copy2", real)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert copy_images(plan_copy(dataset, ALL, new)).there == 2
    assert content(new) == content(photos)
    assert list(new.rglob(".*.partial")) == []


class Meddling(NamedTuple):
    """What somebody did to the new folder between two copies."""

    act: Callable[[Path], object]
    says: str


MEDDLING = {
    "other content": Meddling(lambda path: path.write_bytes(b"mine"), "another file of this name"),
    "same size": Meddling(lambda path: path.write_bytes(bytes(path.stat().st_size)), "another file of this name"),
    "a folder": Meddling(lambda path: (path.unlink(), path.mkdir()), "another file of this name"),
    "a link": Meddling(lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "another file of this name"),
}


@pytest.mark.parametrize("kind", MEDDLING)
def test_nothing_is_overwritten(dataset: EmbeddedDataset, new: Path, photos: Path, kind: str) -> None:
    copy_images(plan_copy(dataset, ALL[:6], new))
    mine = new / "cat" / "1.png"
    MEDDLING[kind].act(mine)
    if mine.is_file() and not mine.is_symlink():
        os.utime(mine, (1, 1))
    before = (mine.is_symlink(), mine.is_dir(), mine.read_bytes() if mine.is_file() else b"")
    for link in (False, True):
        report = copy_images(plan_copy(dataset, ALL, new), link=link)
        assert MEDDLING[kind].says in report.failed["cat/1.png"]
        assert list(report.failed) == ["cat/1.png"]
        assert (mine.is_symlink(), mine.is_dir(), mine.read_bytes() if mine.is_file() else b"") == before
    assert "1 could not be put there" in str(report)


def test_a_copy_whose_time_was_changed_is_still_known(dataset: EmbeddedDataset, new: Path) -> None:
    copy_images(plan_copy(dataset, ALL, new))
    os.utime(new / "owl" / "0.png", (1, 1))
    report = copy_images(plan_copy(dataset, ALL, new))
    assert (report.there, report.copied, report.failed) == (12, 0, {})


def test_links_in_the_new_folder_lead_nowhere(dataset: EmbeddedDataset, new: Path, tmp_path: Path) -> None:
    copy_images(plan_copy(dataset, ALL[:4], new))
    (tmp_path / "victim").mkdir()
    (new / "dog").symlink_to(tmp_path / "victim")
    report = copy_images(plan_copy(dataset, ALL, new))
    assert set(report.failed.values()) == {"a link in the new folder leads elsewhere"}
    assert len(report.failed) == 4
    assert list((tmp_path / "victim").iterdir()) == []


def test_no_folder_is_made_where_a_link_leads(dataset: EmbeddedDataset, new: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    plan = plan_copy(dataset, ALL[:1], new)
    copy_images(plan)
    (new / "dog").symlink_to(tmp_path / "victim")
    ((own, original),) = plan.names.items()
    deep = replace(plan, names={"dog/deep/0.png": original}, stamps={"dog/deep/0.png": plan.stamps[own]}, table=None)
    assert copy_images(deep).failed == {"dog/deep/0.png": "a link in the new folder leads elsewhere"}
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("can_link", [True, False])
def test_a_file_that_appears_during_the_copy_is_not_overwritten(
    dataset: EmbeddedDataset, new: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    real, refuse = shutil.copy2, OSError(errno.EPERM, "no links")

    def meanwhile(source: Path, target: Path) -> None:
        real(source, target)
        if Path(source).name == "1.png" and Path(source).parent.name == "cat":
            (new / "cat" / "1.png").write_bytes(b"mine")

    monkeypatch.setattr(shutil, "copy2", meanwhile)
    if can_link:  # then not even a file that comes after the last look is lost
        monkeypatch.setattr(os.path, "lexists", lambda _: False)
    else:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(refuse))
    report = copy_images(plan_copy(dataset, ALL, new))
    assert list(report.failed) == ["cat/1.png"]
    assert report.copied == len(ALL) - 1
    assert (new / "cat" / "1.png").read_bytes() == b"mine"
    assert list(new.rglob(".*.partial")) == []


def test_originals_that_are_gone_changed_or_lead_outside_are_said(
    dataset: EmbeddedDataset, photos: Path, new: Path
) -> None:
    (photos / "cat" / "0.png").unlink()
    (photos / "cat" / "1.png").unlink()
    (photos / "cat" / "1.png").symlink_to("/etc/hostname")
    (photos / "dog" / "0.png").write_bytes(b"edited since")
    report = copy_images(plan_copy(dataset, ALL, new))
    assert report.failed == {
        "cat/0.png": "the original is no longer there",
        "cat/1.png": "a link that leads outside the folder",
    }
    assert (report.copied, report.changed) == (10, 1)
    assert (new / "dog" / "0.png").read_bytes() == b"edited since"
    assert "1 original changed since the images were embedded." in str(report)


def test_files_of_an_earlier_choice_stay_and_are_counted(dataset: EmbeddedDataset, new: Path) -> None:
    copy_images(plan_copy(dataset, ALL, new))
    report = copy_images(plan_copy(dataset, ALL[:4], new))
    assert (report.there, report.others) == (4, 8)
    assert len(content(new)) == 12
    assert "8 images of an earlier copy, not chosen this time, were left there." in str(report)


def test_a_copy_of_another_kind_or_of_another_set_is_refused(
    dataset: EmbeddedDataset, new: Path, tmp_path: Path
) -> None:
    copy_images(plan_copy(dataset, ALL, new))
    with pytest.raises(
        CopyError, match=r"holds a copy of other images, or one laid out in another way .from .*/photos"
    ):
        plan_copy(dataset, ALL, new, layout="labels")
    write_pictures(tmp_path / "pets", ["cat/a.png", "dog/b.png"])
    with pytest.raises(CopyError, match="holds a copy of other images"):
        plan_copy(embed(tmp_path / "pets", model=FakeEncoder(), workers=0), ALL[:2], new)


def test_too_little_room_is_said_before_anything_is_written(
    dataset: EmbeddedDataset, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage: Any = shutil._ntuple_diskusage  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40, 2**28))
    with pytest.raises(CopyError, match=r"The copy needs 0 MiB, but 256 MiB are free at .*Make room"):
        copy_images(plan_copy(dataset, ALL, new))
    assert content(new) == {}
    assert copy_images(plan_copy(dataset, ALL, new), link=True).linked == 12  # which takes no room


def test_a_full_disk_ends_the_copy_and_one_bad_file_does_not(
    dataset: EmbeddedDataset, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.copy2
    wrong = {"cat/2.png": errno.EIO, "dog/1.png": errno.ENOSPC}

    def copy2(source: Path, target: Path) -> None:
        number = next((number for name, number in wrong.items() if str(source).endswith(name)), None)
        if number is not None:
            raise OSError(number, os.strerror(number))
        real(source, target)

    monkeypatch.setattr(shutil, "copy2", copy2)
    with pytest.raises(CopyError, match=r"cannot be written to: No space left on device. Finished images stay there"):
        copy_images(plan_copy(dataset, ALL, new))
    assert content(new).keys() == {"cat/0.png", "cat/1.png", "cat/3.png", "dog/0.png"}
    del wrong["dog/1.png"]
    report = copy_images(plan_copy(dataset, ALL, new))
    assert report.failed == {"cat/2.png": "Input/output error"}
    assert (report.there, report.copied) == (4, 7)


def test_two_copies_at_once_are_one_too_many(dataset: EmbeddedDataset, new: Path) -> None:
    copy_images(plan_copy(dataset, ALL[:1], new))
    with FileLock(new / LOCK), pytest.raises(CopyError, match=r"Another copy to .*/new is under way"):
        copy_images(plan_copy(dataset, ALL, new))


def test_an_embedded_copy_has_the_labels_and_columns_of_the_original(tmp_path: Path, new: Path) -> None:
    folder = tmp_path / "loose"
    write_pictures(folder, [f"{number}.png" for number in range(6)])
    rows = "".join(f"{number}.png,{'007' if number % 2 else 'NA'},{number}\n" for number in range(6))
    (folder / LABELS).write_text("path,label,camera\n" + rows)
    opened = embed(folder, model=FakeEncoder(), workers=0)
    Tags.of(opened).set(4, "fix label", "7")
    asked = iter(range(100))
    with pytest.raises(Cancelled):
        copy_images(
            plan_copy(opened, np.arange(6), new, layout="labels", corrected=True), should_stop=lambda: next(asked) == 2
        )
    assert len(pd.read_csv(new / LABELS)) == 2  # also half a copy can be embedded
    copy_images(plan_copy(opened, np.arange(6), new, layout="labels", corrected=True))
    again = embed(new, model=FakeEncoder(), workers=0)
    labels = dict(zip(again.images["path"], again.labels, strict=True))
    assert labels == {
        **{f"NA/{number}.png": "NA" for number in (0, 2)},
        **{f"007/{number}.png": "007" for number in (1, 3, 5)},
        "7/4.png": "7",
    }
    assert again.images.set_index("path")["camera"].to_dict() == {path: int(path[-5]) for path in labels}


def test_a_job_copies_and_refuses_rows_of_an_older_run(dataset: EmbeddedDataset, photos: Path, new: Path) -> None:
    arguments = {
        "store": str(dataset.path),
        "version": dataset.version,
        "rows": [0, 5],
        "folder": str(new),
        "layout": "paths",
        "corrected": False,
        "link": False,
    }
    result = run_copy(arguments, lambda _: None, lambda: False)
    assert result == {"folder": str(new), "text": f"2 images copied: {new}.", "failed": {}}
    assert content(new).keys() == {"cat/0.png", "dog/1.png"}
    write_pictures(photos, ["new/1.png"])
    embed(photos, model=FakeEncoder(), workers=0)
    with pytest.raises(CopyError, match=re.escape("photos has been embedded again since these images were chosen")):
        run_copy(arguments, lambda _: None, lambda: False)
