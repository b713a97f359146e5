"""The heads that ship are those that the committed configurations describe, for the backbones they are used with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from pvu.backbones import hash_weights
from pvu.checkpoint import load_tensors
from pvu.hybrid import FORMAT
from pvu.models import Model, load_model
from pvu.registry import REGISTRY
from training.augment import degrade
from training.config import Config, build, load_config
from training.hybrid.config import DistillConfig, load_distill_config

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
HEADS = {"hybrid-vit": "hybrid_vit_head.yaml", "efficientnet-lite0": "efficientnet_lite0.yaml"}


@pytest.fixture(scope="module", params=list(HEADS))
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(request.param)


def test_it_was_trained_by_the_committed_configuration_on_this_backbone(model: Model) -> None:
    metadata = model.head_metadata
    assert build(Config, metadata["config"], "head") == load_config(CONFIGS / HEADS[model.name])
    assert metadata["backbone_hash"] == hash_weights(model.backbone)
    assert metadata["preprocessing"] == {**asdict(model.preprocessing), "mean": [0.5] * 3, "std": [0.5] * 3}


def test_the_transformer_was_trained_by_the_committed_configuration() -> None:
    _, header = load_tensors(
        Path(REGISTRY["hybrid-vit"].location), FORMAT, "transformer", "a hybrid Vision Transformer"
    )
    assert build(DistillConfig, header["config"], "hybrid-vit") == load_distill_config(CONFIGS / "hybrid_vit.yaml")
    assert header["trunk_hash"] == hash_weights(load_model(header["trunk"]).backbone)


def test_its_reference_quantiles_can_give_percentiles(model: Model) -> None:
    quantiles = np.array(model.head_metadata["reference_quantiles"])
    assert len(quantiles) == 101
    assert (np.diff(quantiles) > 0).all()
    assert quantiles[0] > 0


def test_its_weights_are_finite_and_vary_u(model: Model) -> None:
    assert model.head is not None
    assert all(torch.isfinite(parameter).all() for parameter in model.head.parameters())
    u = model.head(torch.rand(50, model.head.dim))
    assert u.std() > 1e-3


def test_u_rises_with_noise(model: Model) -> None:
    from PIL import Image
    from skimage.data import chelsea  # a photograph of a cat, inside scikit-image

    cat = Image.fromarray(model.preprocessing.apply(Image.fromarray(chelsea())))
    rng = np.random.default_rng(0)
    _, u = model.encode([degrade(cat, "noise", strength, rng) for strength in (0.0, 0.5, 1.0)])
    assert u is not None
    assert u[0] < u[2]
