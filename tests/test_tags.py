"""Tags: against a plain dictionary, over restarts, torn lines, full disks and several writers at once."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pvu.pipeline import embed
from pvu.tags import DROP, FIX, KEEP, TAGS, UNSURE, TagError, Tags, tags_path
from tests.fakes import FakeEncoder, write_pictures

IMAGES = [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(6)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tags.jsonl"


def state(tags: Tags) -> list[tuple[str | None, str | None]]:
    return list(zip(*(part.tolist() for part in tags.values), strict=True))


def test_any_order_of_actions_and_undos_agrees_with_a_dictionary(path: Path) -> None:
    """Each action also goes to another object that reads the file only, and at the end to a third that is new."""
    rng = np.random.default_rng(0)
    writer, reader = Tags(path, IMAGES), Tags(path, IMAGES)
    history: list[dict[int, tuple[str | None, str | None]]] = [{}]
    for _ in range(150):
        rows = rng.choice(len(IMAGES), rng.integers(1, 5), replace=False)
        now = dict(history[-1])
        kind = rng.integers(7)
        if kind < 4:
            labels = [f"new {rng.integers(2)}" for _ in rows] if TAGS[kind] == FIX else None
            writer.set(rows, TAGS[kind], labels)
            now |= {int(row): (TAGS[kind], labels and labels[place]) for place, row in enumerate(rows)}
        elif kind == 4:
            writer.clear(rows)
            now |= {int(row): (None, None) for row in rows}
        else:
            assert (writer.undo() is None) == (len(history) == 1)
            history = history[:-1] or history
            assert state(writer) == [history[-1].get(row, (None, None)) for row in range(len(IMAGES))]
            continue
        if any(now.get(row, (None, None)) != history[-1].get(row, (None, None)) for row in range(len(IMAGES))):
            history.append(now)  # what changes nothing is no action
        expected = [now.get(row, (None, None)) for row in range(len(IMAGES))]
        assert state(writer) == state(reader) == expected
    assert len(history) > 20
    assert state(Tags(path, IMAGES)) == [history[-1].get(row, (None, None)) for row in range(len(IMAGES))]


def test_counts_and_what_can_be_undone(path: Path) -> None:
    tags = Tags(path, IMAGES)
    assert (tags.undoable, tags.undo(), tags.counts) == (None, None, dict.fromkeys(TAGS, 0))
    assert not path.exists()
    tags.set(0, KEEP)
    tags.set([1, 2, 3], DROP)
    tags.set([1, 4], FIX, " owl ")
    assert tags.counts == {KEEP: 1, DROP: 2, FIX: 2, UNSURE: 0}
    assert tags.values.label.tolist()[:5] == [None, "owl", None, None, "owl"]
    assert tags.undoable == "fix label (to “owl”) on 2 images"
    assert tags.undo() == "Undone: fix label (to “owl”) on 2 images."
    assert tags.undo() == "Undone: drop on 3 images."
    assert tags.undoable == "keep on cat/0.jpg"
    tags.clear([0])
    assert tags.undo() == "Undone: tags taken off cat/0.jpg."
    assert tags.counts == {KEEP: 1, DROP: 0, FIX: 0, UNSURE: 0}


def test_the_arrays_belong_to_the_caller(path: Path) -> None:
    tags = Tags(path, IMAGES)
    tags.set(0, KEEP)
    tags.values.tag[:] = DROP
    assert tags.values.tag.tolist() == [KEEP] + [None] * 11


def test_the_version_changes_with_every_action_of_anyone(path: Path) -> None:
    mine, others = Tags(path, IMAGES), Tags(path, IMAGES)
    seen = [mine.version]
    for act in (lambda: others.set(0, KEEP), lambda: mine.set(0, DROP), others.undo, path.unlink):
        act()
        seen.append(mine.version)
    assert len(set(seen[:4])) == 4
    assert mine.counts[KEEP] == 0  # the file is gone, and so are the tags


def test_what_makes_no_sense_is_refused_in_a_sentence(path: Path) -> None:
    tags = Tags(path, IMAGES)
    with pytest.raises(TagError, match="There is no tag 'maybe'\\. The tags are keep, drop, fix label, unsure"):
        tags.set(0, "maybe")
    with pytest.raises(TagError, match="no row 12: the data set has the rows 0 to 11"):
        tags.set([0, 12], KEEP)
    with pytest.raises(TagError, match="no row -1"):
        tags.clear(-1)
    for mask in (np.arange(12) == 5, [0.0, 1.5]):
        with pytest.raises(TagError, match=r"Rows are whole numbers, not (bool|float64)"):
            tags.set(mask, DROP)
    for missing in (None, "", "  ", ["owl", ""]):
        with pytest.raises(TagError, match="'fix label' needs the new label"):
            tags.set([0, 1], FIX, missing)
    with pytest.raises(TagError, match="found 1 labels for 2 images"):
        tags.set([0, 1], FIX, ["owl"])
    with pytest.raises(TagError, match="goes with the tag 'fix label', not with 'keep'"):
        tags.set(0, KEEP, "owl")
    assert not path.exists()


def test_lines_that_are_no_actions_are_passed_over(path: Path) -> None:
    Tags(path, IMAGES).set(0, KEEP)
    with path.open("ab") as file:
        file.write(b"null\n[1]\n\0\0\0\n\xff\n{}\n")
    tags = Tags(path, IMAGES)
    tags.set(1, DROP)
    assert (tags.counts[KEEP], tags.counts[DROP]) == (1, 1)


def test_no_rows_and_no_change_are_no_action(path: Path) -> None:
    tags = Tags(path, IMAGES)
    tags.set([], KEEP)
    tags.clear([0, 1])
    assert not path.exists()
    tags.set(0, KEEP)
    size = path.stat().st_size
    tags.set([0, 0], KEEP)
    assert path.stat().st_size == size


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_crash_in_the_middle_of_a_line_costs_that_line_alone(path: Path, cut: int) -> None:
    tags = Tags(path, IMAGES)
    tags.set([0, 1], KEEP)
    tags.set([2], DROP)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    torn = Tags(path, IMAGES)
    assert torn.counts[KEEP] == 2
    assert torn.counts[DROP] == 0
    torn.set([3], UNSURE)
    for reader in (torn, Tags(path, IMAGES)):
        assert reader.counts[KEEP] == 2
        assert reader.counts[UNSURE] == 1
        assert reader.counts[DROP] == (1 if cut == 1 else 0)  # only the line's end was missing


@contextmanager
def disk_with_room_for(path: Path, more: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow beyond the size of this one and some bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((path.stat().st_size if path.exists() else 0) + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 10, 50])
def test_a_full_disk_is_one_sentence_and_loses_nothing(path: Path, room: int) -> None:
    tags = Tags(path, IMAGES)
    tags.set([0, 1], KEEP)
    before = path.read_bytes()
    with disk_with_room_for(path, room):
        for act in (lambda: tags.set(list(range(12)), DROP), lambda: tags.clear(0), tags.undo):
            with pytest.raises(
                TagError, match=r"could not be saved to .*tags.jsonl \(.*\). All tags from before are safe"
            ):
                act()
    assert path.read_bytes() == before
    assert state(tags) == state(Tags(path, IMAGES)) == [(KEEP, None)] * 2 + [(None, None)] * 10
    tags.set([5], DROP)
    assert Tags(path, IMAGES).counts[DROP] == 1


def test_a_line_that_was_not_fsynced_is_not_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = Tags(path, IMAGES)
    tags.set(0, KEEP)
    synced = []
    monkeypatch.setattr("pvu.tags.os.fsync", synced.append)
    tags.set(1, KEEP)
    assert len(synced) == 1

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pvu.tags.os.fsync", fail)
    with pytest.raises(TagError, match="No space left on device"):
        tags.set(2, KEEP)
    assert Tags(path, IMAGES).counts[KEEP] == tags.counts[KEEP] == 2


def test_a_folder_in_the_place_of_the_file_is_a_sentence(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(TagError, match="cannot be read"):
        Tags(path, IMAGES).counts  # noqa: B018
    with pytest.raises(TagError, match="cannot be read"):
        Tags(path, IMAGES).set(0, KEEP)


def test_several_processes_and_threads_lose_nothing(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pvu.tags import Tags\n"
        "images = [f'{number}.jpg' for number in range(200)]\n"
        "tags = Tags(Path(sys.argv[1]), images)\n"
        "[tags.set(row, 'keep') for row in range(int(sys.argv[2]), 100, 2)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), str(start)]) for start in (0, 1)]
    images = [f"{number}.jpg" for number in range(200)]
    shared = Tags(path, images)

    def tag(tags: Tags, start: int) -> None:
        for row in range(100 + start, 200, 4):
            tags.set(row, DROP)

    writers = [shared, shared, Tags(path, images), Tags(path, images)]
    threads = [threading.Thread(target=tag, args=(tags, start)) for start, tags in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in running] == [0, 0]
    for tags in (shared, Tags(path, images)):
        assert tags.values.tag.tolist() == [KEEP] * 100 + [DROP] * 100
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 201  # the header, and an action an image


def test_two_tabs_undo_one_action_each(path: Path) -> None:
    left, right = Tags(path, IMAGES), Tags(path, IMAGES)
    for row in range(3):
        left.set(row, DROP)
    assert left.counts == right.counts
    assert right.undo() == "Undone: drop on cat/2.jpg."
    assert left.undo() == "Undone: drop on cat/1.jpg."
    assert state(left) == state(right) == [(DROP, None)] + [(None, None)] * 11


def test_tags_survive_a_new_run_and_another_model_and_new_images(photos: Path, quick_map: None, pvu_home: Path) -> None:
    first = embed(photos, model=FakeEncoder(), workers=0)
    Tags.of(first).set([first.find_row("dog/1.png"), first.find_row("owl/3.png")], FIX, "wolf")
    (photos / "owl" / "3.png").unlink()
    write_pictures(photos, ["ape/0.png"])
    second = embed(photos, model=FakeEncoder(), workers=0)
    other = embed(photos, model=FakeEncoder(name="other", fingerprint="other-1"), workers=0)
    assert other.path != second.path
    for dataset in (second, other):
        tags = Tags.of(dataset)
        assert tags is Tags.of(dataset)
        assert len(tags.values.tag) == len(dataset) == 12
        assert dataset.images["path"][np.flatnonzero(tags.values.tag == FIX)].tolist() == ["dog/1.png"]
        assert tags.values.label[dataset.find_row("dog/1.png")] == "wolf"
    files = list((pvu_home / "tags").glob("*.jsonl"))
    assert files == [tags_path(str(photos.resolve()), name="photos")]
    assert json.loads(files[0].read_text().splitlines()[0]) == {"source": str(photos.resolve())}
    write_pictures(photos, ["owl/3.png"])
    third = embed(photos, model=FakeEncoder(), workers=0)
    assert Tags.of(third).counts[FIX] == 2  # the image is back, and so is its tag


def test_folders_of_one_name_keep_their_tags_apart(make_photos: Callable[..., Path], quick_map: None) -> None:
    here, there = make_photos(4, "a/same"), make_photos(4, "b/same")
    first, second = (embed(folder, model=FakeEncoder(), workers=0) for folder in (here, there))
    Tags.of(first).set(0, DROP)
    assert (Tags.of(first).counts[DROP], Tags.of(second).counts[DROP]) == (1, 0)


def test_odd_names_come_back_as_they_were(path: Path) -> None:
    images = ["ü/\u2028 line.jpg", 'quote".jpg', "new\nline.jpg", "back\\slash.jpg"]
    Tags(path, images).set([0, 1, 2, 3], FIX, ["naïve\n", "b", "c", "“d”"])
    assert Tags(path, images).values.label.tolist() == ["naïve", "b", "c", "“d”"]
