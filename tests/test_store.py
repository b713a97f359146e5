"""A store opens after a crash at any instant, says what is wrong if it is damaged, and searches what it holds."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import pvu.assemble
import pvu.catalog
import pvu.store
from pvu.catalog import find_stores, partial_path, read_manifest
from pvu.errors import BadImageError, QueryError, StoreError
from pvu.images import thumbnail_bytes
from pvu.pipeline import embed, embed_with_report
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, picture, write_pictures

pytestmark = pytest.mark.usefixtures("quick_map")


class Crash(BaseException):
    """Stands for a kill: nothing in pvu may catch it."""


@pytest.fixture
def dataset(photos: Path) -> EmbeddedDataset:
    return embed(photos, model=FakeEncoder(), workers=0)


def again(photos: Path) -> tuple[EmbeddedDataset, int]:
    """Embed once more; the data set and how many images had to be encoded."""
    encoder = FakeEncoder()
    return embed(photos, model=encoder, workers=0), encoder.encoded


# Opening


def test_reopening_gives_the_same(dataset: EmbeddedDataset, photos: Path) -> None:
    for opened in (EmbeddedDataset(dataset.path), EmbeddedDataset.open(dataset.path), EmbeddedDataset.open(photos)):
        assert opened.images.equals(dataset.images)
        assert opened.labels.tolist() == dataset.labels.tolist()
        for name in ("embeddings", "uncertainty", "coords", "neighbors", "similarities"):
            np.testing.assert_array_equal(getattr(opened, name), getattr(dataset, name))
        assert opened.version == dataset.version


def test_the_manifest_says_what_made_it(dataset: EmbeddedDataset, photos: Path) -> None:
    manifest = json.loads((dataset.path / "manifest.json").read_text())
    assert manifest["source"] == str(photos.resolve())
    assert (manifest["model"], manifest["fingerprint"], manifest["dim"]) == ("fake", "fake-1", 48)
    assert manifest["counts"] == {"images": 12, "failed": 0}
    assert manifest["has_head"] is True
    assert {"python", "numpy", "pillow", "torch", "timm"} <= set(manifest["versions"])
    assert repr(dataset) == "EmbeddedDataset('photos', 12 images, model='fake')"


def test_types_and_shapes(dataset: EmbeddedDataset) -> None:
    assert (dataset.embeddings.shape, dataset.embeddings.dtype) == ((12, 48), np.float16)
    assert isinstance(dataset.embeddings, np.memmap)
    assert (dataset.uncertainty.shape, dataset.uncertainty.dtype) == ((12,), np.float32)
    assert (dataset.coords.shape, dataset.coords.dtype) == ((12, 2), np.float32)
    assert (dataset.neighbors.shape, dataset.neighbors.dtype) == ((12, 11), np.int32)
    assert (dataset.similarities.shape, dataset.similarities.dtype) == ((12, 11), np.float32)


def test_files_of_a_row(dataset: EmbeddedDataset, photos: Path) -> None:
    assert dataset.image_path(5) == photos.resolve() / "dog" / "1.png"
    assert dataset.thumbnail(5) == thumbnail_bytes(Image.open(dataset.image_path(5)))


def test_what_is_no_store_says_how_to_make_one(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(StoreError, match=r"neither a store nor a folder that was embedded\. .*python -m pvu embed"):
        EmbeddedDataset.open(photos)
    with pytest.raises(StoreError, match="neither a store nor"):
        EmbeddedDataset.open(tmp_path / "absent")
    with pytest.raises(StoreError, match="There is no store at"):
        EmbeddedDataset(tmp_path / "absent")


def test_open_by_model(dataset: EmbeddedDataset, photos: Path) -> None:
    other = embed(photos, model=FakeEncoder(name="other", fingerprint="other"), workers=0)
    assert EmbeddedDataset.open(photos).path == other.path  # the newest
    assert EmbeddedDataset.open(photos, model="fake").path == dataset.path
    with pytest.raises(StoreError, match="was embedded with vit"):
        EmbeddedDataset.open(photos, model="vit")


def test_another_schema_is_refused(dataset: EmbeddedDataset, photos: Path) -> None:
    manifest = json.loads((dataset.path / "manifest.json").read_text())
    (dataset.path / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(StoreError, match="has schema 99, this version of pvu reads 1"):
        EmbeddedDataset(dataset.path)
    assert find_stores() == []


@pytest.mark.parametrize("damage", ["empty", "half", "gone"])
@pytest.mark.parametrize("name", ["manifest.json", "images.parquet", "embeddings.npy"])
def test_a_damaged_store_says_so(dataset: EmbeddedDataset, name: str, damage: str) -> None:
    file = dataset.path / name
    content = file.read_bytes()
    file.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    if damage == "gone":
        file.unlink()
    with pytest.raises(StoreError, match=r"Delete it and embed the folder again|There is no store"):
        EmbeddedDataset(dataset.path)


def test_embeddings_and_images_must_be_equally_many(dataset: EmbeddedDataset) -> None:
    np.save(dataset.path / "embeddings.npy", np.zeros((3, 48), np.float16))
    with pytest.raises(StoreError, match="12 images, 3 embeddings"):
        EmbeddedDataset(dataset.path)


# Crashes in the middle of a commit


def crash_before_any_rename(_: Path) -> None:
    raise Crash


def crash_between_the_renames(path: Path) -> None:
    if path.exists():
        path.rename(path.with_name(path.name + ".old"))
    raise Crash


def crash_before_the_old_one_is_removed(path: Path) -> None:
    if path.exists():
        path.rename(path.with_name(path.name + ".old"))
    partial_path(path).rename(path)
    raise Crash


def crash_with_the_old_one_half_removed(path: Path) -> None:
    old = path.with_name(path.name + ".old")
    if path.exists():
        path.rename(old)
    partial_path(path).rename(path)
    if old.exists():
        (old / "manifest.json").unlink()
    raise Crash


CRASHES = [
    crash_before_any_rename,
    crash_between_the_renames,
    crash_before_the_old_one_is_removed,
    crash_with_the_old_one_half_removed,
]


def crash_in_commit(photos: Path, monkeypatch: pytest.MonkeyPatch, crash: Callable[[Path], None]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pvu.assemble.commit", crash)
        with pytest.raises(Crash):
            embed(photos, model=FakeEncoder(), workers=0)


@pytest.mark.parametrize("crash", CRASHES)
@pytest.mark.parametrize("first_run", [True, False])
@pytest.mark.parametrize("look_first", [True, False])
def test_after_a_crash_in_commit_everything_is_there_and_nothing_is_computed_again(
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    crash: Callable[[Path], None],
    first_run: bool,
    look_first: bool,
) -> None:
    if not first_run:
        embed(photos, model=FakeEncoder(), workers=0)
        write_pictures(photos, ["new/0.png"])
    crash_in_commit(photos, monkeypatch, crash)
    if look_first:  # as the app does, before anybody starts a run
        assert len(find_stores()) == 1
        assert len(EmbeddedDataset.open(photos)) == (12 if first_run else 13)
    dataset, computed = again(photos)
    assert computed == 0
    assert len(dataset) == (12 if first_run else 13)
    write_pictures(photos, ["newer/0.png"])
    dataset, computed = again(photos)
    assert (len(dataset), computed) == ((13, 1) if first_run else (14, 1))
    assert not [entry.name for entry in dataset.path.parent.iterdir() if entry.suffix in (".old", ".partial")]


@pytest.mark.parametrize("step", ["neighbors", "map", "save"])
@pytest.mark.parametrize("first_run", [True, False])
def test_a_crash_while_saving_leaves_the_old_store_and_every_shard(photos: Path, step: str, first_run: bool) -> None:
    if not first_run:
        embed(photos, model=FakeEncoder(), workers=0)
        write_pictures(photos, ["new/0.png"])

    def crash(progress: pvu.progress.Progress) -> None:
        if progress.phase == step:
            raise Crash

    with pytest.raises(Crash):
        embed(photos, model=FakeEncoder(), workers=0, progress=crash)
    assert len(find_stores()) == (0 if first_run else 1)
    dataset, computed = again(photos)
    assert (len(dataset), computed) == (12 if first_run else 13, 0)


@pytest.mark.parametrize("first_run", [True, False])
@pytest.mark.parametrize("moment", ["before the renames", "between the renames"])
def test_a_page_that_looks_while_a_run_commits_does_not_get_in_its_way(
    photos: Path, monkeypatch: pytest.MonkeyPatch, first_run: bool, moment: str
) -> None:
    """A complete .partial looks like an interrupted commit, but its run is alive and holds the lock."""
    if not first_run:
        embed(photos, model=FakeEncoder(), workers=0)
        write_pictures(photos, ["new/0.png"])
    looked = []

    def look() -> None:
        thread = threading.Thread(target=lambda: looked.append(find_stores()))
        thread.start()
        thread.join(20)
        assert not thread.is_alive()

    original = pvu.catalog.os.replace

    def replace(source: Path, target: Path) -> None:
        original(source, target)
        if Path(target).suffix == ".old":
            look()

    if moment == "before the renames":
        monkeypatch.setattr("pvu.assemble.commit", lambda path: (look(), pvu.catalog.commit(path)))
    else:
        monkeypatch.setattr("pvu.catalog.os.replace", replace)
    dataset, computed = again(photos)
    assert (len(dataset), computed) == ((12, 12) if first_run else (13, 1))
    assert len(looked) == (0 if first_run and moment == "between the renames" else 1)


def test_a_data_set_that_is_open_stays_whole_while_another_run_replaces_it(photos: Path) -> None:
    """Whatever it has not read yet must not come from the new store: rows there are other images."""
    dataset = embed(photos, model=FakeEncoder(), workers=0)
    expected = {row: thumbnail_bytes(Image.open(dataset.image_path(row))) for row in range(12)}
    write_pictures(photos, [f"a-new-label/{index}.png" for index in range(3)])
    assert len(embed(photos, model=FakeEncoder(), workers=0)) == 15
    assert len(dataset.coords) == len(dataset.neighbors) == len(dataset.similarities) == 12
    np.testing.assert_array_equal(dataset.coords, dataset.embeddings[:, :2])
    assert {row: dataset.thumbnail(row) for row in range(12)} == expected


def test_a_folder_of_the_users_is_never_taken_for_a_store_in_the_making(photos: Path) -> None:
    sibling = photos.with_name("photos.partial")
    sibling.mkdir()
    (sibling / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match="neither a store nor a folder"):
        EmbeddedDataset.open(photos)
    assert len(list(photos.iterdir())) == 3
    assert sibling.is_dir()


# Finding stores


def test_find_stores(dataset: EmbeddedDataset, photos: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "others", ["1.png", "2.png"])
    other = embed(tmp_path / "others", model=FakeEncoder(name="b", fingerprint="b"), workers=0)
    assert find_stores() == [other.path, dataset.path]
    assert find_stores(photos) == [dataset.path]
    assert find_stores(model="b") == [other.path]
    assert find_stores(photos, model="b") == []
    assert find_stores(tmp_path / "absent") == []
    shutil.rmtree(photos)
    assert find_stores(photos) == [dataset.path]


def test_without_a_home_there_are_no_stores() -> None:
    assert find_stores() == []


def test_read_manifest_of_no_json(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{half")
    with pytest.raises(StoreError, match="cannot be read"):
        read_manifest(tmp_path)


# Uncertainty


def test_percentiles_are_the_share_that_is_at_most_as_uncertain(dataset: EmbeddedDataset) -> None:
    u = dataset.uncertainty
    expected = [100 * np.mean(u <= value) for value in u]
    np.testing.assert_allclose(dataset.percentiles, expected, rtol=1e-6)
    assert dataset.percentile(u.max()) == 100
    assert dataset.percentile(0.0) == 0


@pytest.mark.parametrize("keep", [0.01, 0.25, 0.5, 0.9, 1.0])
def test_the_threshold_keeps_the_share_that_was_asked_for(dataset: EmbeddedDataset, keep: float) -> None:
    assert np.count_nonzero(dataset.uncertainty <= dataset.threshold(keep)) == int(np.ceil(keep * 12))


def test_hiding_whole_percents_is_not_one_image_off(make_photos: Callable[..., Path]) -> None:
    dataset = embed(make_photos(20), model=FakeEncoder(), workers=0)
    dataset.uncertainty = np.arange(20, dtype=np.float32)  # no ties
    for hidden in range(0, 95, 5):  # percent, in the app's steps
        assert np.count_nonzero(dataset.uncertainty <= dataset.threshold(1 - hidden / 100)) == 20 - hidden // 5


@pytest.mark.parametrize("keep", [0, -0.1, 1.01, float("nan")])
def test_a_share_outside_0_to_1_is_refused(dataset: EmbeddedDataset, keep: float) -> None:
    with pytest.raises(ValueError, match="keep must be above 0 and at most 1"):
        dataset.threshold(keep)


def test_without_a_head_there_is_nothing_to_filter_by(photos: Path) -> None:
    dataset = embed(photos, model=FakeEncoder(has_head=False), workers=0)
    for use in (lambda: dataset.threshold(0.9), lambda: dataset.search(0, max_uncertainty=1.0)):
        with pytest.raises(QueryError, match="has no uncertainty head"):
            use()
    assert len(dataset.search(0, k=3)) == 3


# Searching


def brute_force(dataset: EmbeddedDataset, vector: np.ndarray, allowed: np.ndarray) -> list[int]:
    units = np.asarray(dataset.embeddings, float)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return [row for row in np.argsort(-(units @ vector), kind="stable") if allowed[row]]


@pytest.mark.parametrize("k", [1, 5, 11, 100])
def test_search_by_row_is_brute_force_without_the_query(dataset: EmbeddedDataset, k: int) -> None:
    for row in range(12):
        found = dataset.search(row, k=k)
        expected = brute_force(dataset, np.asarray(dataset.embeddings[row], float), np.arange(12) != row)[:k]
        assert found["row"].tolist() == expected
        assert list(found.columns) == ["row", "path", "similarity", "uncertainty", "label"]
        assert found["path"].tolist() == dataset.images["path"][expected].tolist()
        assert found["label"].tolist() == dataset.labels[expected].tolist()
        assert found["uncertainty"].tolist() == dataset.uncertainty[expected].tolist()
        assert found["similarity"].is_monotonic_decreasing


def test_k_results_come_back_whenever_k_images_pass(dataset: EmbeddedDataset) -> None:
    for keep in np.linspace(0.1, 1, 8):
        limit = dataset.threshold(keep)
        for row in range(12):
            allowed = (dataset.uncertainty <= limit) & (np.arange(12) != row)
            found = dataset.search(row, k=4, max_uncertainty=limit)
            assert len(found) == min(4, allowed.sum())
            assert (
                found["row"].tolist() == brute_force(dataset, np.asarray(dataset.embeddings[row], float), allowed)[:4]
            )


def test_allowed_and_uncertainty_are_both_obeyed(dataset: EmbeddedDataset) -> None:
    allowed = np.arange(12) % 2 == 0
    limit = dataset.threshold(0.7)
    found = dataset.search(1, k=12, max_uncertainty=limit, allowed=allowed)
    assert sorted(found["row"]) == np.flatnonzero(allowed & (dataset.uncertainty <= limit)).tolist()
    assert allowed.sum() == 6  # the caller's mask is as it was
    assert dataset.search(0, allowed=np.zeros(12, bool)).empty


def test_ways_to_name_a_query_of_the_set(
    dataset: EmbeddedDataset, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = dataset.search(5, k=3)
    monkeypatch.chdir(photos.parent)
    for query in (np.int64(5), "dog/1.png", photos / "dog" / "1.png", "photos/dog/1.png", "photos/cat/../dog/1.png"):
        pd.testing.assert_frame_equal(dataset.search(query, k=3), expected)
    vector, uncertainty, row = dataset.encode_query("dog/1.png")
    assert (vector.dtype, row, uncertainty) == (np.float32, 5, dataset.uncertainty[5])


def test_a_vector_is_compared_with_all_images(dataset: EmbeddedDataset) -> None:
    found = dataset.search(np.asarray(dataset.embeddings[5], np.float64) * 7, k=1)
    assert found["row"].tolist() == [5]
    assert found["similarity"].tolist() == pytest.approx([1], abs=1e-3)


@pytest.mark.parametrize(
    ("query", "match"),
    [
        (12, r"no row 12: photos has the rows 0 to 11"),
        (-1, "no row -1"),
        ("cat/absent.png", "There is no image at"),
        (np.zeros(47), r"needs the shape \(48,\), got \(47,\)"),
        (np.zeros((1, 48)), r"needs the shape \(48,\)"),
        (np.full(48, np.nan), "finite"),
    ],
)
def test_unusable_queries(dataset: EmbeddedDataset, query: object, match: str) -> None:
    with pytest.raises(QueryError, match=match):
        dataset.search(query)  # type: ignore[arg-type]


def test_bad_arguments_of_search(dataset: EmbeddedDataset) -> None:
    with pytest.raises(QueryError, match="k must be at least 1, got 0"):
        dataset.search(0, k=0)
    with pytest.raises(QueryError, match=r"allowed needs the shape \(12,\), got \(3,\)"):
        dataset.search(0, allowed=np.ones(3, bool))


class FakeModel:
    """As pvu.models.Model: takes pictures, and counts how often it was loaded."""

    loads = 0

    def __init__(self, fingerprint: str) -> None:
        self.name, self.fingerprint = "fake", fingerprint
        self._encoder = FakeEncoder()

    def encode(self, images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray | None]:
        pixels = np.stack([self._encoder.preprocessing.apply(image.convert("RGB")) for image in images])
        return self._encoder.encode(pixels)


def use_model(monkeypatch: pytest.MonkeyPatch, fingerprint: str = "fake-1") -> None:
    def load(name: str) -> FakeModel:
        assert name == "fake"
        FakeModel.loads += 1
        return FakeModel(fingerprint)

    FakeModel.loads = 0
    monkeypatch.setattr("pvu.models.load_model", load)


def test_a_new_picture_is_encoded(
    dataset: EmbeddedDataset, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_model(monkeypatch)
    copy = tmp_path / "copy.png"
    shutil.copy(photos / "owl" / "2.png", copy)
    for query in (copy, str(copy), Image.open(copy)):
        found = dataset.search(query, k=2)
        assert found["row"][0] == 10  # an equal image in the set is not the query itself
        assert found["similarity"][0] == pytest.approx(1, abs=1e-3)
        _, uncertainty, row = dataset.encode_query(query)
        assert (uncertainty, row) == (dataset.uncertainty[10], None)
    assert FakeModel.loads == 1


def test_a_picture_file_that_is_broken_says_so(
    dataset: EmbeddedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_model(monkeypatch)
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(BadImageError, match="not an image"):
        dataset.search(tmp_path / "bad.png")


def test_new_pictures_are_not_compared_if_the_weights_have_changed(
    dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_model(monkeypatch, "fake-2")
    with pytest.raises(StoreError, match="weights or the head of fake have changed since photos was embedded"):
        dataset.search(picture(1))


# Labels


def test_labels_are_none_where_missing(photos: Path) -> None:
    (photos / "labels.csv").write_text("path,label\ncat/0.png,a\ncat/1.png,\n")
    dataset = embed_with_report(photos, model=FakeEncoder(), workers=0).dataset
    assert dataset.labels.tolist() == ["a"] + [None] * 11
    assert not dataset.has_labels
    (photos / "labels.csv").write_text("path,label\ncat/0.png,a\ncat/1.png,b\n")
    assert embed(photos, model=FakeEncoder(), workers=0).has_labels


def test_several_queries_are_the_mean_of_their_directions(dataset: EmbeddedDataset) -> None:
    vectors = np.asarray(dataset.embeddings, np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mean = (vectors[2] + vectors[5] + vectors[9]) / 3
    cosine = vectors @ mean / np.linalg.norm(mean)
    cosine[[2, 9]] = -2  # 5 is given as a vector: nobody knows that it is in the set
    found = dataset.search([2, 7 * np.asarray(dataset.embeddings[5], np.float32), "owl/1.png"], k=4)
    assert dataset.images["path"].iloc[9] == "owl/1.png"
    assert found["row"].tolist() == np.argsort(-cosine, kind="stable")[:4].tolist()
    assert found["similarity"].tolist() == pytest.approx(np.sort(cosine)[::-1][:4], abs=2e-3)
    vector, uncertainty, rows = dataset.encode_queries((2, 9))
    assert (vector.dtype, rows) == (np.float32, [2, 9])
    assert uncertainty == dataset.uncertainty[[2, 9]].max()
    with pytest.raises(QueryError, match="nothing to search with"):
        dataset.search([])


def test_a_minimum_similarity_ends_the_results(dataset: EmbeddedDataset) -> None:
    everything = dataset.search(3, k=11)
    limit = float(everything["similarity"][4])
    pd.testing.assert_frame_equal(dataset.search(3, k=11, min_similarity=limit), everything[:5])
    assert len(dataset.search(3, k=2, min_similarity=limit)) == 2
    assert dataset.search(3, k=11, min_similarity=1.1).empty
