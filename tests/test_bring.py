"""Brought embeddings become a store like any other, but without a model."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pvu.bring import bring, bring_job, placeholder
from pvu.errors import Cancelled, ModelError, PVUError, QueryError, SourceError, StoreError
from pvu.pipeline import embed
from pvu.progress import Progress
from pvu.store import BROUGHT, EmbeddedDataset
from tests.fakes import FakeEncoder

pytestmark = pytest.mark.usefixtures("quick_map")


@pytest.fixture
def made(photos: Path) -> EmbeddedDataset:
    """What the pipeline makes of three labels of four pictures."""
    return embed(photos, model=FakeEncoder(), workers=0)


@pytest.fixture
def files(made: EmbeddedDataset, tmp_path: Path) -> dict[str, Any]:
    """The same as files that somebody could bring: embeddings and a table with paths, labels and uncertainties."""
    np.save(tmp_path / "clip.npy", np.asarray(made.embeddings, np.float32))
    made.images[["path", "label", "uncertainty"]].assign(site=list(range(12))).to_csv(tmp_path / "t.csv", index=False)
    return {"embeddings": tmp_path / "clip.npy", "table": tmp_path / "t.csv", "workers": 0}


def test_the_store_is_like_the_pipelines(made: EmbeddedDataset, files: dict[str, Any], photos: Path) -> None:
    seen: list[Progress] = []
    brought = bring(**files, images=photos, name="mine", progress=seen.append)
    np.testing.assert_array_equal(brought.embeddings, made.embeddings)
    np.testing.assert_array_equal(brought.neighbors, made.neighbors)
    np.testing.assert_array_equal(brought.coords, made.coords)
    np.testing.assert_allclose(brought.uncertainty, made.uncertainty, rtol=1e-6)
    for column in ("path", "label", "width", "height", "bytes", "mtime_ns", "content_hash"):
        assert brought.images[column].tolist() == made.images[column].tolist()
    assert [brought.image_path(row) for row in range(12)] == [made.image_path(row) for row in range(12)]
    for row in range(12):
        assert Image.open(io.BytesIO(brought.thumbnail(row))).size == Image.open(io.BytesIO(made.thumbnail(row))).size
    assert (brought.name, brought.metadata_columns, brought.manifest["model"]) == ("mine", ["site"], BROUGHT)
    assert brought.has_uncertainty
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == ["check", "scan", "thumbnails", "neighbors", "map", "save"]
    assert {(p.done, p.total) for p in seen if p.phase == "thumbnails"} == {(0, 12), (12, 12)}


def test_searching_works_with_its_own_images_and_says_why_not_with_others(
    files: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    brought = bring(**files, images=photos)
    assert len(brought.search(3, 4)) == len(brought.search("cat/1.png", 4)) == 4
    assert not brought.has_encoder
    Image.new("RGB", (40, 40)).save(tmp_path / "new.png")
    for act in (lambda: brought.model, lambda: brought.search(tmp_path / "new.png")):
        with pytest.raises(StoreError, match=r"The embeddings of clip were brought, not made here"):
            act()
    assert EmbeddedDataset.open(brought.path).has_encoder is False


def test_without_a_folder_there_are_tiles_and_without_u_there_is_none(
    made: EmbeddedDataset, files: dict[str, Any]
) -> None:
    del files["table"]
    brought = bring(**files)
    assert [brought.thumbnail(row) for row in range(12)] == [placeholder()] * 12
    assert Image.open(io.BytesIO(placeholder())).size == (96, 96)
    assert brought.images["path"].tolist() == [f"{row:07d}" for row in range(12)]
    assert not brought.has_uncertainty
    assert not brought.has_labels
    assert brought.images["content_hash"].is_unique  # images without a file are no duplicates
    assert not brought.image_path(0).exists()
    with pytest.raises(QueryError, match="were brought without uncertainties"):
        brought.threshold(0.9)
    assert EmbeddedDataset.open(files["embeddings"]).path == brought.path
    np.testing.assert_array_equal(brought.neighbors, made.neighbors)


def test_rows_out_of_use_and_files_out_of_reach(files: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    z = np.load(files["embeddings"])
    z[2] = np.nan
    np.save(files["embeddings"], z)
    (photos / "cat" / "0.png").unlink()
    (photos / "cat" / "1.png").write_bytes(b"nothing")
    brought = bring(**files, images=photos)
    assert brought.failed.to_numpy().tolist() == [["cat/2.png", "its embedding holds NaN or infinite values"]]
    assert len(brought) == 11
    tiles = [brought.thumbnail(row) == placeholder() for row in range(11)]
    assert tiles == [True, True] + [False] * 9
    assert brought.manifest["brought"]["pictures"] == 11  # files that are there, the damaged one too
    assert brought.images["width"].tolist()[:3] == [0, 0, 48]
    kept = [0, 1, *range(3, 12)]
    np.testing.assert_array_equal(brought.embeddings, z[kept].astype(np.float16))


def test_a_model_gives_the_uncertainties_if_none_came(
    made: EmbeddedDataset, files: dict[str, Any], photos: Path
) -> None:
    pd.read_csv(files["table"]).drop(columns="uncertainty").to_csv(files["table"], index=False)
    (photos / "dog" / "3.png").write_bytes(b"nothing")
    encoder = FakeEncoder()
    brought = bring(**files, images=photos, uncertainty_model=encoder)
    kept = [row for row in range(12) if made.images["path"][row] != "dog/3.png"]
    np.testing.assert_allclose(brought.uncertainty, made.uncertainty[kept], rtol=1e-6)
    assert brought.failed.to_numpy().tolist() == [["dog/3.png", "no uncertainty: not an image, or a damaged header"]]
    assert brought.manifest["brought"]["uncertainty"] == "fake"
    assert encoder.encoded == 11
    with pytest.raises(SourceError, match="None of the images' files was found"):
        bring(**files, uncertainty_model=encoder)


def test_uncertainties_are_not_taken_twice_nor_from_a_model_without_a_head(
    files: dict[str, Any], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match="Take these, or a model's, not both"):
        bring(**files, images=photos, uncertainty_model="default")

    class Headless:
        name, head = "headless", None

    monkeypatch.setattr("pvu.models.load_model", lambda _: Headless())
    pd.read_csv(files["table"]).drop(columns="uncertainty").to_csv(files["table"], index=False)
    with pytest.raises(ModelError, match="headless has no uncertainty head"):
        bring(**files, images=photos, uncertainty_model="headless")


def test_the_same_again_is_at_once_and_something_newer_replaces_it(files: dict[str, Any], photos: Path) -> None:
    first = bring(**files, images=photos)
    seen: list[str] = []
    again = bring(**files, images=photos, progress=lambda p: seen.append(p.phase))
    assert again.version == first.version
    assert "thumbnails" not in seen
    np.save(files["embeddings"], np.load(files["embeddings"])[:, ::-1])
    newer = bring(**files, images=photos)
    assert newer.path == first.path
    assert newer.version != first.version
    assert newer.manifest["fingerprint"] != first.manifest["fingerprint"]
    renamed = bring(**files, images=photos, name="other")
    assert (renamed.name, renamed.path) == ("other", first.path)


def test_sets_of_one_space_have_one_fingerprint(files: dict[str, Any], tmp_path: Path) -> None:
    half = tmp_path / "half.npy"
    np.save(half, np.load(files["embeddings"])[:6])
    u = tmp_path / "u.npy"
    np.save(u, np.arange(6))

    def fingerprint(path: Path, **more: Any) -> str:
        return str(bring(path, workers=0, **more).manifest["fingerprint"])

    given = fingerprint(files["embeddings"], table=files["table"], space="clip")
    assert fingerprint(half, uncertainty=u, space="clip") == given
    assert fingerprint(half, uncertainty=u, space="other") != given
    assert fingerprint(half, uncertainty=u) != given
    assert fingerprint(half, space="clip") != given  # nothing to compare u with


def test_cancelling_keeps_what_is_done_and_going_on_makes_the_rest(
    files: dict[str, Any], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pvu.decoding.CHUNK", 4)
    seen: list[Progress] = []
    monkeypatch.setattr("pvu.bring._STEP", 4)
    del files["table"]
    with pytest.raises(Cancelled, match="start again to go on"):
        bring(**files, should_stop=lambda: True)
    dataset = bring(**files, progress=seen.append)
    assert len(dataset) == 12
    assert [p.done for p in seen if p.phase == "thumbnails"] == [4, 8, 12]
    # What was done for other embeddings does not count.
    np.save(files["embeddings"], np.load(files["embeddings"]) + 1)
    with pytest.raises(Cancelled):
        bring(**files, should_stop=lambda: True)
    changed = np.load(files["embeddings"]) + 1
    np.save(files["embeddings"], changed)
    np.testing.assert_array_equal(bring(**files).embeddings, changed.astype(np.float16))


def test_the_app_reads_only_what_it_may(
    files: dict[str, Any], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    Image.new("RGB", (20, 20)).save(outside / "secret.png")
    monkeypatch.setenv("PVU_ROOTS", str(photos))
    table = pd.read_csv(files["table"])
    arguments = {name: str(value) for name, value in files.items() if name != "workers"} | {"workers": 0}
    table.assign(path=[str(outside / "secret.png"), *table["path"][1:]]).to_csv(files["table"], index=False)
    with pytest.raises(SourceError, match=r"secret.png' leads to where images may not be read. Set PVU_ROOTS"):
        bring_job(arguments | {"images": str(photos)}, lambda _: None, lambda: False)
    with pytest.raises(SourceError, match=r"elsewhere is outside those that may be read. Set PVU_ROOTS"):
        bring_job(arguments | {"images": str(outside)}, lambda _: None, lambda: False)
    assert len(bring(**files, images=photos)) == 12  # the command line reads what its user may
    (photos / "cat" / "9.png").symlink_to(outside / "secret.png")
    table.assign(path=["cat/9.png", *table["path"][1:]]).to_csv(files["table"], index=False)
    with pytest.raises(SourceError, match=r"'cat/9.png' leads to where images may not be read"):
        bring(**files, images=photos)
    table.to_csv(files["table"], index=False)
    done = bring_job(arguments | {"images": str(photos)}, lambda _: None, lambda: False)
    assert len(EmbeddedDataset(Path(done["store"]))) == 12


def test_what_is_no_regular_image_file_is_not_read(files: dict[str, Any], photos: Path) -> None:
    os.mkfifo(photos / "cat" / "pipe.png")  # reading it would wait for ever
    (photos / "cat" / "notes.txt").write_text("x")
    table = pd.read_csv(files["table"])
    table.assign(path=["cat/pipe.png", "cat/notes.txt", "cat", *table["path"][3:]]).to_csv(files["table"], index=False)
    brought = bring(**files, images=photos)
    assert brought.manifest["brought"]["pictures"] == 9


def test_files_that_are_not_there(files: dict[str, Any], tmp_path: Path) -> None:
    for argument in ("embeddings", "table"):
        with pytest.raises(PVUError, match="There is no file at"):
            bring(**(files | {argument: tmp_path / "none.npy"}))
    with pytest.raises(PVUError, match="There is no folder"):
        bring(**files, images=tmp_path / "none")
