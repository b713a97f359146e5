"""Weights on disk: heads as safetensors with their metadata, other people's checkpoints without unpickling objects."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pvu.errors import CheckpointError
from pvu.head import UncertaintyHead

HEAD_FORMAT = "pvu.head/1"


def save_head(head: UncertaintyHead, path: Path, *, metadata: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Write a head as safetensors, to a temporary name first, so that a crash leaves no half a file.

    Args:
        head: the trained head.
        path: the file to write.
        metadata: JSON-able facts kept with the weights: backbone, preprocessing, training data, measured numbers.
        dtype: of the stored weights; float16 halves the file.
    """
    header = {"format": HEAD_FORMAT, "dim": head.dim, "hidden": head.hidden, **metadata}
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in head.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"pvu": json.dumps(header)})
    os.replace(partial, path)


def load_head(path: Path) -> tuple[UncertaintyHead, dict[str, Any]]:
    """Read a head that :func:`save_head` wrote.

    Returns:
        The head in float32, in evaluation mode and frozen, and its metadata.

    Raises:
        CheckpointError: if the file is absent, not safetensors, or not a head.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("pvu", "{}"))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"Cannot read the head {path}: {error}. Expected a safetensors file.") from error
    found = header.get("format") if isinstance(header, dict) else None
    if found != HEAD_FORMAT:
        raise CheckpointError(f"{path} is not an uncertainty head: its format is {found!r}, expected {HEAD_FORMAT!r}.")
    try:
        head = UncertaintyHead(header["dim"], header["hidden"])
        head.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The head {path} does not have the tensors that its header names: {error}") from error
    return head.eval().requires_grad_(False), header


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file or a PyTorch checkpoint, without unpickling arbitrary objects.

    Checkpoints that wrap their tensors in ``state_dict`` or ``model`` are unwrapped, and a leading ``module.`` or
    ``model.`` is taken off the names.

    Raises:
        CheckpointError: if the file is absent, cannot be read, or holds anything but tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no weights file at {path}.")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        raise CheckpointError(
            f"Cannot read the weights in {path}: {(str(error) or type(error).__name__).splitlines()[0]} "
            "Expected a safetensors file, or a PyTorch checkpoint that holds tensors alone."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise CheckpointError(f"{path} holds no dictionary of tensors, so it is not a model's weights.")
    for prefix in ("module.", "model."):
        if all(name.startswith(prefix) for name in loaded):
            loaded = {name.removeprefix(prefix): value for name, value in loaded.items()}
    return loaded
