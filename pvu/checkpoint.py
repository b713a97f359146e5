"""Weights on disk: heads as safetensors with their metadata, other people's checkpoints without unpickling objects."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
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
    save_tensors(head.state_dict(), path, HEAD_FORMAT, {"dim": head.dim, "hidden": head.hidden, **metadata}, dtype)


def save_tensors(
    tensors: Mapping[str, torch.Tensor], path: Path, kind: str, metadata: Mapping[str, Any], dtype: torch.dtype
) -> None:
    """Write tensors as safetensors with a JSON header that says their ``kind``, to a temporary name first."""
    kept = {name: value.detach().to("cpu", dtype).contiguous() for name, value in tensors.items()}
    partial = path.with_name(path.name + ".partial")
    save_file(kept, partial, metadata={"pvu": json.dumps({"format": kind, **metadata})})
    partial.chmod(0o644)  # safetensors writes for its owner alone; weights are to be shared like other files
    os.replace(partial, path)


def load_tensors(path: Path, kind: str, noun: str, what: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Args:
        path: the file.
        kind: the format that its header must name.
        noun: what that is, in one word ("head").
        what: the same in full ("an uncertainty head").

    Returns:
        The tensors in float32, and the header.

    Raises:
        CheckpointError: if the file is absent, not safetensors, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("pvu", "{}"))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"Cannot read the {noun} {path}: {error}. Expected a safetensors file.") from error
    found = header.get("format") if isinstance(header, dict) else None
    if found != kind:
        raise CheckpointError(f"{path} is not {what}: its format is {found!r}, expected {kind!r}.")
    return tensors, header


def load_head(path: Path) -> tuple[UncertaintyHead, dict[str, Any]]:
    """Read a head that :func:`save_head` wrote.

    Returns:
        The head in float32, in evaluation mode and frozen, and its metadata.

    Raises:
        CheckpointError: if the file is absent, not safetensors, or not a head.
    """
    tensors, header = load_tensors(path, HEAD_FORMAT, "head", "an uncertainty head")
    try:
        head = UncertaintyHead(header["dim"], header["hidden"])
        head.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The head {path} does not have the tensors that its header names: {error}") from error
    return head.eval().requires_grad_(False), header


@dataclass(frozen=True)
class AuthorsCheckpoint:
    """What a checkpoint of the paper's authors holds.

    Args:
        architecture: timm's name of the backbone.
        backbone: its tensors, the classifier's among them, under timm's names.
        head: the uncertainty head, frozen, in evaluation mode.
        facts: what else it says that is plain text or a number: epoch, metric, version, and the arguments it was
            trained with under "args".
    """

    architecture: str
    backbone: dict[str, torch.Tensor]
    head: UncertaintyHead
    facts: dict[str, Any]


def load_authors_checkpoint(path: Path) -> AuthorsCheckpoint:
    """Read a ``.pth.tar`` that the authors of arXiv 2402.16569 saved with timm's CheckpointSaver.

    Its ``state_dict`` holds the backbone under ``model.`` and the head under ``unc_module.unc_module.``, both perhaps
    behind ``module.``. PyTorch's restricted unpickler reads it: besides tensors it may hold the arguments, as an
    argparse.Namespace, and numpy's numbers, of which none runs code. Anything else is refused before it is built.

    Raises:
        CheckpointError: if the file is absent, damaged, holds other objects, or lacks backbone, head or architecture.
    """
    loaded = _load_pickle(path, _INERT, "a checkpoint of the paper's authors (.pth.tar)")
    tensors = loaded.get("state_dict") if isinstance(loaded, dict) else None
    architecture = loaded.get("arch") if isinstance(loaded, dict) else None
    if not _is_state_dict(tensors) or not isinstance(architecture, str):
        raise CheckpointError(
            f"{path} is not a checkpoint of the paper's authors: expected the entries state_dict and arch, found "
            f"{', '.join(map(str, loaded)) or 'none' if isinstance(loaded, dict) else type(loaded).__name__}."
        )
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    backbone = {name.removeprefix("model."): v for name, v in tensors.items() if name.startswith("model.")}
    layers = {name.removeprefix(_AUTHORS_HEAD): v for name, v in tensors.items() if name.startswith(_AUTHORS_HEAD)}
    facts = {name: loaded[name] for name in ("epoch", "metric", "version") if name in loaded}
    facts["args"] = vars(loaded["args"]) if isinstance(loaded.get("args"), argparse.Namespace) else {}
    if not backbone:
        raise CheckpointError(f"{path} holds no backbone: none of its {len(tensors)} tensors is named model.*")
    return AuthorsCheckpoint(architecture, backbone, _authors_head(path, layers), _plain_only(facts))


_AUTHORS_HEAD = "unc_module.unc_module."
_SCALAR = np.float64(0).__reduce__()[0]
# Globals that a checkpoint may name besides tensors. numpy's had another address before version 2.
_INERT: tuple[Any, ...] = (
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "bool")),
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
)


def _authors_head(path: Path, layers: dict[str, torch.Tensor]) -> UncertaintyHead:
    expected = {f"{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")}
    if set(layers) != expected:
        raise CheckpointError(
            f"{path} holds no uncertainty head: expected {_AUTHORS_HEAD}{{0,2,4}}.{{weight,bias}}, found "
            f"{', '.join(sorted(layers)) or 'none of them'}."
        )
    try:
        hidden, dim = layers["0.weight"].shape
        head = UncertaintyHead(dim, hidden)
        head.layers.load_state_dict({name: value.float() for name, value in layers.items()})
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"The uncertainty head in {path} is not the paper's: {reason}") from error
    return head.eval().requires_grad_(False)


def _plain_only(value: Any) -> Any:
    """The part of a value that JSON can hold."""
    if isinstance(value, dict):
        kept = {str(key): _plain_only(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain_only(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | int | float | bool) else None


def _is_state_dict(value: Any) -> TypeGuard[dict[str, torch.Tensor]]:
    return isinstance(value, dict) and bool(value) and all(isinstance(inner, torch.Tensor) for inner in value.values())


def save_backbone(backbone: Mapping[str, torch.Tensor], path: Path, *, metadata: Mapping[str, Any]) -> None:
    """Write a backbone's tensors as safetensors, to a temporary name first.

    Args:
        backbone: under timm's names.
        path: the file to write.
        metadata: JSON-able facts kept with them.
    """
    partial = path.with_name(path.name + ".partial")
    tensors = {name: value.detach().to("cpu").clone().contiguous() for name, value in backbone.items()}
    save_file(tensors, partial, metadata={"pvu": json.dumps(dict(metadata))})
    os.replace(partial, path)


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file or a PyTorch checkpoint, without unpickling arbitrary objects.

    Checkpoints that wrap their tensors in ``state_dict`` or ``model`` are unwrapped, and a leading ``module.`` or
    ``model.`` is taken off the names.

    Raises:
        CheckpointError: if the file is absent, cannot be read, or holds anything but tensors.
    """
    expected = "a safetensors file, or a PyTorch checkpoint that holds tensors alone"
    if path.is_file() and path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
        except (OSError, SafetensorError) as error:
            raise _unreadable(path, error, expected) from error
    loaded = _load_pickle(path, (), expected)
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not _is_state_dict(loaded):
        raise CheckpointError(f"{path} holds no dictionary of tensors, so it is not a model's weights.")
    for prefix in ("module.", "model."):
        if all(name.startswith(prefix) for name in loaded):
            loaded = {name.removeprefix(prefix): value for name, value in loaded.items()}
    return loaded


def _load_pickle(path: Path, allowed: Sequence[Any], expected: str) -> Any:
    """What ``torch.save`` wrote, with no objects built but tensors, plain containers and ``allowed``."""
    if not path.is_file():
        raise CheckpointError(f"There is no weights file at {path}.")
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        raise _unreadable(path, error, expected) from error


def _unreadable(path: Path, error: Exception, expected: str) -> CheckpointError:
    # torch's own first line advises to load the file without the restriction: say what it stumbled over instead.
    refused = re.search(r"GLOBAL (\S+)", str(error))
    damaged = re.search(r"WeightsUnpickler error: (.+)", str(error))
    if refused:
        reason = f"it asks for {refused[1]}, which no tensor needs and which might run code."
    else:
        reason = damaged[1] if damaged else (str(error) or type(error).__name__).splitlines()[0]
    return CheckpointError(f"Cannot read the weights in {path}: {reason} Expected {expected}.")
