"""A tiny deterministic encoder and a few tiny pictures, so that these tests take seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pvu.images import Preprocessing
from training.augment import Augmentation
from training.config import CacheConfig
from training.data import SourceConfig, imagenet_classes

SIDE = 16


class FakeBackbone(torch.nn.Linear):
    """A classifier that is its own backbone."""

    def get_classifier(self) -> torch.nn.Module:
        return self


class FakeEncoder:
    """Means of 4 x 4 blocks as the representation, and a fixed random classifier of 1,000 classes."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.preprocessing = Preprocessing(size=SIDE)
        self.backbone = FakeBackbone(48, 1000, bias=False)
        with torch.no_grad():
            self.backbone.weight.copy_(torch.randn(1000, 48, generator=generator))
        self.encoded = 0

    def represent(self, pixels: torch.Tensor) -> torch.Tensor:
        self.encoded += len(pixels)
        blocks = pixels.float().reshape(len(pixels), 4, 4, 4, 4, 3).mean(dim=(2, 4))
        return blocks.reshape(len(pixels), 48) / 255 - 0.5

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.backbone(z)


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two sources: `labelled` has 4 wnids of 5 pictures, `plain` has 7 pictures without labels, one of them broken."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    for wnid in list(imagenet_classes())[:4]:
        (root / "labelled" / wnid).mkdir(parents=True)
        for index in range(5):
            pixels = rng.integers(0, 255, (24, 20, 3), np.uint8)
            Image.fromarray(pixels).save(root / "labelled" / wnid / f"{index}.png")
    (root / "plain").mkdir()
    for index in range(6):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(root / "plain" / f"{index}.png")
    (root / "plain" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def cache_config() -> CacheConfig:
    return CacheConfig(
        sources=(SourceConfig("labelled", passes=2, held_out=0.5), SourceConfig("plain", passes=1)),
        augmentation=Augmentation(degrade=0.5),
        shard=8,
    )
