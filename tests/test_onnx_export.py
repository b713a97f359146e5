"""ONNX: what the file computes is what the model computes, for any number of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import pvu.onnx_export
from pvu.errors import ModelError
from pvu.head import UncertaintyHead
from pvu.hybrid import STATISTICS, HybridViT
from pvu.images import Preprocessing
from pvu.models import Model
from pvu.onnx_export import export_onnx
from pvu.registry import ModelSpec
from tests.test_models import settle


def hybrid(head: bool) -> Model:
    torch.manual_seed(0)
    network = settle(timm.create_model("tf_efficientnet_lite0"))
    backbone = HybridViT(network, width=48, depth=1, heads=3, init_values=0.1)
    spec = ModelSpec("tiny", "hybrid_vit", "file")
    own = UncertaintyHead(48 + STATISTICS, 16) if head else None
    return Model(spec, backbone, own, Preprocessing(size=224), precision="float32", device="cpu")


@pytest.mark.parametrize("head", [True, False])
def test_the_file_computes_what_the_model_computes(tmp_path: Path, head: bool) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model, path = hybrid(head), tmp_path / "model.onnx"
    export_onnx(model, path)
    assert sorted(tmp_path.iterdir()) == [path]
    described = json.loads(onnx.load(str(path)).metadata_props[0].value)
    assert described["model"] == "tiny"
    assert described["preprocessing"]["size"] == 224
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        pixels = np.random.default_rng(count).integers(0, 255, (count, 224, 224, 3), np.uint8)
        z, u = model.encode(pixels)
        found = session.run(None, {"pixels": pixels})
        np.testing.assert_allclose(found[0], z, rtol=1e-3, atol=1e-4)
        if head:
            np.testing.assert_allclose(found[1], u, rtol=1e-3, atol=1e-5)
        assert len(found) == 1 + head


def test_missing_packages_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pvu.onnx_export, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="needs onnx and onnxscript: pip install onnx onnxscript"):
        export_onnx(hybrid(head=False), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
