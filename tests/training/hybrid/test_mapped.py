"""Maps as one table: every view once, with the label, the source and the maps that are its own."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pvu.hybrid import Trunk
from pvu.models import Model
from training.data import SourceConfig
from training.hybrid.config import DistillConfig
from training.hybrid.mapped import MappedViews, load_maps
from training.shards import CacheError


def test_every_view_is_there_with_what_is_known_of_it(views: MappedViews) -> None:
    assert len(views) == 2 * (32 + 7)
    whole = views.pass_index == 0
    np.testing.assert_array_equal(views.image[whole], np.arange(39))
    assert np.bincount(views.source).tolist() == [64, 14]
    assert np.unique(views.label[views.source == 0]).tolist() == [0, 1, 2, 3]
    assert set(views.label[views.source == 1]) == {-1}
    assert (views.area[whole & views.usable] == 1).all()
    broken = views.image == 38  # "broken.png" comes last in its folder
    assert not views.usable[broken].any()
    held_out = 32 - np.count_nonzero(views.usable & whole & (views.source == 0))
    assert 0 < held_out < 20


def test_the_maps_of_rows_are_those_of_the_files(views: MappedViews, maps: Path, trunk_model: Model) -> None:
    trunk = Trunk(trunk_model.backbone)  # type: ignore[arg-type]
    rows = np.array([70, 3, 20, 3])
    found = views.maps(rows, trunk)
    assert found.shape == (4, 448 + 1280, 7, 7)
    torch.testing.assert_close(found[1], found[3])
    shard = maps / "shards" / "labelled-00-0000016"
    middle, last = (torch.from_numpy(np.load(shard / f"{name}.npy")[4:5]).float() for name in ("middle", "last"))
    torch.testing.assert_close(found[2], trunk.join(middle, last)[0])
    pooled = found[:, 448:].mean((2, 3)).numpy()
    np.testing.assert_allclose(pooled, views.pooled[rows], rtol=5e-3, atol=5e-3)


def test_missing_damaged_and_foreign_maps_are_told_apart(tmp_path: Path, maps: Path, config: DistillConfig) -> None:
    with pytest.raises(CacheError, match=r"no maps at .* training\.hybrid\.maps"):
        load_maps(tmp_path / "nowhere", config.cache)
    copy = tmp_path / "copy"
    shutil.copytree(maps, copy)
    path = copy / "shards" / "plain-01-0000000" / "last.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CacheError, match=r"plain-01-0000000 .* missing or damaged"):
        load_maps(copy, config.cache)
    more = dataclasses.replace(config.cache, sources=(*config.cache.sources, SourceConfig("third", passes=0)))
    with pytest.raises(CacheError, match="no source third"):
        load_maps(maps, more)
    with pytest.raises(CacheError, match="another seed"):
        load_maps(maps, dataclasses.replace(config.cache, seed=7))
