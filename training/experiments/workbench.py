"""What the experiments on one cache share: trained heads and encoded sets, kept in a work folder and made once.

Everything kept carries an identity of what it was made from; a file with another identity is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from pvu.checkpoint import load_head, save_head
from pvu.head import UncertaintyHead
from pvu.metrics import auroc, correct_at_1
from pvu.models import Model
from pvu.neighbors import nearest_neighbors
from training import validation
from training.cached import CachedViews, load_views
from training.config import Config, TrainConfig
from training.evaluation.encoding import encode_set
from training.evaluation.sets import find_set
from training.pretrain import predict, train_head


@dataclass(frozen=True)
class Workbench:
    """A cache, ready to train heads on.

    Args:
        views: the cache.
        checks: what every head is validated on.
        weights: (S,) float, of the sources.
        work: the folder of what is kept.
    """

    views: CachedViews
    checks: validation.Validation
    weights: np.ndarray
    work: Path


@dataclass(frozen=True)
class EncodedSet:
    """A labelled set as the backbone sees it.

    Args:
        z: (N, D) float32 representations.
        labels: (N,) str.
    """

    z: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Answers:
    """A labelled set and whether each image's nearest other image has its label.

    Args:
        encoded: the set.
        correct: (N,) bool.
    """

    encoded: EncodedSet
    correct: np.ndarray

    def r_auroc(self, u: np.ndarray) -> float:
        """R-AUROC of uncertainties (N,)."""
        return auroc(self.correct, -u)

    def resampled(self, u: np.ndarray) -> Callable[[np.ndarray], float]:
        """R-AUROC of u (N,) as a function of rows, for :func:`training.experiments.summary.over_images`."""
        return lambda rows: auroc(self.correct[rows], -u[rows])


def answers_of(encoded: EncodedSet) -> Answers:
    """Look every image's nearest other image up."""
    neighbors, _ = nearest_neighbors(encoded.z, 1)
    return Answers(encoded, correct_at_1(neighbors, encoded.labels)[0])


def one_cache(configs: dict[str, Config]) -> Config:
    """The first configuration, if all have its model and cache.

    Raises:
        ValueError: naming those that differ.
    """
    first = next(iter(configs.values()))
    differing = [name for name, other in configs.items() if (other.model, other.cache) != (first.model, first.cache)]
    if differing:
        raise ValueError(f"{', '.join(differing)} and {next(iter(configs))} must have the same model and cache.")
    return first


def open_workbench(config: Config, cache: Path, work: Path) -> Workbench:
    """Read a cache and prepare the validation.

    Raises:
        CacheError: if the cache is missing, unfinished, or another one than the configuration's.
    """
    views = load_views(cache, config.cache)
    names = [source.name for source in config.cache.sources]
    weights = np.array([source.weight for source in config.cache.sources])
    work.mkdir(parents=True, exist_ok=True)
    return Workbench(views, validation.prepare(views, names), weights, work)


def head_path(bench: Workbench, train: TrainConfig, name: str) -> Path:
    """The file in which :func:`trained_head` keeps a head."""
    return bench.work / f"{name}-seed{train.seed}.head.safetensors"


def trained_head(bench: Workbench, train: TrainConfig, name: str) -> UncertaintyHead:
    """The best epoch's head of a recipe, from the work folder if it was trained before with the same settings.

    Args:
        bench: the cache and the folder.
        train: the recipe, its seed included.
        name: of the recipe, for the file.

    Raises:
        TrainingError: if training fails; nothing is kept then.
    """
    path = head_path(bench, train, name)
    identity = _digest([asdict(train), bench.views.manifest, bench.weights.tolist()])
    if path.is_file():
        head, header = load_head(path)
        if header.get("identity") == identity:
            return head
    print(f"{name}, seed {train.seed}", flush=True)
    head = train_head(bench.views, train, bench.weights, bench.checks).head
    save_head(head, path, metadata={"identity": identity}, dtype=torch.float32)
    return head


def encoded_set(model: Model, data: Path, name: str, work: Path, *, workers: int = 1) -> EncodedSet:
    """Representations and labels of a set, from the work folder if the same images were encoded by the same backbone.

    Raises:
        SourceError: if the set is missing, empty or without labels.
    """
    images = find_set(data, name)
    z, decoded = encode_set(model, images, kept=work / "encodings", workers=workers)
    return EncodedSet(z["whole"][decoded], images.labels[decoded].astype(str))


def uncertainty(head: UncertaintyHead, encoded: EncodedSet) -> np.ndarray:
    """u (N,) float32 of an encoded set."""
    return predict(head, encoded.z)


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
