"""A fitted head from candidate to use: kept apart until somebody decides, then where the registry finds it.

A candidate is a folder PVU_HOME/fits/STORE with head.safetensors, card.md and uncertainty.npy. Using it puts the head
and its card at :func:`pvu.registry.own_head_path`, and makes a store of the same embeddings, neighbours and map with
the new uncertainties, for which no image is encoded again.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pvu import __version__
from pvu.backbones import hash_weights, load_backbone, timm_preprocessing
from pvu.bootstrap import Estimate
from pvu.catalog import MANIFEST, commit, partial_path, read_manifest, recover
from pvu.checkpoint import HEAD_FORMAT, load_head, load_tensors, save_head
from pvu.errors import CheckpointError, FitError, ModelError, StoreError
from pvu.fitting import FitConfig, Fitted, fit_head, why_not_fit
from pvu.head import UncertaintyHead, predict
from pvu.head_card import write_card
from pvu.images import Preprocessing
from pvu.models import fingerprint_of
from pvu.paths import home
from pvu.pipeline import store_path, writing
from pvu.progress import Progress, ProgressCallback
from pvu.registry import REGISTRY, own_head_path, resolve
from pvu.shards import atomic_write
from pvu.store import EmbeddedDataset

_SAME = ("embeddings.npy", "neighbors.npz", "umap.npy", "clusters.npy", "thumbs.bin")
"""Files that a store has in common with that of another head."""


@dataclass(frozen=True)
class Backbone:
    """What a head has to know of the model it is for.

    Args:
        name: the registry's.
        architecture: timm's name.
        hash: of the weights.
        preprocessing: from pictures to its input.
    """

    name: str
    architecture: str
    hash: str
    preprocessing: Preprocessing

    def fingerprint(self, head: UncertaintyHead | None) -> str:
        """The fingerprint of stores made with this head."""
        return fingerprint_of(self.architecture, self.hash, head, self.preprocessing)


@dataclass(frozen=True)
class Candidate:
    """A head that waits for a decision.

    Args:
        folder: where it lies.
        facts: what its file says: backbone, training data, config, measured numbers.
    """

    folder: Path
    facts: dict[str, Any]

    @property
    def head(self) -> Path:
        """The safetensors file."""
        return self.folder / "head.safetensors"

    @property
    def card(self) -> Path:
        """The model card, Markdown."""
        return self.folder / "card.md"

    @cached_property
    def scores(self) -> dict[str, Estimate]:
        """R-AUROC by keys of ``pvu.fitting.NAMES``."""
        return scores_of(self.facts)


@dataclass
class _Maker:
    name: str
    fingerprint: str
    dim: int


def scores_of(facts: dict[str, Any]) -> dict[str, Estimate]:
    """The R-AUROCs that a fitted head's file says, by keys of ``pvu.fitting.NAMES``; empty for other heads."""
    return {name: Estimate(*numbers) for name, numbers in facts.get("r_auroc", {}).items()}


def backbone_of(dataset: EmbeddedDataset) -> Backbone:
    """The backbone that made a store, loaded to see that it is still the same.

    Raises:
        ModelError: if its weights cannot be had.
        StoreError: if it has other weights or preprocessing now.
    """
    spec = resolve(dataset.manifest["model"])
    module = load_backbone(spec)
    backbone = Backbone(
        spec.name, spec.architecture, hash_weights(module), spec.preprocessing or timm_preprocessing(module)
    )
    if not any(backbone.fingerprint(head) == dataset.manifest["fingerprint"] for head in _heads(spec.name)):
        raise StoreError(
            f"The weights of {spec.name} have changed since {dataset.name} was embedded, so a head fitted on it would "
            f"not be theirs. Embed it again: python -m pvu embed {dataset.source} --model '{spec.name}'"
        )
    return backbone


def _heads(name: str) -> list[UncertaintyHead | None]:
    """Every head that a store of a model may have been made with: none, its own now and before, the bundled one."""
    bundled = REGISTRY[name].head if name in REGISTRY else None
    own = own_head_path(name)
    before = [path for path in own.parent.glob("*") if path.name.startswith(f"{own.name}.bak")]
    heads: list[UncertaintyHead | None] = [None]
    for path in filter(None, (bundled, own, *before)):
        with suppress(CheckpointError):  # a head that cannot be read has made no store that is open
            heads.append(load_head(path)[0])
    return heads


