"""A few pictures, their maps made by the real trunk once, and a configuration small enough for seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pvu.models import Model, load_model
from pvu.registry import TRUNK
from training.config import CacheConfig
from training.data import SourceConfig, imagenet_classes
from training.hybrid.config import DistillConfig, Shape
from training.hybrid.mapped import MappedViews, load_maps
from training.hybrid.maps import build_maps


@pytest.fixture(scope="session")
def trunk_model() -> Model:
    return load_model(TRUNK, precision="float32")


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`labelled` has 4 wnids of 8 pictures, `plain` has 7 pictures without labels, one of them broken."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("hybrid") / "data"
    for wnid in list(imagenet_classes())[:4]:
        (root / "labelled" / wnid).mkdir(parents=True)
        colour = rng.integers(0, 255, 3)
        for index in range(8):
            pixels = np.clip(colour + rng.normal(0, 60, (24, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "labelled" / wnid / f"{index}.png")
    (root / "plain").mkdir()
    for index in range(6):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(root / "plain" / f"{index}.png")
    (root / "plain" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="session")
def config() -> DistillConfig:
    sources = (SourceConfig("labelled", passes=1, held_out=0.2), SourceConfig("plain", passes=1, weight=2.0))
    return DistillConfig(
        CacheConfig(sources, shard=16),
        Shape(width=48, depth=1, heads=3),
        steps=40,
        batch=12,
        neighbours=3,
        among=5,
        smallest=0.0,
        checkpoint_every=10,
    )


@pytest.fixture(scope="session")
def maps(
    tmp_path_factory: pytest.TempPathFactory, picture_folder: Path, trunk_model: Model, config: DistillConfig
) -> Path:
    out = tmp_path_factory.mktemp("hybrid") / "maps"
    build_maps(config.cache, trunk_model, picture_folder, out, workers=0)
    return out


@pytest.fixture
def views(maps: Path, config: DistillConfig) -> MappedViews:
    return load_maps(maps, config.cache)
