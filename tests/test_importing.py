"""Checkpoints of the paper's authors become models that load_model() knows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from pvu import cli
from pvu.errors import CheckpointError, ModelError
from pvu.importing import import_checkpoint
from pvu.models import load_model
from tests.authors import uncertainties, write_checkpoint

PAPERS_TINY = "vit_tiny_patch16_224.augreg_in21k"


def vit(arch: str, classes: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    backbone = timm.create_model(arch, num_classes=classes)
    nn.init.normal_(backbone.head.weight, std=0.02)  # timm starts it at zero
    return backbone.eval()


@pytest.mark.parametrize(("arch", "classes"), [("test_vit", 11), (PAPERS_TINY, 21_843)])
def test_an_imported_model_computes_the_described_forward_pass(
    pvu_home: Path, tmp_path: Path, arch: str, classes: int
) -> None:
    backbone = vit(arch, classes)
    layers = write_checkpoint(tmp_path / "model_best.pth.tar", backbone, arch, dim=backbone.num_features)
    imported = import_checkpoint(tmp_path / "model_best.pth.tar")
    model = load_model(imported.name, precision="float32", device="cpu")
    side = model.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    z, u = model.encode(pixels)
    config = timm.data.resolve_data_config({}, model=backbone)
    x = (torch.from_numpy(pixels) / 255 - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    x = x.permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected_z = backbone.forward_head(backbone.forward_features(x), pre_logits=True)
        expected_logits = backbone(x)
    np.testing.assert_allclose(z, expected_z, rtol=0, atol=1e-5)
    np.testing.assert_allclose(u, uncertainties(expected_z, layers), rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.logits(torch.from_numpy(z)), expected_logits, rtol=0, atol=1e-4)
    assert model.head_metadata["backbone"] == arch
    assert model.head_metadata["backbone_hash"] == model.backbone_hash
    assert model.head_metadata["args"]["seed"] == 1
    assert pvu_home in imported.weights.parents
    assert pvu_home in imported.head.parents


def test_importing_again_gives_the_same_model_and_another_file_of_that_name_another(
    pvu_home: Path, tmp_path: Path
) -> None:
    path, names = tmp_path / "model_best.pth.tar", []
    for seed in (0, 0, 1):
        write_checkpoint(path, vit("test_vit", 3, seed), "test_vit", dim=64)
        names.append(import_checkpoint(path).name)
    assert names[0] == names[1] != names[2]
    assert len(list((pvu_home / "weights").iterdir())) == 2
    assert all(load_model(name).head is not None for name in names)


@pytest.mark.parametrize(
    ("arch", "dim", "error", "match"),
    [
        ("no_such_vit", 64, ModelError, "There is no model named 'no_such_vit@"),
        ("test_resnet", 64, ModelError, "are not those of test_resnet"),
        ("test_vit", 63, CheckpointError, "takes 63 numbers, but test_vit gives 64"),
    ],
)
def test_nothing_is_kept_of_a_checkpoint_that_cannot_be_used(
    pvu_home: Path, tmp_path: Path, arch: str, dim: int, error: type[Exception], match: str
) -> None:
    write_checkpoint(tmp_path / "w.pth.tar", vit("test_vit", 3), arch, dim=dim)
    with pytest.raises(error, match=match):
        import_checkpoint(tmp_path / "w.pth.tar")
    assert [path for path in pvu_home.rglob("*") if path.is_file()] == []


def test_the_command_says_the_name_to_use(pvu_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.pth.tar"
    write_checkpoint(path, vit("test_vit", 3), "test_vit", dim=64)
    assert cli.main(["import-checkpoint", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert load_model(found["model"]).head is not None
    assert cli.main(["import-checkpoint", str(path)]) == 0
    assert f"--model '{found['model']}'" in capsys.readouterr().out
    assert cli.main(["import-checkpoint", str(tmp_path / "absent.pth.tar")]) == 2
    assert "no weights file at" in capsys.readouterr().err
