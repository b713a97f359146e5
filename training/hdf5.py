"""Turn the representation caches of the paper's authors into one that training.pretrain reads.

    python -m training.hdf5 training/configs/vit_base_in21k.yaml --data FOLDER --out CACHE

Each source of the configuration names a file in FOLDER (``path: train.h5``, or ``name`` with .h5) that holds ``embed``
(N, D) float32 and ``label`` (N, 1) float32: the representations of augmented views, and the number of the class of each
in the backbone's classifier. The task loss, which the authors compute anew in every step, is computed once. Stopped at
any instant, the same command goes on. Which picture a row shows is not known, so there is cross-entropy alone, and one
picture's views may be on both sides of a ``held_out`` share: better give a second file, with ``held_out: 1``.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pvu.models import load_model
from training import shards, tasks
from training.cache import Encoder, Progress, sole_run
from training.cache_checks import check_classifier, check_logits, check_representations, classifier_of, weights_of
from training.command import one_sentence
from training.config import CacheConfig, load_config
from training.data import SourceConfig
from training.ranks import Ranks, launched
from training.shards import FACTS, CacheError, Shard

_SAMPLE = 1024  # rows at either end that are looked at before any work


@dataclass(frozen=True)
class Stored:
    """An open file of representations.

    Args:
        path: the file.
        embed: (N, D) float32, read where it is sliced.
        label: (N, 1) or (N,) float32, likewise.
    """

    path: Path
    embed: Any
    label: Any

    def __len__(self) -> int:
        return int(self.embed.shape[0])

    def read(self, start: int, stop: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Representations (n, D) float32 and classes (n,) int32 of some rows.

        Raises:
            CacheError: if a label is not the number of a class.
        """
        labels = np.asarray(self.label[start:stop], np.float64).reshape(-1)
        wrong = np.flatnonzero((labels != np.floor(labels)) | ~(labels >= 0) | (labels >= classes))
        if len(wrong):
            raise CacheError(
                f"The label of row {start + wrong[0]} of {self.path} is {labels[wrong[0]]:g}, expected a whole number "
                f"below {classes}, the classes of the classifier. Name the model that the file was made with."
            )
        return np.asarray(self.embed[start:stop], np.float32), labels.astype(np.int32)

    def fingerprint(self) -> str:
        """A hash of its size and of the rows at either end."""
        digest = hashlib.blake2b(repr(self.embed.shape).encode(), digest_size=16)
        for rows in (slice(0, _SAMPLE), slice(max(0, len(self) - _SAMPLE), None)):
            digest.update(np.ascontiguousarray(self.embed[rows]).tobytes())
            digest.update(np.ascontiguousarray(self.label[rows]).tobytes())
        return digest.hexdigest()


@contextmanager
def open_stored(data: Path, source: SourceConfig) -> Iterator[Stored]:
    """Open the file of a source.

    Raises:
        CacheError: if h5py is missing, there is no such file, or it holds something else.
    """
    try:
        import h5py
    except ImportError:
        raise CacheError("Reading HDF5 files needs h5py, which is not installed: pip install h5py") from None
    place = data / (source.path or source.name)
    path = next((p for p in (place, *(place.with_name(place.name + s) for s in (".h5", ".hdf5"))) if p.is_file()), None)
    if path is None:
        raise CacheError(f"There is no file {place}, nor with .h5 or .hdf5, for the source {source.name}.")
    if source.passes:
        raise CacheError(f"The source {source.name} has passes: {source.passes}, but its file holds its views: set 0.")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(path, "r"))
        except OSError as error:
            raise CacheError(f"{path} is no HDF5 file that can be read ({error}). Copy it again.") from error
        found = {name: tuple(getattr(file.get(name), "shape", ())) for name in file}  # get: a link may lead nowhere
        embed, label = found.get("embed", ()), found.get("label", ())
        if len(embed) != 2 or not embed[0] or label not in ((embed[0], 1), (embed[0],)):
            raise CacheError(f"{path} holds {found}, expected embed of shape (N, D) and label of shape (N, 1).")
        yield Stored(path, file["embed"], file["label"])


