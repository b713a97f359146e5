"""A model without a network, with a head and a classifier, and labelled pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pvu.errors import ModelError
from pvu.head import UncertaintyHead
from training.data import imagenet_classes


def head(seed: int, dim: int = 48) -> UncertaintyHead:
    torch.manual_seed(seed)
    return UncertaintyHead(dim, 8).requires_grad_(False)


@pytest.fixture
def make_head() -> Callable[..., UncertaintyHead]:
    """Makes an untrained head from a seed, of a width."""
    return head


@pytest.fixture
def model(encoder) -> SimpleNamespace:
    """The fake encoder with an untrained head, as pvu's Model."""
    return SimpleNamespace(
        name="fake",
        device="cpu",
        dim=48,
        head_dims=(48,),
        precision=torch.float32,
        head=head(0),
        backbone=encoder.backbone,
        represent=encoder.represent,
        logits=encoder.logits,
        preprocessing=encoder.preprocessing,
        encoder=encoder,
    )


@pytest.fixture
def bare(model) -> SimpleNamespace:
    """The same without a classifier."""

    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise ModelError("no classifier")

    model.logits = refuse
    return model


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two sets: `wnids` with 4 ImageNet labels of 12 pictures, `birds` with 5 labels of 8, one of them broken."""
    rng = np.random.default_rng(0)
    names = {"wnids": (list(imagenet_classes())[:4], 12), "birds": ([f"{n}.bird" for n in (1, 2, 3, 10, 11)], 8)}
    for name, (labels, count) in names.items():
        for label in labels:
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            look = rng.integers(0, 255, (4, 4, 3))
            for index in range(count):
                noise = rng.integers(-120, 120, (4, 4, 3))
                pixels = np.clip(look + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).resize((20, 24)).save(folder / f"{index}.png")
    (tmp_path / "birds" / "2.bird" / "3.png").write_bytes(b"no picture")
    return tmp_path
