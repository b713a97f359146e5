"""Maps on disk: what the trunk gives, made once, and refused when they are another trunk's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pvu.images import open_rgb, read_bytes
from pvu.models import Model
from training.hybrid.config import DistillConfig
from training.hybrid.mapped import load_maps
from training.hybrid.maps import build_maps
from training.shards import CacheError


def test_the_kept_pooled_feature_is_the_models_own_representation(
    maps: Path, picture_folder: Path, trunk_model: Model
) -> None:
    paths = sorted((picture_folder / "labelled").rglob("*.png"))[:16]
    pixels = np.stack([trunk_model.preprocessing.apply(open_rgb(read_bytes(path))[0]) for path in paths])
    expected = trunk_model.represent(torch.from_numpy(pixels)).numpy()
    shard = maps / "shards" / "labelled-00-0000000"
    np.testing.assert_allclose(np.load(shard / "pooled.npy"), expected, rtol=2e-3, atol=2e-3)
    assert np.load(shard / "middle.npy").shape == (16, 112, 14, 14)
    assert np.load(shard / "last.npy").shape == (16, 320, 7, 7)


def test_a_second_call_computes_only_what_is_missing(
    tmp_path: Path, picture_folder: Path, trunk_model: Model, config: DistillConfig
) -> None:
    out = tmp_path / "maps"
    assert build_maps(config.cache, trunk_model, picture_folder, out, workers=0) == 6
    gone = out / "shards" / "plain-01-0000000"
    before = np.load(gone / "last.npy")
    gone.rename(tmp_path / "away")
    assert build_maps(config.cache, trunk_model, picture_folder, out, workers=0) == 1
    np.testing.assert_array_equal(np.load(gone / "last.npy"), before)


def test_damaged_maps_are_made_again(
    tmp_path: Path,
    picture_folder: Path,
    trunk_model: Model,
    config: DistillConfig,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "maps"
    build_maps(config.cache, trunk_model, picture_folder, out, workers=0)
    damaged = out / "shards" / "plain-00-0000000" / "middle.npy"
    before = damaged.read_bytes()
    os.truncate(damaged, len(before) // 2)
    with pytest.raises(CacheError, match=r"plain-00-0000000 in .* damaged .* Run training.hybrid.maps again"):
        load_maps(out, config.cache)
    assert build_maps(config.cache, trunk_model, picture_folder, out, workers=0) == 1
    assert damaged.read_bytes() == before
    assert "plain-00-0000000" in capsys.readouterr().out


def test_maps_of_other_pictures_are_refused(
    tmp_path: Path, maps: Path, picture_folder: Path, trunk_model: Model, config: DistillConfig
) -> None:
    data = tmp_path / "data"
    for source in ("labelled", "plain"):
        (data / source).mkdir(parents=True)
        for path in sorted((picture_folder / source).rglob("*.png"))[1:]:
            there = data / source / path.relative_to(picture_folder / source)
            there.parent.mkdir(exist_ok=True)
            there.write_bytes(path.read_bytes())
    with pytest.raises(CacheError, match="was made with another images"):
        build_maps(config.cache, trunk_model, data, maps, workers=0)