def convert(config: CacheConfig, model: Encoder, data: Path, out: Path, *, ranks: Ranks | None = None) -> int:
    """Fill a cache from files of representations, or go on with one.

    Args:
        config: its sources name the files; augmentation and seed are kept as what the files were made with.
        model: the backbone that made the representations, with its classifier.
        data: the folder that holds the files.
        out: the cache's folder; made if absent.
        ranks: this process among those that do it together; None: alone.

    Returns:
        How many shards were computed by this call.

    Raises:
        CacheError: if a file is not what it should be or of another model, or the folder holds another cache.
    """
    if config.statistics:
        raise CacheError("HDF5 files hold representations alone. Take statistics out of the configuration's cache.")
    ranks = ranks or Ranks()
    check_classifier(model)
    with ExitStack() as stack:
        stored = {source.name: stack.enter_context(open_stored(data, source)) for source in config.sources}
        for file in stored.values():
            _check_model(file, model)
        stack.enter_context(sole_run(out, ranks))
        if ranks.rank == 0:
            shards.open_cache(out, _identity(config, model, stored))
            for name, file in stored.items():
                shards.write_json(out / "images" / f"{name}.json", {"rows": len(file)})
        ranks.wait()
        todo = [shard for shard in shards.plan_of(config, stored) if not shards.is_whole(out, shard)]
        ranks.wait()  # all have looked before anything is written, so all agree on who does what
        mine = ranks.share(todo)
        progress = Progress(sum(shard.stop - shard.start for shard in mine))
        for shard in mine:
            shards.write_shard(out, shard, *_rows(stored[shard.source], shard, model))
            progress.step(shard)
        ranks.wait()
    return len(mine)


def _identity(config: CacheConfig, model: Encoder, stored: dict[str, Stored]) -> dict[str, Any]:
    return {
        "kind": "hdf5",
        **weights_of(model),
        "preprocessing": asdict(model.preprocessing),
        **shards.config_identity(config),
        "images": {name: [len(file), file.fingerprint()] for name, file in stored.items()},
    }


def _rows(file: Stored, shard: Shard, model: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """z (n, D) float32 and facts (n,) of a shard."""
    keys = [f"{shard.source}/{row}" for row in range(shard.start, shard.stop)]
    z, labels = file.read(shard.start, shard.stop, classifier_of(model).out_features)
    with np.errstate(over="ignore"):  # that is looked for
        check_representations(z.astype(np.float16), np.ones(len(z), bool), keys)
    scores = _logits(model, z)
    check_logits(z, scores.numpy())
    facts = np.zeros(len(z), FACTS)
    facts["image"] = np.arange(shard.start, shard.stop)
    facts["label"] = labels
    facts["cross_entropy"], facts["correct"] = tasks.cross_entropy(z, labels, lambda _: scores)
    facts["retrieval"] = facts["instance"] = facts["distance"] = facts["area"] = np.nan
    return z, facts


def _logits(model: Encoder, z: np.ndarray) -> torch.Tensor:
    device = next(classifier_of(model).parameters()).device
    return model.logits(torch.from_numpy(z).to(device)).cpu()


def _check_model(file: Stored, model: Encoder) -> None:
    """Make sure, before any work, that the representations are those of this backbone.

    Raises:
        CacheError: if their width is another, or the classifier does no better on them than by chance.
    """
    width, classes = classifier_of(model).in_features, classifier_of(model).out_features
    if file.embed.shape[1] != width:
        raise CacheError(
            f"{file.path} holds representations of {file.embed.shape[1]} numbers, but the model's have {width}. Name "
            "the model that it was made with."
        )
    ends = [file.read(0, _SAMPLE, classes), file.read(max(0, len(file) - _SAMPLE), len(file), classes)]
    z, labels = (np.concatenate(column) for column in zip(*ends, strict=True))
    right = int((_logits(model, z).argmax(1).numpy() == labels).sum())
    chance = len(z) / classes
    # Four standard deviations above the mean of guessing: below that nothing says that the two belong together.
    if right <= chance + 4 * chance**0.5:
        raise CacheError(
            f"The classifier is right on {right} of {len(z)} rows of {file.path}, and would be on {chance:.2g} by "
            "chance: they come from another backbone, or their labels are in another order than the classifier's."
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="training.hdf5", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="the YAML configuration")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the files")
    parser.add_argument("--out", type=Path, required=True, help="the cache's folder")
    arguments = parser.parse_args()
    with one_sentence(), launched() as ranks:
        config = load_config(arguments.config)
        model = load_model(config.model, device=ranks.device())
        convert(config.cache, model, arguments.data, arguments.out, ranks=ranks)


if __name__ == "__main__":
    main()
