from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.cached import load_views, targets
from training.config import CacheConfig, TrainConfig
from training.data import SourceConfig
from training.hdf5 import convert
from training.ranks import Ranks
from training.shards import CacheError

ROWS = {"train": 50, "val": 20}
CONFIG = CacheConfig(
    sources=(SourceConfig("train", passes=0), SourceConfig("val", passes=0, held_out=1.0, path="files/val.hdf5")),
    shard=16,
)


def write(path: Path, embed: np.ndarray, label: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("embed", data=embed, chunks=(7, embed.shape[1]))
        file.create_dataset("label", data=label)


def made_by(encoder: Any, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Representations and labels as the authors store them; the classifier is right on every other row."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, 48)).astype(np.float32)
    labels = encoder.logits(torch.from_numpy(z)).argmax(1).numpy()
    labels[::2] = rng.integers(0, 1000, len(labels[::2]))
    return z, labels.astype(np.float32)[:, None]


@pytest.fixture
def files(encoder, tmp_path: Path) -> Path:
    folder = tmp_path / "hdf5"
    write(folder / "train.h5", *made_by(encoder, ROWS["train"], 0))
    write(folder / "files" / "val.hdf5", *made_by(encoder, ROWS["val"], 1))
    return folder


def test_rows_come_over_with_their_losses(files: Path, encoder, tmp_path: Path) -> None:
    assert convert(CONFIG, encoder, files, tmp_path / "cache") == 4 + 2
    assert convert(CONFIG, encoder, files, tmp_path / "cache") == 0
    views = load_views(tmp_path / "cache", CONFIG)
    assert np.bincount(views.source).tolist() == list(ROWS.values())
    assert views.held_out.tolist() == [False] * ROWS["train"] + [True] * ROWS["val"]
    assert views.known.all()
    start = 0
    for seed, count in enumerate(ROWS.values()):
        z, labels = made_by(encoder, count, seed)
        rows = slice(start, start + count)
        start += count
        np.testing.assert_array_equal(views.z[rows], z.astype(np.float16))
        np.testing.assert_array_equal(views.facts["label"][rows], labels[:, 0])
        classes = torch.from_numpy(labels[:, 0]).long()
        loss = F.cross_entropy(torch.from_numpy(z) @ encoder.backbone.weight.T, classes, reduction="none")
        np.testing.assert_allclose(views.facts["cross_entropy"][rows], loss.detach(), rtol=1e-4, atol=1e-4)
        assert (views.facts["correct"][rows][1::2]).all()
    assert np.isnan(views.facts["retrieval"]).all()
    goal = targets(views, TrainConfig())
    assert np.isfinite(goal[: ROWS["train"]]).all()
    assert np.isnan(goal[ROWS["train"] :]).all()


def test_two_processes_share_the_rows(files: Path, encoder, tmp_path: Path) -> None:
    class Unconnected(Ranks):
        def wait(self) -> None:
            """The other process is not there: this test plays both, one after the other."""

    convert(CONFIG, encoder, files, tmp_path / "one")
    assert convert(CONFIG, encoder, files, tmp_path / "two", ranks=Unconnected(0, 2)) == 3
    assert convert(CONFIG, encoder, files, tmp_path / "two", ranks=Unconnected(1, 2)) == 1  # of the three that are left
    assert convert(CONFIG, encoder, files, tmp_path / "two") == 2
    one, two = load_views(tmp_path / "one", CONFIG), load_views(tmp_path / "two", CONFIG)
    np.testing.assert_array_equal(one.z, two.z)
    assert one.facts.tobytes() == two.facts.tobytes()


def test_flat_labels_are_taken_too(files: Path, encoder, tmp_path: Path) -> None:
    z, labels = made_by(encoder, ROWS["train"], 0)
    write(files / "train.h5", z, labels[:, 0])
    convert(CONFIG, encoder, files, tmp_path / "cache")
    assert (load_views(tmp_path / "cache", CONFIG).facts["label"][:50] == labels[:, 0]).all()


def refused(message: str, files: Path, encoder: Any, out: Path, config: CacheConfig = CONFIG) -> None:
    with pytest.raises(CacheError, match=message):
        convert(config, encoder, files, out)
    assert not list(out.glob("shards/*"))


def test_another_files_shape_is_refused(files: Path, encoder, tmp_path: Path) -> None:
    z, labels = made_by(encoder, 20, 0)
    write(files / "train.h5", z[:, :40], labels)
    refused("representations of 40 numbers, but the model's have 48", files, encoder, tmp_path / "cache")
    write(files / "train.h5", z, labels[:10])
    refused(r"train.h5 holds .*expected embed of shape \(N, D\)", files, encoder, tmp_path / "cache")
    with h5py.File(files / "train.h5", "w") as file:
        file["representations"] = z
    refused("holds {'representations': .*expected embed", files, encoder, tmp_path / "cache")
    with h5py.File(files / "train.h5", "w") as file:
        file["embed"] = h5py.SoftLink("/nowhere")
    refused("holds {'embed': .*expected embed", files, encoder, tmp_path / "cache")
    (files / "train.h5").write_bytes(b"no hdf5")
    refused("train.h5 is no HDF5 file", files, encoder, tmp_path / "cache")
    (files / "train.h5").unlink()
    refused("There is no file .*train, nor with .h5", files, encoder, tmp_path / "cache")


@pytest.mark.parametrize("label", [1000, -1, 0.5, np.nan])
def test_a_label_that_is_no_class_is_refused(label: float, files: Path, encoder, tmp_path: Path) -> None:
    z, labels = made_by(encoder, 20, 0)
    labels[13] = label
    write(files / "train.h5", z, labels)
    refused(r"label of row 13 of .*train.h5 is .*below 1000", files, encoder, tmp_path / "cache")


def test_representations_of_another_backbone_are_refused(files: Path, encoder, tmp_path: Path) -> None:
    refused("right on 0 of 100 rows .*from another backbone", files, type(encoder)(seed=1), tmp_path / "cache")


def test_numbers_that_half_precision_cannot_hold_are_refused(files: Path, encoder, tmp_path: Path) -> None:
    z, labels = made_by(encoder, 50, 0)
    z[3, 5] = 1e6
    write(files / "train.h5", z, labels)
    refused(
        "1 of 16 images are not finite in half precision, first that of train/3", files, encoder, tmp_path / "cache"
    )


def test_another_file_or_model_is_not_mixed_in(files: Path, encoder, tmp_path: Path) -> None:
    convert(CONFIG, encoder, files, tmp_path / "cache")
    z, labels = made_by(encoder, ROWS["train"], 0)
    write(files / "train.h5", z[::-1], labels[::-1])
    with pytest.raises(CacheError, match="made with another images"):
        convert(CONFIG, encoder, files, tmp_path / "cache")


def test_passes_make_no_sense(files: Path, encoder, tmp_path: Path) -> None:
    source = replace(CONFIG.sources[0], passes=2)
    refused("has passes: 2, but its file holds", files, encoder, tmp_path / "cache", replace(CONFIG, sources=(source,)))


def test_without_h5py_one_sentence_says_so(
    files: Path, encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    refused("needs h5py, which is not installed: pip install h5py", files, encoder, tmp_path / "cache")
