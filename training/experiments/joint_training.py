"""A small ViT that learns to classify while a head on its representation learns its losses. Resumable, seeded.

Used by :mod:`training.experiments.gradient_conflict`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F

from pvu.errors import PVUError
from pvu.head import UncertaintyHead
from pvu.images import open_rgb, read_bytes
from pvu.losses import l2_loss
from pvu.metrics import auroc
from training.data import SourceConfig, list_images


class ConflictError(PVUError):
    """The images or a checkpoint do not fit the experiment."""


@dataclass(frozen=True)
class ViTConfig:
    """The ViT and its training: as small as shows the effect on one CPU core in minutes.

    Args:
        classes: the first so many wnids.
        size: input side, pixels; training takes random crops of it, validation the centre.
        patch: side of a patch; 14 gives 16 tokens, four times as fast as the 49 of 8.
        width: of the tokens.
        depth: blocks.
        epochs: passes over the images.
        batch: images a step.
        lr: peak of AdamW's learning rate; linear warm-up over a tenth of the steps, then cosine to zero.
        weight_decay: on everything, as usual for a ViT from scratch.
        hidden: width of the head, the paper's.
    """

    classes: int = 50
    size: int = 56
    patch: int = 14
    width: int = 128
    depth: int = 4
    epochs: int = 25
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    hidden: int = 512


@dataclass(frozen=True)
class Method:
    """How the head's loss is added to the classifier's.

    Args:
        name: for tables and checkpoints.
        weight: lambda, of the uncertainty's loss.
        stop: whether its gradient ends before the backbone.
    """

    name: str
    weight: float
    stop: bool


@dataclass(frozen=True)
class Pictures:
    """Images in memory: pixels (N, S, S, 3) uint8 and labels (N,) int64 from 0."""

    pixels: torch.Tensor
    labels: torch.Tensor


def load_pictures(data: Path, source: str, classes: int) -> Pictures:
    """The images of the first ``classes`` labels of a source, all of one size.

    Raises:
        SourceError: if the source is missing or empty.
        ConflictError: if it has fewer labels, or images of several sizes.
    """
    images = list_images(data, SourceConfig(source, passes=0))
    names = sorted({image.label for image in images})
    if len(names) < classes:
        raise ConflictError(f"Found {len(names)} labels in {data / source}, expected {classes}. Lower --classes.")
    index = {label: row for row, label in enumerate(names[:classes])}
    kept = [image for image in images if image.label in index]
    pixels = [np.asarray(open_rgb(read_bytes(image.path))[0]) for image in kept]
    if len({picture.shape for picture in pixels}) > 1:
        raise ConflictError(f"The images of {data / source} have several sizes; Tiny-ImageNet's are all 64 x 64.")
    labels = torch.tensor([index[image.label] for image in kept])
    return Pictures(torch.from_numpy(np.stack(pixels)), labels)


class ViTWithHead(torch.nn.Module):
    """A trainable ViT classifier and an uncertainty head on its representation (the CLS token after the norm).

    Args:
        config: widths and depth.
        stop: whether the head's gradient ends before the backbone.
    """

    def __init__(self, config: ViTConfig, *, stop: bool) -> None:
        super().__init__()
        self.stop = stop
        self.backbone = VisionTransformer(
            img_size=config.size,
            patch_size=config.patch,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=max(1, config.width // 32),
            num_classes=config.classes,
        )
        self.head = UncertaintyHead(config.width, config.hidden)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, classes) and uncertainties (B,) of images (B, 3, size, size) float32."""
        z = self.backbone.forward_head(self.backbone.forward_features(images), pre_logits=True)
        logits = self.backbone.get_classifier()(z)
        # UncertaintyHead itself always stops the gradient; the layers alone let it through.
        u = self.head(z) if self.stop else F.softplus(self.head.layers(z)).squeeze(1) + 1e-6
        return logits, u


