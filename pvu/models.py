"""A model: a frozen backbone with its uncertainty head. load_model() makes one from the registry's entry."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from pvu.backbones import hash_weights, load_backbone, timm_preprocessing
from pvu.checkpoint import load_head
from pvu.errors import CheckpointError, ModelError
from pvu.fast import fast_forward, one_core_each
from pvu.head import UncertaintyHead
from pvu.hybrid import STATISTICS, has_stages
from pvu.images import Preprocessing, to_rgb
from pvu.reference import as_quantiles
from pvu.registry import ModelSpec, resolve

Precision = Literal["auto", "float32", "bfloat16"]


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
        self.precision = choose_precision(precision, self.device)
        # What forward_head(pre_logits=True) gives; in MobileNetV3, GhostNet, HGNet or VGG wider than num_features.
        self.dim: int = int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]
        # A head takes z, or z with the statistics of the stages before it: its width says which.
        self.head_dims = (self.dim, self.dim + STATISTICS) if has_stages(backbone) else (self.dim,)
        self.statistics = self.head is not None and self.head.dim == self.dim + STATISTICS
        self._forwards: dict[bool, Callable[[torch.Tensor], torch.Tensor]] = {
            self.statistics: fast_forward(self.backbone, self.precision, statistics=self.statistics)
        }
        if self.head is not None and self.head.dim not in self.head_dims:
            raise ModelError(
                f"The head {spec.head} takes {self.head.dim} numbers, but {spec.name} gives {self.dim}. "
                "Use the head that was trained for this backbone."
            )
        self.backbone_hash = hash_weights(self.backbone)
        self._require_own_head()
        self.fingerprint = fingerprint_of(spec.architecture, self.backbone_hash, self.head, preprocessing)

    @property
    def reference_quantiles(self) -> np.ndarray | None:
        """(101,) float64: u at the percentiles 0 to 100 of the pictures that the head was measured on; None if unknown.

        Those are whole pictures of its training's sources that it was not trained on.
        """
        return as_quantiles(self.head_metadata.get("reference_quantiles"))

    def _require_own_head(self) -> None:
        """A head knows by hash whose representations it was trained on. On other weights' its u would mean nothing."""
        trained_on = self.head_metadata.get("backbone_hash", self.backbone_hash)
        if self.head is not None and trained_on != self.backbone_hash:
            raise ModelError(
                f"The head {self.spec.head} was trained on other weights than those of {self.name}: their hash is "
                f"{trained_on}, expected {self.backbone_hash}. Use the head that was trained for these weights, or "
                "fit one (the page Train, or python -m pvu fit)."
            )

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
        features = self.features(torch.from_numpy(pixels), statistics=self.statistics)
        z = features[:, : self.dim].cpu().numpy()
        if self.head is None:
            return z, None
        with torch.inference_mode():
            u = self.head(features)
        return z, u.cpu().numpy()

    def encode_stream(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """As :meth:`encode`, for one array after the other, in order; on a CPU with an array on every core at a time.

        Args:
            batches: arrays as :meth:`encode` takes them, at best of ``batch_size`` images; asked for a few ahead.
        """
        if self.device.type != "cpu":
            yield from map(self.encode, batches)
            return
        pending: deque[Future[tuple[np.ndarray, np.ndarray | None]]] = deque()
        for batch in batches:
            pending.append(one_core_each().submit(self.encode, batch))
            if len(pending) > torch.get_num_threads() + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    @property
    def batch_size(self) -> int:
        """How many images at a time are fastest: on a CPU few, so that what is computed stays in the cache."""
        return 16 if self.device.type == "cpu" else 256

    def represent(self, pixels: torch.Tensor) -> torch.Tensor:
        """Representations on the model's device.

        Args:
            pixels: (B, size, size, 3) uint8, already through ``preprocessing``.

        Returns:
            (B, D) float32, not L2-normalised.
        """
        return self.features(pixels, statistics=False)

    def features(self, pixels: torch.Tensor, *, statistics: bool) -> torch.Tensor:
        """What a head takes, on the model's device.

        Args:
            pixels: (B, size, size, 3) uint8, already through ``preprocessing``.
            statistics: whether the trunk's :func:`pvu.hybrid.stage_statistics` stand behind z.

        Returns:
            (B, D) float32, the representations, or (B, D + STATISTICS) with z in front.

        Raises:
            ModelError: if the backbone has no such statistics.
        """
        if statistics and not has_stages(self.backbone):
            raise ModelError(
                f"{self.name} does not stand on EfficientNet-Lite0, so there are no statistics of its stages."
            )
        if statistics not in self._forwards:
            self._forwards[statistics] = fast_forward(self.backbone, self.precision, statistics=statistics)
        forward = self._forwards[statistics]

        def compute(batch: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                return forward(self.normalised(batch)).float()

        batches = torch.split(pixels, self.batch_size)
        if self.device.type == "cpu" and len(batches) > 1:
            return torch.cat(list(one_core_each().map(compute, batches)))
        return torch.cat([compute(batch) for batch in batches])

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """The backbone's input (B, 3, size, size) float32 from pixels (B, size, size, 3) uint8."""
        mean = torch.tensor(self.preprocessing.mean, device=self.device) * 255
        scale = 1 / (torch.tensor(self.preprocessing.std, device=self.device) * 255)
        batch = pixels.to(self.device, non_blocking=True)
        # (B, H, W, C) viewed as (B, C, H, W) is channels_last already: no copy.
        return ((batch.float() - mean) * scale).permute(0, 3, 1, 2)

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
        pixels = [self.preprocessing.apply(to_rgb(ImageOps.exif_transpose(image))) for image in images]
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
        name: see :func:`pvu.registry.resolve`.
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
    backbone = load_backbone(spec)
    preprocessing = spec.preprocessing or timm_preprocessing(backbone)
    loaded_head, metadata = load_head(spec.head) if spec.head is not None and spec.head.is_file() else (None, {})
    if head is not None and loaded_head is None:
        raise CheckpointError(f"There is no head at {head}.")
    return Model(spec, backbone, loaded_head, preprocessing, precision=precision, device=device, head_metadata=metadata)


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """What a device should compute in: "auto" takes bfloat16 where the hardware has it.

    Raises:
        ValueError: if it is none of the three.
    """
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


def fingerprint_of(
    architecture: str, backbone_hash: str, head: UncertaintyHead | None, preprocessing: Preprocessing
) -> str:
    """What the results depend on: architecture, weights, preprocessing, head. 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([architecture, asdict(preprocessing)], sort_keys=True).encode())
    for part in (backbone_hash, hash_weights(head) if head is not None else "none"):
        digest.update(part.encode())
    return digest.hexdigest()
