"""The pipeline: what it computes, what it reuses, and what survives when it is stopped."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pvu.pipeline
from pvu.catalog import partial_path
from pvu.errors import Cancelled, ModelError, SourceError, StoreError
from pvu.images import decode_file
from pvu.pipeline import Report, embed, embed_with_report, stack_pixels, store_path, to_results
from pvu.progress import Progress
from pvu.shards import shard_keys
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, picture, write_pictures

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("quick_map")


def run(source: Path, encoder: FakeEncoder | None = None, **options: object) -> Report:
    return embed_with_report(source, model=encoder or FakeEncoder(), workers=0, **options)  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, str]:
    """Content and time of everything under a folder."""
    return {
        path.relative_to(folder).as_posix(): f"{path.lstat().st_mtime_ns}"
        + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    }


def check(dataset: EmbeddedDataset, source: Path) -> None:
    """Every row of every array is the image that the table says, computed anew from its file."""
    encoder = FakeEncoder()
    assert len(dataset.images) == len(dataset.embeddings) == len(dataset.uncertainty) == len(dataset.labels)
    assert dataset.coords.shape == (len(dataset), 2)
    for row, path in enumerate(dataset.images["path"]):
        decoded = decode_file(source / path, encoder.preprocessing)
        z, u = encoder.encode(decoded.pixels[None])
        assert u is not None
        np.testing.assert_array_equal(dataset.embeddings[row], z[0].astype(np.float16), err_msg=path)
        assert dataset.uncertainty[row] == u[0]
        np.testing.assert_array_equal(dataset.coords[row], dataset.embeddings[row, :2])
        assert dataset.thumbnail(row) == decoded.thumbnail
        assert dataset.images["content_hash"][row] == decoded.content_hash
        assert tuple(dataset.images.loc[row, ["width", "height"]]) == (decoded.width, decoded.height)
    units = np.asarray(dataset.embeddings, float)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    cosines = units @ units.T
    np.fill_diagonal(cosines, -2)
    assert dataset.neighbors.shape[1] == min(30, len(dataset) - 1)
    np.testing.assert_allclose(
        dataset.similarities, -np.sort(-cosines, axis=1)[:, : dataset.neighbors.shape[1]], atol=1e-5
    )
    np.testing.assert_allclose(np.take_along_axis(cosines, dataset.neighbors, axis=1), dataset.similarities, atol=1e-5)


# What a run gives


def test_a_folder_becomes_a_data_set(photos: Path) -> None:
    report = run(photos)
    dataset = report.dataset
    assert (report.computed, report.reused) == (12, 0)
    assert report.images_per_second > 0
    assert report.seconds > 0
    assert dataset.images["path"].tolist() == [f"{label}/{i}.png" for label in ("cat", "dog", "owl") for i in range(4)]
    assert dataset.labels.tolist() == ["cat"] * 4 + ["dog"] * 4 + ["owl"] * 4
    check(dataset, photos)


def test_workers_give_the_same(photos: Path) -> None:
    here = run(photos, FakeEncoder(fingerprint="here")).dataset
    there = embed(photos, model=FakeEncoder(fingerprint="there"), workers=2)
    np.testing.assert_array_equal(here.embeddings, there.embeddings)
    assert here.images.equals(there.images)


def test_originals_are_untouched_and_everything_lies_in_home(photos: Path, pvu_home: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"x")
    before = tree(photos)
    run(photos)
    run(photos)
    assert tree(photos) == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"photos", "pvu-home"}
    assert [entry.name for entry in pvu_home.iterdir()] == ["stores"]


def test_nothing_is_left_of_the_run_beside_the_store(photos: Path) -> None:
    dataset = run(photos).dataset
    assert sorted(entry.name for entry in dataset.path.iterdir()) == [
        "clusters.npy", "embeddings.npy", "images.parquet", "manifest.json", "neighbors.npz", "thumbs.bin", "umap.npy"
    ]  # fmt: skip
    assert {entry.name for entry in dataset.path.parent.iterdir()} <= {dataset.path.name, f"{dataset.path.name}.lock"}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_tiny_folders(make_photos: Callable[..., Path], count: int) -> None:
    root = make_photos(count)
    dataset = run(root).dataset
    assert len(dataset) == count
    check(dataset, root)
    assert len(dataset.search(0, k=10)) == count - 1


def test_images_that_are_all_the_same(tmp_path: Path) -> None:
    for index in range(40):
        picture(0).save(write_pictures(tmp_path / "same", [f"{index:02d}.png"])[0])
    dataset = run(tmp_path / "same").dataset
    assert len(np.unique(dataset.uncertainty)) == 1
    assert (dataset.neighbors != np.arange(40)[:, None]).all()
    assert all(len(set(row)) == 30 for row in dataset.neighbors.tolist())
    np.testing.assert_allclose(dataset.similarities, 1, atol=1e-5)
    assert 0 not in dataset.search(0, k=39)["row"].tolist()


def test_a_model_without_a_head(photos: Path) -> None:
    dataset = run(photos, FakeEncoder(has_head=False)).dataset
    assert not dataset.has_uncertainty
    assert np.isnan(dataset.uncertainty).all()
    assert run(photos, FakeEncoder(has_head=False)).computed == 0


# Images that fail


def test_failed_images_are_listed_with_their_reason_and_not_tried_again(photos: Path) -> None:
    (photos / "cat" / "text.jpg").write_text("no image")
    (photos / "cat" / "empty.png").touch()
    (photos / "notes.txt").write_text("hello")
    data = (photos / "dog" / "0.png").read_bytes()
    (photos / "dog" / "0.png").write_bytes(data[: len(data) // 2])
    first = run(photos)
    reasons = dict(zip(first.dataset.failed["path"], first.dataset.failed["error"], strict=True))
    assert list(reasons) == sorted(reasons)
    assert reasons["cat/text.jpg"] == "not an image, or a damaged header"
    assert reasons["cat/empty.png"] == "empty file"
    assert reasons["notes.txt"] == "not an image type that is read (.txt)"
    assert reasons["dog/0.png"]
    assert len(first.dataset) == 11
    assert first.computed == 13
    check(first.dataset, photos)
    second = run(photos)
    assert (second.computed, second.reused) == (0, 11)
    assert second.dataset.failed.equals(first.dataset.failed)
    picture(9).save(photos / "dog" / "0.png")
    third = run(photos)
    assert (third.computed, len(third.dataset)) == (1, 12)
    check(third.dataset, photos)


def test_an_image_that_could_not_be_read_is_tried_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever mends a file's rights changes neither its size nor its time."""
    original = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "1.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        first = run(photos)
        assert set(first.dataset.failed["error"]) == {"cannot be read (Permission denied)"}
        before = tree(first.dataset.path)
        second = run(photos)
        assert (second.computed, second.reused, len(second.dataset)) == (3, 9, 9)
        assert tree(first.dataset.path) == before  # nothing new, so nothing is put together anew
    third = run(photos)
    assert (third.computed, len(third.dataset), len(third.dataset.failed)) == (3, 12, 0)
    check(third.dataset, photos)
    assert run(photos).computed == 0


