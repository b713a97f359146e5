"""The head's cache from maps is the one from pictures, and refuses maps that are not of the model's trunk."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pvu.errors import ModelError
from pvu.hybrid import STATISTICS
from pvu.models import Model, load_model
from training.cache import build_cache
from training.cached import load_views
from training.hybrid.cache import cache_from_maps
from training.hybrid.config import DistillConfig
from training.hybrid.distill import WEIGHTS, save_student, train
from training.hybrid.mapped import MappedViews
from training.rows import JoinedColumns
from training.shards import CacheError


@pytest.fixture
def model(views: MappedViews, config: DistillConfig, trunk_model: Model, tmp_path: Path) -> Model:
    run = train(dataclasses.replace(config, steps=3), views, trunk_model.backbone, tmp_path / "run")
    save_student(run, tmp_path / "run", "a command")
    return load_model(f"hybrid-vit@{tmp_path / 'run' / WEIGHTS}", precision="float32", device="cpu")


def test_from_maps_it_is_the_cache_from_pictures(
    model: Model, config: DistillConfig, picture_folder: Path, maps: Path, tmp_path: Path
) -> None:
    wanted = dataclasses.replace(config.cache, statistics=True)
    assert cache_from_maps(wanted, model, picture_folder, maps, tmp_path / "quick") == 6
    build_cache(wanted, model, picture_folder, tmp_path / "slow", workers=0)
    quick, slow = (load_views(tmp_path / name, wanted) for name in ("quick", "slow"))
    assert quick.features.shape == (78, config.shape.width + STATISTICS)
    mapped = load_views(tmp_path / "quick", wanted, in_memory=0)
    assert isinstance(mapped.features, JoinedColumns)
    np.testing.assert_array_equal(mapped.features[:], quick.features)
    known = np.isfinite(slow.facts["cross_entropy"])
    np.testing.assert_array_equal(np.isfinite(quick.facts["cross_entropy"]), known)
    a, b = quick.z[known].astype(np.float32), slow.z[known].astype(np.float32)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.999
    np.testing.assert_allclose(quick.statistics[known], slow.statistics[known], rtol=0.02, atol=0.02)
    for name in ("image", "area", "degradation"):
        np.testing.assert_array_equal(quick.facts[name], slow.facts[name])
    for name in ("cross_entropy", "instance"):
        np.testing.assert_allclose(quick.facts[name][known], slow.facts[name][known], rtol=0.1, atol=0.15)
    assert cache_from_maps(wanted, model, picture_folder, maps, tmp_path / "quick") == 0


def test_maps_of_another_trunk_are_refused(
    model: Model, config: DistillConfig, picture_folder: Path, maps: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "maps"
    shutil.copytree(maps, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"backbone": "0" * 32}))
    with pytest.raises(CacheError, match="another backbone"):
        cache_from_maps(config.cache, model, picture_folder, copy, tmp_path / "out")


def test_maps_of_other_pictures_are_refused(
    model: Model, config: DistillConfig, picture_folder: Path, maps: Path, tmp_path: Path
) -> None:
    fewer = tmp_path / "data"
    shutil.copytree(picture_folder, fewer)
    (fewer / "plain" / "0.png").unlink()
    with pytest.raises(CacheError, match="another plain"):
        cache_from_maps(config.cache, model, fewer, maps, tmp_path / "out")


def test_a_model_without_maps_is_sent_to_the_plain_command(
    trunk_model: Model, config: DistillConfig, picture_folder: Path, maps: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"efficientnet-lite0 is no hybrid .* training\.cache"):
        cache_from_maps(config.cache, trunk_model, picture_folder, maps, tmp_path / "out")