def losses(model: ViTWithHead, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy, and mean squared error of u as a prediction of each image's own: two scalars."""
    logits, u = model(images)
    task_loss = F.cross_entropy(logits, labels, reduction="none")
    return task_loss.mean(), l2_loss(u, task_loss)


def gradient_cosine(model: ViTWithHead, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Cosine of the two losses' gradients in the backbone, on one batch: below zero they pull against each other.

    With the stop-gradient it is that of the gradient that is stopped.
    """
    stop, model.stop = model.stop, False
    shared = [p for name, p in model.backbone.named_parameters() if not name.startswith("head.")]
    flat = []
    for loss in losses(model, images, labels):
        gradients = torch.autograd.grad(loss, shared, retain_graph=True)
        flat.append(torch.cat([gradient.flatten() for gradient in gradients]))
    model.stop = stop
    return float(F.cosine_similarity(flat[0], flat[1], dim=0))


def crops(pixels: torch.Tensor, size: int, generator: torch.Generator | None) -> torch.Tensor:
    """Crops of (B, S, S, 3) uint8 pixels: random and half of them mirrored, or the centre without a generator.

    Returns:
        (B, 3, size, size) float32, about zero mean and unit variance.
    """
    count, side = len(pixels), pixels.shape[1]
    if generator is None:
        top = left = torch.full((count,), (side - size) // 2)
        mirrored = torch.zeros(count, dtype=torch.bool)
    else:
        top, left = torch.randint(side - size + 1, (2, count), generator=generator)
        mirrored = torch.rand(count, generator=generator) < 0.5
    along = torch.arange(size)
    across = torch.where(mirrored[:, None], along.flip(0), along) + left[:, None]
    rows = (along + top[:, None])[:, :, None]
    picked = pixels[torch.arange(count)[:, None, None], rows, across[:, None, :]]
    return (picked.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.26


def measure(model: ViTWithHead, pictures: Pictures, size: int) -> dict[str, float]:
    """Accuracy, AUROC of -u for being right, and mean cross-entropy on images that were not trained on."""
    model.eval()
    logits, uncertainties = [], []
    with torch.inference_mode():
        for pixels in torch.split(pictures.pixels, 256):
            scores, u = model(crops(pixels, size, None))
            logits.append(scores)
            uncertainties.append(u)
    scores = torch.cat(logits)
    correct = (scores.argmax(1) == pictures.labels).numpy()
    return {
        "accuracy": float(correct.mean()),
        "auroc": auroc(correct, -torch.cat(uncertainties).numpy()),
        "cross_entropy": float(F.cross_entropy(scores, pictures.labels)),
    }


def batches(
    pictures: Pictures, config: ViTConfig, seed: int, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch's batches; they depend on seed and epoch alone, so that a resumed run sees the same."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
    order = torch.randperm(len(pictures.labels), generator=generator)
    for rows in torch.split(order, config.batch):
        yield crops(pictures.pixels[rows], config.size, generator), pictures.labels[rows]


def train(
    config: ViTConfig, method: Method, seed: int, pictures: Pictures, validation: Pictures, checkpoint: Path
) -> list[dict[str, float]]:
    """Train one ViT, or go on with it.

    Args:
        config: the ViT and its training.
        method: with the stop-gradient or without.
        seed: of the weights and the batches; every method of a seed starts from the same weights.
        pictures: trained on.
        validation: measured on after every epoch.
        checkpoint: the file that is written after every epoch, and read first where it exists.

    Returns:
        Numbers of each epoch: those of :func:`measure`, and the training losses and gradient cosine.

    Raises:
        ConflictError: if the checkpoint belongs to another configuration.
    """
    torch.manual_seed(seed)
    model = ViTWithHead(config, stop=method.stop)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    identity = json.dumps([asdict(config), method.name, seed, len(pictures.labels)], sort_keys=True)
    history = _resume(checkpoint, identity, model, optimizer)
    steps = math.ceil(len(pictures.labels) / config.batch)
    for epoch in range(len(history), config.epochs):
        model.train()
        total = torch.zeros(2)
        for step, (images, labels) in enumerate(batches(pictures, config, seed, epoch), start=epoch * steps):
            for group in optimizer.param_groups:
                group["lr"] = config.lr * schedule(step / (config.epochs * steps))
            if step == epoch * steps:
                cosine = gradient_cosine(model, images, labels)
            classification, uncertainty = losses(model, images, labels)
            optimizer.zero_grad(set_to_none=True)
            (classification + method.weight * uncertainty).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += torch.stack([classification.detach(), uncertainty.detach()])
        trained = {"train_cross_entropy": float(total[0] / steps), "train_l2": float(total[1] / steps)}
        history.append(measure(model, validation, config.size) | trained | {"gradient_cosine": cosine})
        _save(checkpoint, identity, model, optimizer, history)
        print(method.name, seed, epoch + 1, {name: round(value, 4) for name, value in history[-1].items()}, flush=True)
    return history


def schedule(progress: float, warmup: float = 0.1) -> float:
    """Share of the peak learning rate at ``progress`` 0 to 1: linear warm-up, cosine to zero."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _save(
    path: Path, identity: str, model: torch.nn.Module, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]
) -> None:
    partial = path.with_suffix(".partial")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"identity": identity, "history": history}, partial)
    os.replace(partial, path)


def _resume(
    path: Path, identity: str, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    state = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        raise ConflictError(f"{path} was made with other settings or images. Choose another --work, or delete it.")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return list(state["history"])
