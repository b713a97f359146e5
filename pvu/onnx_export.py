"""A model as one ONNX file, for places without PyTorch: pixels in, representation and uncertainty out."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from pvu.errors import ModelError
from pvu.fast import fast_forward
from pvu.models import Model

OPSET = 18


class _Portable(nn.Module):
    """What :meth:`pvu.models.Model.encode` computes of pixels, in float32."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.head = model.head
        self.dim = model.dim
        self.forward_backbone = fast_forward(model.backbone, torch.float32, statistics=model.statistics)
        self.register_buffer("mean", torch.tensor(model.preprocessing.mean) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(model.preprocessing.std) * 255))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = ((pixels.float() - self.mean) * self.scale).permute(0, 3, 1, 2)
        features = self.forward_backbone(x)
        z = features[:, : self.dim]
        return (z,) if self.head is None else (z, self.head(features))


def export_onnx(model: Model, path: Path) -> None:
    """Write a model, its preprocessing's normalisation and its head to an ONNX file.

    Input ``pixels`` (B, size, size, 3) uint8, resized and cropped as ``model.preprocessing`` says; outputs ``z`` (B, D)
    float32 and, where the model has a head, ``u`` (B,) float32. B is free. The metadata entry ``pvu`` holds the model's
    name and the preprocessing as JSON.

    Args:
        model: on the CPU.
        path: the file; an existing one is replaced when the new one is whole.

    Raises:
        ModelError: if the packages that write ONNX files are missing.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ModelError(f"Writing ONNX files needs {' and '.join(missing)}: pip install onnx onnxscript")
    size = model.preprocessing.size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    partial = path.with_name(f"{path.name}.partial")
    program = torch.onnx.export(
        _Portable(model).eval(),
        (example,),
        dynamo=True,
        input_names=["pixels"],
        output_names=["z"] if model.head is None else ["z", "u"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    how = model.preprocessing
    program.model.metadata_props["pvu"] = json.dumps({"model": model.name, "preprocessing": asdict(how)})
    program.save(partial, include_initializers=True, external_data=False)
    os.replace(partial, path)
