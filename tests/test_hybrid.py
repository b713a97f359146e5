"""The hybrid Vision Transformer: timm's, over the maps of its trunk, and nothing of the trunk in its own weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F

from pvu.backbones import hash_weights, load_hybrid
from pvu.checkpoint import save_tensors
from pvu.errors import CheckpointError
from pvu.fast import fast_forward
from pvu.hybrid import (
    FINAL_CHANNELS,
    FORMAT,
    STATISTICS,
    HybridViT,
    Trunk,
    has_stages,
    load_own_state,
    own_state,
    stage_statistics,
)
from pvu.models import load_model
from pvu.registry import TRUNK
from tests.test_models import settle


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return settle(timm.create_model("tf_efficientnet_lite0")).requires_grad_(False)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 224, 224)).astype(np.float32))


def student(network: torch.nn.Module, seed: int = 0) -> HybridViT:
    torch.manual_seed(seed)
    return HybridViT(network, width=48, depth=2, heads=3, init_values=0.1).eval().requires_grad_(False)


def test_it_is_timms_vision_transformer_over_49_places_and_a_class_token(
    network: torch.nn.Module, pictures: torch.Tensor
) -> None:
    model = student(network)
    assert isinstance(model, VisionTransformer)
    features = model.forward_features(pictures)
    assert features.shape == (3, 1 + 49, 48)
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), features[:, 0])
    assert model(pictures).shape == (3, 1000)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_the_trunks_maps_are_timms(network: torch.nn.Module, pictures: torch.Tensor) -> None:
    trunk = Trunk(network)  # type: ignore[arg-type]
    stages = list(trunk.stages(pictures))
    assert [stage.shape[1] for stage in stages] == [16, 24, 40, 80, 112, 192, 320]
    torch.testing.assert_close(trunk.final(stages[-1]), network.forward_features(pictures))  # type: ignore[operator]


def test_each_token_sees_the_four_places_of_the_middle_map_over_it(network: torch.nn.Module) -> None:
    trunk = Trunk(network)  # type: ignore[arg-type]
    middle, last = torch.zeros(1, 112, 14, 14), torch.zeros(1, 320, 7, 7)
    middle[0, :, 2 * 3 : 2 * 3 + 2, 2 * 5 : 2 * 5 + 2] = torch.arange(1.0, 112 * 4 + 1).reshape(112, 2, 2)
    joined = trunk.join(middle, last)[0, : 112 * 4]
    assert joined[:, 3, 5].tolist() == list(range(1, 112 * 4 + 1))
    joined[:, 3, 5] = 0
    assert not joined.any()


def test_without_blocks_the_class_token_is_a_projection_of_the_pooled_feature(
    network: torch.nn.Module, pictures: torch.Tensor
) -> None:
    model = student(network)
    model.blocks = torch.nn.Identity()
    model.norm = torch.nn.Identity()
    pooled = network.forward_head(network.forward_features(pictures), pre_logits=True)  # type: ignore[operator]
    roots = pooled.clamp_min(0).sqrt()
    unit = roots / roots.norm(dim=1, keepdim=True)
    embed = model.patch_embed.pooled
    expected = unit @ embed.weight.T + embed.bias + model.cls_token[0, 0] + model.pos_embed[0, 0]
    torch.testing.assert_close(model.forward_features(pictures)[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_making_one_leaves_the_trunk_as_it_was(network: torch.nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    student(network, seed=5)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_its_own_weights_hold_nothing_of_the_trunk_and_rebuild_it(
    network: torch.nn.Module, pictures: torch.Tensor
) -> None:
    model, other = student(network, seed=1), student(network, seed=2)
    own = own_state(model)
    assert not any(tensor.shape[:2] == (FINAL_CHANNELS, 320) for tensor in own.values())
    assert sum(tensor.numel() for tensor in own.values()) < sum(p.numel() for p in network.parameters())
    assert not torch.equal(model(pictures), other(pictures))
    load_own_state(other, own)
    torch.testing.assert_close(model(pictures), other(pictures))


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_of_something_else_are_refused(network: torch.nn.Module, change: str) -> None:
    model = student(network)
    own = own_state(model)
    if change == "missing":
        own.pop("cls_token")
    else:
        own["cls_tokens"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"not the weights of this hybrid ViT: cls_token"):
        load_own_state(model, own)


@pytest.mark.parametrize("shape", [{}, {"shape": {"width": 48, "depth": 2, "heads": 5}}, {"shape": {"size": 1}}])
def test_a_file_whose_header_names_another_shape_is_refused(tmp_path: Path, shape: dict[str, object]) -> None:
    network = load_model(TRUNK).backbone
    header = {"trunk_hash": hash_weights(network), **shape}
    file = tmp_path / "damaged.safetensors"
    save_tensors(own_state(student(network)), file, FORMAT, header, torch.float16)
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors does not have the tensors that its header names"):
        load_hybrid(file)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_quick_forward_pass_is_the_plain_one(
    network: torch.nn.Module, pictures: torch.Tensor, precision: torch.dtype
) -> None:
    model = student(network)
    plain = model.forward_head(model.forward_features(pictures), pre_logits=True)
    quick = fast_forward(model, precision)(pictures).float()
    if precision == torch.float32:
        torch.testing.assert_close(quick, plain, rtol=1e-3, atol=1e-3)
    else:
        assert F.cosine_similarity(quick, plain).min() > 0.99


def test_stage_statistics_are_means_and_deviations_over_the_places_of_each_stage(
    network: torch.nn.Module, pictures: torch.Tensor
) -> None:
    maps = list(Trunk(network).stages(pictures))  # type: ignore[arg-type]
    found = stage_statistics(maps)
    assert found.shape == (3, STATISTICS)
    expected = [
        [numbers for each in maps for part in (np.mean, np.std) for numbers in part(each[row].numpy(), axis=(1, 2))]
        for row in range(3)
    ]
    np.testing.assert_allclose(
        found.numpy(), expected, rtol=0.02, atol=1e-4
    )  # numpy's deviation divides by n, not n - 1


@pytest.mark.parametrize("hybrid", [True, False])
def test_statistics_stand_behind_the_same_representation(
    network: torch.nn.Module, pictures: torch.Tensor, hybrid: bool
) -> None:
    model = student(network) if hybrid else network
    z = fast_forward(model, torch.float32)(pictures)
    features = fast_forward(model, torch.float32, statistics=True)(pictures)
    torch.testing.assert_close(features[:, : z.shape[1]], z, rtol=1e-4, atol=1e-4)
    plain = stage_statistics(list(Trunk(network).stages(pictures)))  # type: ignore[arg-type]
    torch.testing.assert_close(features[:, z.shape[1] :], plain, rtol=1e-3, atol=1e-3)


def test_only_what_stands_on_the_trunk_has_stages(network: torch.nn.Module) -> None:
    assert has_stages(network)
    assert has_stages(student(network))
    assert not has_stages(timm.create_model("test_resnet"))
    assert not has_stages(timm.create_model("test_efficientnet"))
    assert not has_stages(timm.create_model("mnasnet_100"))  # seven stages too, but of other widths


def test_the_class_token_from_maps_is_that_of_the_whole_pass(network: torch.nn.Module, pictures: torch.Tensor) -> None:
    model = student(network)
    maps = model.patch_embed.backbone(pictures)
    torch.testing.assert_close(model.from_maps(maps), model.forward_features(pictures)[:, 0])
