"""The configuration of a cache and of a training run: frozen dataclasses, read from one YAML file."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pvu.models import Precision
from training.augment import Augmentation
from training.data import SourceConfig

T = TypeVar("T")
TASK_LOSSES = ("cross_entropy", "retrieval", "instance", "distance")
DERIVED_LOSSES = ("crops",)  # not in the cache: training.cached computes them from what is


@dataclass(frozen=True)
class CacheConfig:
    """What the cache holds. See :mod:`training.cache`.

    Args:
        sources: the folders of images.
        augmentation: of every view but the whole picture.
        seed: of the augmentation.
        shard: views a shard. 1,024 are about ten seconds of work on two cores: what a kill can lose.
        temperature: of the instance and retrieval task losses. 0.05 is usual for contrastive losses on a cosine.
        statistics: whether the head is to take the statistics of the trunk's stages beside z
            (:func:`pvu.hybrid.stage_statistics`: EfficientNet-Lite0 and what stands on it). Task losses see z alone.
    """

    sources: tuple[SourceConfig, ...]
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    shard: int = 1024
    temperature: float = 0.05
    statistics: bool = False

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"sources must be named, each once; got {names}.")
        if self.shard < 1 or self.temperature <= 0:
            raise ValueError(f"shard and temperature must be positive, got {self.shard} and {self.temperature}.")


@dataclass(frozen=True)
class TrainConfig:
    """How the head is trained. The paper's values unless a reason is given (arXiv 2402.16569, appendix).

    Args:
        head: "mlp", the paper's, trained step by step, or "linear", in closed form (:mod:`training.linear`), for which
            only task_losses, pairs, degraded, whole, standardize and ridge matter.
        loss: "ranking" (the paper's) or "l2" (its baseline).
        task_losses: weight of each task loss of the cache in the target; within a source each is replaced by its rank
            in [0, 1] first when there are several, as their scales have nothing in common.
        margin: of the ranking loss.
        pairs: what the views of a pair have in common: "across" nothing, "within" the source, "alike" the source and
            whether they are whole pictures or augmented views, so that u need not rank any crop above any picture.
        best: the epoch that is kept: "auroc" as in the paper, of -u for the classifier being right, or "r_auroc", the
            mean over sources of -u for the nearest picture having the label, which is nearer to what u is used for.
        epochs: how often the head is validated, and the best kept.
        epoch_views: training views an epoch; 0 takes as many as the cache has.
        batch: views a step.
        base_lr: at batch 256; scaled with the square root of batch / 256.
        warmup_lr: where the warm-up starts.
        warmup: share of the steps, inside the cosine. The paper's 25 of 460 "epochs".
        betas: of AdamW.
        weight_decay: none on biases.
        hidden: width of the head.
        degraded: whether degraded views are trained on; False leaves the paper's augmentation.
        whole: whether whole pictures are trained on besides augmented views; False leaves the paper's.
        standardize: train on z with zero mean and unit variance a channel, folded into the first layer afterwards, so
            that the head that is saved takes plain z.
        dropout: share of the channels of (standardised) z that are zeroed for each view in training. A head that leans
            on few channels does not transfer, and here few images are seen often. Not in the paper (13 million images).
        ema: decay a step of the running average of the weights that is validated and saved; 0 takes the last weights.
        window: draw from this many views at a time, in turn, so that a cache that is larger than memory is read from
            disk once a pass and not at random; 0 draws from all.
        precision: of the matrix products: "float32", "bfloat16", or "auto", bfloat16 where the CPU computes in it: 1.8
            times as fast at D = 768. What it does to the head: RESULTS.md, "What the cache is worth".
        ridge: of a linear head: what is added to the channels' variances, relative to their mean.
        seed: of initialisation and of the draws.
    """

    head: str = "mlp"
    loss: str = "ranking"
    task_losses: dict[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    margin: float = 0.1
    pairs: str = "across"
    best: str = "auroc"
    epochs: int = 20
    epoch_views: int = 0
    batch: int = 2048
    base_lr: float = 1e-3
    warmup_lr: float = 1e-4
    warmup: float = 25 / 460
    betas: tuple[float, float] = (0.8, 0.95)
    weight_decay: float = 1e-4
    hidden: int = 512
    degraded: bool = True
    whole: bool = True
    standardize: bool = False
    dropout: float = 0.0
    ema: float = 0.0
    window: int = 0
    precision: Precision = "auto"
    ridge: float = 0.5
    seed: int = 1

    def __post_init__(self) -> None:
        if self.head not in ("mlp", "linear") or self.ridge <= 0:
            raise ValueError(f'head must be "mlp" or "linear" and ridge positive, got {self.head!r} and {self.ridge}.')
        if self.loss not in ("ranking", "l2"):
            raise ValueError(f'loss must be "ranking" or "l2", got {self.loss!r}.')
        if self.pairs not in ("across", "within", "alike"):
            raise ValueError(f'pairs must be "across", "within" or "alike", got {self.pairs!r}.')
        if self.best not in ("auroc", "r_auroc"):
            raise ValueError(f'best must be "auroc" or "r_auroc", got {self.best!r}.')
        known = (*TASK_LOSSES, *DERIVED_LOSSES)
        if not set(self.task_losses) <= set(known) or not self.task_losses or min(self.task_losses.values()) <= 0:
            raise ValueError(f"task_losses must weight some of {known} above zero, got {self.task_losses}.")
        if self.batch < 2 or self.batch % 2:
            raise ValueError(f"batch must be even, since the ranking loss compares pairs; got {self.batch}.")
        if self.precision not in typing.get_args(Precision):
            raise ValueError(f"precision must be one of {typing.get_args(Precision)}, got {self.precision!r}.")
        if self.epoch_views < 0 or (self.window != 0 and self.window < self.batch):
            raise ValueError(
                f"epoch_views must not be negative, and window 0 or at least a batch; got {self.epoch_views} and "
                f"{self.window}."
            )
        if self.epochs < 1 or not all(0 <= share < 1 for share in (self.warmup, self.dropout, self.ema)):
            raise ValueError(f"Need epochs >= 1, and warmup, dropout and ema in [0, 1); got {self}.")


@dataclass(frozen=True)
class Config:
    """Everything that a head depends on.

    Args:
        model: a name of pvu's registry.
        cache: what is computed once.
        train: what is done with it.
        needs: the data that it takes, for a person who has none of it yet.
    """

    model: str
    cache: CacheConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    needs: str = ""


def load_config(path: Path) -> Config:
    """Read a configuration.

    Raises:
        ValueError: naming the key, if one is unknown or missing, or a value is out of its range.
    """
    return read_config(Config, path, see="training/configs/", holds="model, cache and train")


def read_config(kind: type[T], path: Path, *, see: str, holds: str) -> T:
    """A dataclass from a YAML file.

    Args:
        kind: the dataclass.
        path: the file.
        see: where there are examples, for people.
        holds: what such a file holds, for people.

    Raises:
        ValueError: if there is no such file, or as :func:`build`.
    """
    if not path.is_file():
        raise ValueError(f"There is no configuration at {path}. See {see}.")
    values = yaml.safe_load(path.read_text())
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a mapping with {holds}.")
    return build(kind, values, str(path))


def build(kind: type[T], values: dict[str, Any], where: str) -> T:
    """A dataclass from a mapping, nested dataclasses and tuples included.

    Raises:
        ValueError: naming the key, if one is unknown or missing.
    """
    hints = typing.get_type_hints(kind)
    unknown = set(values) - set(hints)
    if unknown:
        raise ValueError(f"{where}: there is no {', '.join(sorted(unknown))}; there are {', '.join(hints)}.")
    converted = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return kind(**converted)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(typing.cast("type[Any]", hint), value, where)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, item, f"{where}[{index}]") for index, item in enumerate(value))
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        return float(value)  # YAML reads 1e-4 as a string
    return value