def fit_job(arguments: dict[str, Any], progress: ProgressCallback, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """What a job of the kind "fit" does: fit a head on a store and keep it as its candidate.

    Args:
        arguments: store, its path; seed, an int; name and model, for whoever watches.
        progress: gets a Progress often.
        should_stop: asked every ten steps.

    Returns:
        ``candidate``, the path of its folder.

    Raises:
        FitError: if no head can be fitted.
        StoreError: if there is no such store, or it is of other weights.
    """
    dataset = EmbeddedDataset(Path(arguments["store"]))
    config = FitConfig(seed=int(arguments["seed"]))
    return {"candidate": str(fit_candidate(dataset, config, progress=progress, should_stop=should_stop).folder)}


def fit_candidate(
    dataset: EmbeddedDataset,
    config: FitConfig | None = None,
    *,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Candidate:
    """As :func:`pvu.fitting.fit_head`, and keep what came out until somebody decides. Replaces an earlier candidate."""
    report = progress or (lambda _: None)
    reason = why_not_fit(dataset)
    if reason is not None:
        raise FitError(reason)
    report(Progress("model"))
    backbone = backbone_of(dataset)
    fitted = fit_head(dataset, config, progress=report, should_stop=should_stop)
    report(Progress("save"))
    return keep_candidate(dataset, backbone, fitted)


def candidate_folder(dataset: EmbeddedDataset) -> Path:
    """Where the candidate of a store lies, if there is one."""
    return home() / "fits" / dataset.path.name


def keep_candidate(dataset: EmbeddedDataset, backbone: Backbone, fitted: Fitted) -> Candidate:
    """Write a head, its card and the uncertainties to the store's candidate folder."""
    folder = candidate_folder(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    facts = _facts(dataset, backbone, fitted)
    atomic_write(folder / "uncertainty.npy", lambda file: np.save(file, fitted.uncertainty))
    atomic_write(folder / "card.md", lambda file: file.write(write_card(facts).encode()))
    save_head(fitted.head, folder / "head.safetensors", metadata=facts, dtype=torch.float32)
    return Candidate(folder, load_head(folder / "head.safetensors")[1])


def _facts(dataset: EmbeddedDataset, backbone: Backbone, fitted: Fitted) -> dict[str, Any]:
    return {
        "backbone": backbone.name,
        "backbone_hash": backbone.hash,
        "preprocessing": asdict(backbone.preprocessing),
        "fitted_on": dataset.name,
        "store": dataset.version,
        "images": fitted.images,
        "labels": fitted.labels,
        "config": asdict(fitted.config),
        "command": f"python -m pvu fit {dataset.name} --model '{backbone.name}' --seed {fitted.config.seed}",
        "r_auroc": {name: [score.value, score.low, score.high] for name, score in fitted.scores.items()},
        "recall_at_1": fitted.recall_at_1,
        "probe_accuracy": fitted.accuracy,
        "spread": fitted.spread,
        "seconds": fitted.seconds,
        "curve": list(fitted.curve),
        "reference_quantiles": [float(value) for value in fitted.quantiles],
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "pvu": __version__,
    }


def candidate_of(dataset: EmbeddedDataset) -> Candidate | None:
    """The head that was fitted on this store as it is now and waits for a decision; None if there is none."""
    folder = candidate_folder(dataset)
    with suppress(CheckpointError):
        facts = load_tensors(folder / "head.safetensors", HEAD_FORMAT, "head", "an uncertainty head")[1]
        if facts.get("store") == dataset.version and (folder / "uncertainty.npy").is_file():
            return Candidate(folder, facts)
    return None


def own_head_facts(dataset: EmbeddedDataset) -> dict[str, Any] | None:
    """What the head says of itself that was fitted here and that a store was made with; None if it was not."""
    head = dataset.manifest.get("fitted_head")
    return head if isinstance(head, dict) else None


def discard(candidate: Candidate) -> None:
    """Forget a candidate."""
    shutil.rmtree(candidate.folder, ignore_errors=True)


def head_to_apply(dataset: EmbeddedDataset) -> dict[str, Any] | None:
    """What the model's own head says of itself, if a store was made by the same backbone without it; else None."""
    with suppress(
        CheckpointError, ModelError, KeyError, TypeError
    ):  # no such head or model, or one that says too little
        head, facts = load_head(own_head_path(dataset.manifest["model"]))
        backbone, found = _backbone(facts), dataset.manifest["fingerprint"]
        fits = head.dim == dataset.embeddings.shape[1] and found != backbone.fingerprint(head)
        if fits and any(found == backbone.fingerprint(before) for before in _heads(backbone.name)):
            return facts
    return None


def apply_head(dataset: EmbeddedDataset) -> EmbeddedDataset:
    """Give another data set of the same backbone the uncertainties of the model's own head, without encoding an image.

    Args:
        dataset: for which :func:`head_to_apply` is not None.

    Returns:
        The new store.

    Raises:
        CheckpointError: if the head is gone.
        StoreError: if the new store cannot be written.
    """
    head, facts = load_head(own_head_path(dataset.manifest["model"]))
    backbone = _backbone(facts)
    there = _store_with(dataset, backbone, head)
    if facts.get("store") == dataset.version and (there / MANIFEST).is_file():
        return EmbeddedDataset(there)  # what it was fitted on: the numbers of heads that have not seen the images
    return _with_head(dataset, backbone, head, facts, predict(head, dataset.embeddings))


def _backbone(facts: dict[str, Any]) -> Backbone:
    """The backbone that a head's file names."""
    how: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in facts["preprocessing"].items()
    }
    architecture = resolve(facts["backbone"]).architecture
    return Backbone(facts["backbone"], architecture, facts["backbone_hash"], Preprocessing(**how))


def use(dataset: EmbeddedDataset, candidate: Candidate) -> EmbeddedDataset:
    """Make a candidate the head of its model, and make the store that belongs to it.

    An own head that is there already is kept as NAME.safetensors.bak, .bak1, ...; so is its card.

    Args:
        dataset: that it was fitted on.
        candidate: from :func:`candidate_of`.

    Returns:
        The new store: the same images with the head's uncertainties.

    Raises:
        CheckpointError: if the candidate is gone.
        StoreError: if the new store cannot be written, or the set has been embedded again since it was opened.
    """
    _require_unchanged(dataset)
    head, facts = load_head(candidate.head)
    uncertainty = np.load(candidate.folder / "uncertainty.npy")
    backbone = _backbone(facts)
    target = own_head_path(backbone.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    for source, place in ((candidate.card, target.with_suffix(".md")), (candidate.head, target)):
        _set_aside(place)
        atomic_write(place, lambda file, source=source: file.write(source.read_bytes()))  # type: ignore[misc]
    made = _with_head(dataset, backbone, head, facts, uncertainty)
    discard(candidate)
    return made


def _set_aside(path: Path) -> None:
    """Rename a file that is there to NAME.bak, or .bak1 and so on where that is taken."""
    if not path.exists():
        return
    number = 0
    while (kept := path.with_name(f"{path.name}.bak{number or ''}")).exists():
        number += 1
    os.replace(path, kept)


def _with_head(
    dataset: EmbeddedDataset, backbone: Backbone, head: UncertaintyHead, facts: dict[str, Any], uncertainty: np.ndarray
) -> EmbeddedDataset:
    """A store of the same embeddings, neighbours and map, with other uncertainties (N,) float32."""
    path = _store_with(dataset, backbone, head)
    with writing(path):
        recover(path)
        building = partial_path(path)
        building.mkdir(parents=True, exist_ok=True)
        for name in _SAME:
            if (dataset.path / name).exists():
                _link(dataset.path / name, building / name)
        table = pd.read_parquet(dataset.path / "images.parquet")
        _require_unchanged(dataset)  # after the links were made: they are of what is open, not of a later run
        table.loc[table["status"] == "ok", "uncertainty"] = uncertainty.astype(np.float32)
        images = pa.Table.from_pandas(table, preserve_index=False)
        atomic_write(building / "images.parquet", lambda file: pq.write_table(images, file))
        manifest = {name: value for name, value in dataset.manifest.items() if name != "fitted_head"} | {
            "fingerprint": backbone.fingerprint(head),
            "has_head": True,
            "reference_quantiles": facts.get("reference_quantiles"),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        }
        if "r_auroc" in facts:  # else it was not fitted here
            manifest["fitted_head"] = facts
        atomic_write(building / MANIFEST, lambda file: file.write(json.dumps(manifest, indent=1).encode()))
        commit(path)
    return EmbeddedDataset(path)


def _require_unchanged(dataset: EmbeddedDataset) -> None:
    """Raises StoreError if a run has replaced the store since it was opened: its rows may be others."""
    if read_manifest(dataset.path) != dataset.manifest:
        raise StoreError(f"{dataset.name} has been embedded again meanwhile. Open it again, and fit a head anew.")


def _store_with(dataset: EmbeddedDataset, backbone: Backbone, head: UncertaintyHead) -> Path:
    """Where the store of the same images with another head lies."""
    dim = int(dataset.embeddings.shape[1])
    return store_path(dataset.source, _Maker(backbone.name, backbone.fingerprint(head), dim))


def _link(source: Path, target: Path) -> None:
    """A hard link, since no file of a store is ever changed in place; a copy where the disk has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
