"""Make a model of this machine's registry out of a checkpoint of the paper's authors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from pvu.backbones import hash_weights, load_backbone
from pvu.checkpoint import AuthorsCheckpoint, load_authors_checkpoint, save_backbone, save_head
from pvu.errors import CheckpointError
from pvu.paths import home
from pvu.registry import own_head_path, resolve


@dataclass(frozen=True)
class ImportedModel:
    """A model that was imported.

    Args:
        name: what ``load_model`` and ``--model`` take.
        weights: the backbone's file.
        head: the uncertainty head's.
    """

    name: str
    weights: Path
    head: Path


def import_checkpoint(path: Path) -> ImportedModel:
    """Write the backbone and the head of an authors' ``.pth.tar`` under PVU_HOME, where the registry finds them.

    Importing a file again gives the same model. Nothing is kept of a checkpoint that cannot be used.

    Args:
        path: the checkpoint, see :func:`pvu.checkpoint.load_authors_checkpoint`.

    Raises:
        CheckpointError: if it is no such checkpoint, or its head is not its backbone's.
        ModelError: if timm does not know the architecture, or the weights are not of it.
    """
    checkpoint = load_authors_checkpoint(path)
    stem = path.name.removesuffix(".tar").removesuffix(".pth")
    weights = home() / "weights" / f"{stem}-{_digest(checkpoint)}.safetensors"
    spec = resolve(f"{checkpoint.architecture}@{weights}")
    weights.parent.mkdir(parents=True, exist_ok=True)
    origin = {"source": path.name, **checkpoint.facts}
    save_backbone(checkpoint.backbone, weights, metadata={"backbone": checkpoint.architecture, **origin})
    try:
        backbone = load_backbone(spec)
        if backbone.num_features != checkpoint.head.dim:
            raise CheckpointError(
                f"The head in {path} takes {checkpoint.head.dim} numbers, but {checkpoint.architecture} gives "
                f"{backbone.num_features}: they do not belong together."
            )
    except Exception:
        weights.unlink()
        raise
    head = own_head_path(spec.name)
    head.parent.mkdir(parents=True, exist_ok=True)
    facts = {"backbone": checkpoint.architecture, "backbone_hash": hash_weights(backbone), **origin}
    save_head(checkpoint.head, head, metadata=facts, dtype=torch.float32)
    return ImportedModel(spec.name, weights, head)


def _digest(checkpoint: AuthorsCheckpoint) -> str:
    """Eight hexadecimal digits of the content: timm calls every best checkpoint model_best.pth.tar."""
    digest = hashlib.blake2b(checkpoint.architecture.encode(), digest_size=4)
    for tensors in (checkpoint.backbone, checkpoint.head.state_dict()):
        for name, value in tensors.items():
            digest.update(name.encode())
            digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
