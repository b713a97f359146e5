"""Representations of a set's images, kept on disk so that another head of the same backbone is quick.

Kept under FOLDER as SET-KIND-KEY.npz, where the key is a hash of the backbone, its preprocessing and precision, and of
the images' paths, sizes and times: whatever else is there is never taken for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pvu.backbones import hash_weights
from pvu.decoding import decode_all
from pvu.head import UncertaintyHead
from pvu.models import Model
from training.degradations import degraded_views
from training.evaluation.crops import crop_like_url
from training.evaluation.sets import ImageSet

KINDS = ("whole", "crop")
FORMAT = 1  # to be raised when views of the same images come out differently, so that none of the old are used
_BLOCK = 8192
_CHUNK = 64  # images at a time: several batches for a CPU, one core each; 10 MB of pixels at 224


def backbone_fingerprint(model: Model) -> str:
    """What representations depend on: the backbone's weights, preprocessing, precision. 32 hexadecimal digits."""
    facts = [hash_weights(model.backbone), asdict(model.preprocessing), str(model.precision)]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def encode_set(
    model: Model,
    images: ImageSet,
    kinds: Sequence[str] = ("whole",),
    *,
    statistics: bool = False,
    kept: Path | None = None,
    workers: int = 1,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Representations of a set's images, read from disk where they are kept.

    Args:
        model: with a frozen backbone.
        images: the set.
        kinds: of KINDS: "whole" pictures, and each image's seeded "crop" (see :mod:`training.evaluation.crops`).
        statistics: whether the statistics of the trunk's stages stand behind z, for heads that take them.
        kept: where representations are kept; None keeps none.
        workers: decoding processes beside the model; 0 decodes in this one.

    Returns:
        z: by kind, (N, D) or (N, D + S) float32; rows of images that could not be decoded mean nothing.
        decoded: (N,) bool.
    """
    files = {kind: _file(model, images, kind + "-wide" * statistics, kept) for kind in kinds}
    found = {kind: arrays for kind in kinds if "z" in (arrays := _load(files[kind]))}
    missing = [kind for kind in kinds if kind not in found]
    if missing:
        z, decoded = _encode(model, images, missing, workers, statistics)
        for kind in missing:
            found[kind] = {"z": z[kind], "decoded": decoded}
            _save(files[kind], found[kind])
    return {kind: found[kind]["z"] for kind in kinds}, found[kinds[0]]["decoded"]


def encode_degraded(
    model: Model, images: ImageSet, *, statistics: bool = False, kept: Path | None = None
) -> dict[str, np.ndarray]:
    """Representations of :func:`training.degradations.degraded_views` by kind of degradation, as in encode_set."""
    file = _file(model, images, "degraded" + "-wide" * statistics, kept)
    found = _load(file)
    if not found:
        views = degraded_views(model.preprocessing, images.files)
        found = {kind: _represent(model, pixels, statistics) for kind, pixels in views}
        _save(file, found)
    return found


def _represent(model: Model, pixels: np.ndarray, statistics: bool) -> np.ndarray:
    batch = torch.from_numpy(pixels)
    return (model.features(batch, statistics=True) if statistics else model.represent(batch)).cpu().numpy()


def head_output(head: UncertaintyHead, z: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
    """u (N,) float32 of representations (N, D), with more behind them that the head may take or not."""
    with torch.inference_mode():
        parts = [
            head(torch.from_numpy(z[start : start + _BLOCK, : head.dim]).to(device).float())
            for start in range(0, len(z), _BLOCK)
        ]
    return torch.cat(parts).cpu().numpy()


def _file(model: Model, images: ImageSet, kind: str, kept: Path | None) -> Path | None:
    """The file that keeps these representations; None where nothing is kept."""
    if kept is None:
        return None
    facts = json.dumps([FORMAT, backbone_fingerprint(model), images.identity])
    key = hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
    return kept / f"{images.name.replace('/', '_')}-{kind}-{key}.npz"


def _load(file: Path | None) -> dict[str, np.ndarray]:
    """The arrays of a file; none where there is no file, or a damaged one: it is computed again and replaced."""
    if file is None or not file.is_file():
        return {}
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}


def _save(file: Path | None, arrays: dict[str, np.ndarray]) -> None:
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **arrays)
    os.replace(partial, file)


def _encode(
    model: Model, images: ImageSet, kinds: Sequence[str], workers: int, statistics: bool
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    decoded: list[bool] = []
    nothing = np.zeros((model.preprocessing.size, model.preprocessing.size, 3), np.uint8)
    with tqdm(total=len(images), unit="image", desc=images.name, mininterval=2, delay=2) as bar:
        for outcomes in decode_all(images.files, model.preprocessing, workers=workers, chunk=_CHUNK):
            paths = images.paths[len(decoded) : len(decoded) + len(outcomes)]
            pixels = [nothing if isinstance(outcome, str) else outcome.pixels for outcome in outcomes]
            decoded += [not isinstance(outcome, str) for outcome in outcomes]
            for kind in kinds:
                views = pixels if kind == "whole" else list(map(crop_like_url, pixels, paths))
                parts[kind].append(_represent(model, np.stack(views), statistics))
            bar.update(len(outcomes))
    return {kind: np.concatenate(parts[kind]) for kind in kinds}, np.array(decoded)