def test_a_name_that_is_not_utf8_does_not_end_the_run(photos: Path) -> None:
    try:
        os.link(photos / "cat" / "0.png", os.fsencode(photos) + b"/cat/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    dataset = run(photos).dataset
    assert len(dataset) == 12
    assert dataset.failed["error"].tolist() == ["its name is not valid UTF-8: rename it"]
    assert run(photos).computed == 0


def test_if_all_images_are_broken_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for index in range(3):
        (tmp_path / "set" / f"{index}.jpg").write_bytes(b"x")
    encoder = FakeEncoder()
    for _ in range(2):
        with pytest.raises(SourceError, match=r"None of the 3 images could be read\. The first, 0\.jpg: not an image"):
            run(tmp_path / "set", encoder)
    assert encoder.encoded == 0
    picture(1).save(tmp_path / "set" / "good.png")
    assert len(run(tmp_path / "set").dataset) == 1


def test_a_store_stays_when_all_images_break_later(make_photos: Callable[..., Path]) -> None:
    root = make_photos(2)
    path = run(root).dataset.path
    for image in root.iterdir():
        image.write_bytes(b"broken")
    with pytest.raises(SourceError, match="None of the 2 images"):
        run(root)
    assert len(EmbeddedDataset(path)) == 2


# What is reused


def test_a_second_call_computes_nothing_and_does_not_rewrite_the_store(photos: Path) -> None:
    first = run(photos).dataset
    before = tree(first.path)
    encoder = FakeEncoder()
    second = run(photos, encoder)
    assert (encoder.encoded, second.computed, second.reused, second.images_per_second) == (0, 0, 12, 0)
    assert tree(first.path) == before
    assert second.dataset.version == first.version


def test_only_new_and_changed_images_are_computed(photos: Path) -> None:
    first = run(photos).dataset
    encoder = FakeEncoder()
    picture(77).save(photos / "cat" / "00.png")
    picture(78).save(photos / "dog" / "1.png")
    (photos / "owl" / "3.png").unlink()
    report = run(photos, encoder)
    assert (encoder.encoded, report.computed, report.reused) == (2, 2, 10)
    assert report.dataset.path == first.path
    assert report.dataset.version != first.version
    assert len(report.dataset) == 12
    check(report.dataset, photos)


def test_deleting_alone_computes_nothing(photos: Path) -> None:
    run(photos)
    (photos / "cat" / "0.png").unlink()
    report = run(photos)
    assert (report.computed, len(report.dataset)) == (0, 11)
    check(report.dataset, photos)


def test_a_change_that_keeps_the_size_is_seen_by_its_time(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for index in range(3):
        Image.new("RGB", (40, 40), (index, 0, 0)).save(tmp_path / "set" / f"{index}.bmp")
    run(tmp_path / "set")
    Image.new("RGB", (40, 40), "blue").save(tmp_path / "set" / "1.bmp")
    report = run(tmp_path / "set")
    assert report.computed == 1
    check(report.dataset, tmp_path / "set")


def test_new_labels_alone_are_taken_without_encoding(photos: Path) -> None:
    run(photos)
    (photos / "labels.csv").write_text("path,label,weather\ncat/0.png,kitten,rain\n")
    labelled = run(photos)
    assert labelled.computed == 0
    assert labelled.dataset.labels[0] == "kitten"
    assert labelled.dataset.metadata_columns == ["weather"]
    assert labelled.dataset.images["weather"][0] == "rain"
    check(labelled.dataset, photos)
    (photos / "labels.csv").unlink()
    assert run(photos).dataset.labels[0] == "cat"


def test_a_table_can_be_given(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,label,n\n" + "".join(f"owl/{index}.png,bird,{index}\n" for index in range(4)))
    dataset = run(photos, table=table).dataset
    assert dataset.labels.tolist() == [None] * 8 + ["bird"] * 4
    assert dataset.images["n"].tolist()[8:] == [0, 1, 2, 3]
    with pytest.raises(SourceError, match=r"no table at .*absent\.csv"):
        run(photos, table=tmp_path / "absent.csv")


def test_columns_of_mixed_types_are_kept(photos: Path) -> None:
    rows = ["cat/0.png,1,True,2020-01-01", "cat/1.png,two,,", "gone.png,3.5,False,x"]
    (photos / "labels.csv").write_text("\n".join(["path,mixed,flag,day", *rows]))
    dataset = run(photos).dataset
    assert dataset.images["mixed"].tolist()[:2] == ["1", "two"]
    assert dataset.images["flag"].tolist()[0] in (True, "True")


def test_another_fingerprint_is_another_store(photos: Path) -> None:
    first = run(photos, FakeEncoder(fingerprint="one"))
    second = run(photos, FakeEncoder(fingerprint="two"))
    assert first.dataset.path != second.dataset.path
    assert (second.computed, second.reused) == (12, 0)
    assert run(photos, FakeEncoder(fingerprint="one")).computed == 0


def test_two_folders_of_one_name_are_two_stores(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        write_pictures(tmp_path / parent / "set", ["1.png"])
    assert run(tmp_path / "a" / "set").dataset.path != run(tmp_path / "b" / "set").dataset.path


def test_store_path_is_readable_and_safe(tmp_path: Path) -> None:
    path = store_path(tmp_path / "My photos/../ü", FakeEncoder(name="vit@/x/../y.bin"))
    assert path.parent.name == "stores"
    assert set(path.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_a_bad_argument_fails_before_any_work(tmp_path: Path, photos: Path, pvu_home: Path) -> None:
    with pytest.raises(SourceError, match="no folder"):
        run(tmp_path / "absent")
    with pytest.raises(ModelError, match="no model named 'nonsense'"):
        embed(photos, model="nonsense")
    assert not (pvu_home / "stores").exists()


# Progress


def test_progress_goes_through_the_phases_and_counts_every_image(photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"x")
    seen: list[Progress] = []
    run(photos, progress=seen.append)
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == ["scan", "model", "images", "neighbors", "map", "save"]
    last = [progress for progress in seen if progress.phase == "images"][-1]
    assert (last.done, last.total, last.failed) == (13, 13, 1)
    assert last.per_second > 0
    assert last.seconds_left == 0


# Stopping


def test_cancelling_keeps_what_is_done(make_photos: Callable[..., Path]) -> None:
    root = make_photos(50)
    encoder = FakeEncoder()
    with pytest.raises(Cancelled, match=r"Cancelled after 32 of 50 images\. They are kept"):
        run(root, encoder, should_stop=lambda: encoder.encoded >= 32)
    report = run(root)
    assert (report.computed, report.reused) == (18, 32)
    check(report.dataset, root)


def test_an_encoder_that_fails_keeps_what_is_done(make_photos: Callable[..., Path]) -> None:
    class Failing(FakeEncoder):
        def encode(self, images: np.ndarray, /) -> tuple[np.ndarray, np.ndarray | None]:
            if self.encoded >= 32:
                raise RuntimeError("out of memory")
            return super().encode(images)

    root = make_photos(50)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(root, Failing())
    assert run(root).computed == 18


def test_a_full_disk_is_one_sentence_and_keeps_finished_shards(
    make_photos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_photos(50)
    monkeypatch.setattr(pvu.pipeline, "SHARD_SIZE", 16)
    original = pvu.shards.atomic_write

    def full(path: Path, write: Callable[[object], object]) -> None:
        if path.name == "000002.parquet":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, write)

    monkeypatch.setattr("pvu.shards.atomic_write", full)
    with pytest.raises(StoreError, match=r"The disk is full: .* MiB left\. Finished images are kept"):
        run(root)
    monkeypatch.setattr("pvu.shards.atomic_write", original)
    report = run(root)
    assert (report.computed, report.reused) == (18, 32)
    check(report.dataset, root)


@pytest.mark.parametrize("name", ["embeddings.npy", "neighbors.npz", "umap.npy", "images.parquet", "manifest.json"])
def test_a_disk_that_fills_up_while_saving_keeps_the_work_and_the_old_store(
    photos: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = run(photos).dataset.path
    write_pictures(photos, ["new/0.png"])
    original = pvu.shards.atomic_write

    def full(file: Path, write: Callable[[object], object]) -> None:
        if file.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(file, write)

    monkeypatch.setattr("pvu.assemble.atomic_write", full)
    with pytest.raises(StoreError, match="The disk is full"):
        run(photos)
    assert len(EmbeddedDataset(path)) == 12
    monkeypatch.setattr("pvu.assemble.atomic_write", original)
    report = run(photos)
    assert (report.computed, len(report.dataset)) == (0, 13)
    check(report.dataset, photos)


def test_a_disk_too_full_for_the_embeddings_is_one_sentence_too(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are gathered in a sparse memory map; writing to one on a full disk would end the process with a signal."""

    def full(_file: int, _offset: int, size: int) -> None:
        assert size >= 12 * 48 * 2
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        with pytest.raises(StoreError, match="The disk is full"):
            run(photos)
    assert run(photos).computed == 0


# Crashes and company: runs in processes of their own


SCRIPT = f"""
import pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
import pvu.assemble, pvu.pipeline
from tests.fakes import FakeEncoder

root, log, pause = sys.argv[1:]
pvu.pipeline.SHARD_SIZE = 32
pvu.assemble.project = lambda embeddings, *_: embeddings[:, :2].astype("float32")
encoder = FakeEncoder(seconds_per_image=float(pause), log=pathlib.Path(log))
print("ready", flush=True)
report = pvu.pipeline.embed_with_report(root, model=encoder, workers=0)
print(report.computed, report.reused, flush=True)
"""


def start(root: Path, log: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(root), str(log), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def encoded(log: Path) -> int:
    return sum(map(int, log.read_text().split())) if log.exists() else 0


def test_a_run_that_is_killed_loses_at_most_one_shard(
    make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_photos(200)
    log = tmp_path / "log"
    done = 0
    for kill, at in enumerate((60, 150)):
        process = start(root, log, pause=0.004)
        deadline = time.monotonic() + 60
        while encoded(log) < at + done and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        path = store_path(root.resolve(), FakeEncoder())
        with pytest.raises(StoreError, match="neither a store nor a folder that was embedded"):
            EmbeddedDataset.open(root)
        saved = len(shard_keys(partial_path(path) / "shards"))
        assert encoded(log) - saved <= (kill + 1) * 32
        done = encoded(log) - saved
    encoder = FakeEncoder()
    monkeypatch.setattr(pvu.pipeline, "SHARD_SIZE", 32)
    report = run(root, encoder)
    assert report.computed + report.reused == 200
    assert encoder.encoded + encoded(log) <= 200 + 2 * 32
    check(EmbeddedDataset.open(root), root)


def test_two_runs_of_one_folder_at_once_compute_it_once(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    root = make_photos(60)
    log = tmp_path / "log"
    processes = [start(root, log, pause=0.01) for _ in range(2)]
    outputs = [process.communicate(timeout=100)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert encoded(log) == 60
    assert sorted(output[1:] for output in outputs) == [["0", "60"], ["60", "0"]]


# Encoding a chunk


def test_results_stand_beside_failures(photos: Path) -> None:
    encoder = FakeEncoder()
    good = [decode_file(photos / "cat" / f"{index}.png", encoder.preprocessing) for index in range(2)]
    keys = [(f"{index}.png", index, index) for index in range(4)]
    outcomes = ["empty file", good[0], "truncated", good[1]]
    pixels = stack_pixels(outcomes, 32)
    assert (pixels == np.stack([image.pixels for image in good])).all()
    z, u = encoder.encode(pixels)
    assert u is not None
    results = to_results(keys, outcomes, z, u)
    assert [result.key for result in results] == keys
    assert [result.error for result in results] == ["empty file", None, "truncated", None]
    assert [results[1].embedding, results[3].embedding] == [row.astype(np.float16).tobytes() for row in z]
    assert [results[1].uncertainty, results[3].uncertainty] == u.tolist()
    assert np.isnan(to_results(keys, outcomes, z, None)[1].uncertainty)


def test_a_batch_of_failures_alone() -> None:
    pixels = stack_pixels(["bad"], 32)
    assert pixels.shape == (0, 32, 32, 3)
    assert [result.error for result in to_results([("a", 1, 1)], ["bad"], *FakeEncoder().encode(pixels))] == ["bad"]


def test_representations_beyond_float16_stay_finite(photos: Path) -> None:
    """Some backbones have a few huge channels; an infinity in one would make every similarity NaN."""

    class Huge(FakeEncoder):
        def encode(self, images: np.ndarray, /) -> tuple[np.ndarray, np.ndarray | None]:
            z, u = super().encode(images)
            z[:, 0] = 1e6
            return z, u

    dataset = run(photos, Huge()).dataset
    assert np.isfinite(dataset.embeddings).all()
    assert (dataset.neighbors >= 0).all()


def test_a_home_that_cannot_be_written_to_is_one_sentence(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PVU_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"cannot be written to .*Set PVU_HOME"):
        run(photos)


def test_an_image_without_finite_numbers_is_left_out_alone(photos: Path) -> None:
    class Odd(FakeEncoder):
        def encode(self, images: np.ndarray, /) -> tuple[np.ndarray, np.ndarray | None]:
            z, u = super().encode(images)
            if u is not None and not self.batches[:-1]:
                u[1] = np.nan
                z[2] = np.nan
            return z, u

    dataset = run(photos, Odd()).dataset
    assert dataset.failed["error"].tolist() == ["the model gave no finite numbers for it"] * 2
    assert dataset.has_uncertainty
    assert np.isfinite(dataset.uncertainty).all()
    assert np.isfinite(dataset.embeddings).all()
