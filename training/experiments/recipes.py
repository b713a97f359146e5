"""Which recipe transfers? Each is trained without a kind of images, and judged on that kind.

    python -m training.experiments.recipes training/configs/efficientnet_lite0.yaml --cache CACHE --out recipes.json

The rule by which the shipped recipe was chosen: the mean of three R-AUROCs, of whole pictures of a kind that the head
was not trained on. Nothing downstream is read. The three folds:

    small      Tiny-ImageNet validation; trained on the photographs
    photos     Imagenette, 3,000 photographs, against a gallery of 10 a label (with all of them only 78 answers would be
               wrong), mean of 5 galleries; trained on Tiny-ImageNet and the unlabelled photographs
    guessed    the unlabelled photographs, the classifier's guess as the label; trained on the others
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pvu.metrics import auroc
from pvu.neighbors import nearest_neighbors, normalized
from training import validation
from training.cached import CachedViews, load_views
from training.command import one_sentence
from training.config import Config, TrainConfig, load_config
from training.pretrain import predict, train_head
from training.shards import write_json

GALLERY = 10  # pictures a label
GALLERIES = 5
_MIXED = {"retrieval": 3.0, "instance": 1.0}
RECIPES: dict[str, dict[str, object]] = {
    "3 retrieval + instance": {"task_losses": _MIXED},
    "retrieval": {"task_losses": {"retrieval": 1.0}},
    "all four": {"task_losses": {"cross_entropy": 1.0, "retrieval": 1.0, "instance": 1.0, "distance": 1.0}},
    "cross_entropy": {"task_losses": {"cross_entropy": 1.0}},
    "3 retrieval + instance, no dropout": {"task_losses": _MIXED, "dropout": 0.0},
    "cross_entropy, pairs across, no dropout (the paper's)": {
        "task_losses": {"cross_entropy": 1.0},
        "pairs": "across",
        "dropout": 0.0,
    },
    "instance": {"task_losses": {"instance": 1.0}},
}


@dataclass(frozen=True)
class Fold:
    """One kind of images that a head is judged on without having been trained on it.

    Args:
        name: of the fold.
        left_out: names of the sources that are not trained on.
        queries: rows of the cache and whether each answer is right, one pair a gallery.
    """

    name: str
    left_out: tuple[str, ...]
    queries: list[tuple[np.ndarray, np.ndarray]]

    def r_auroc(self, u: np.ndarray) -> float:
        """R-AUROC, the mean over galleries, from u of every view of the cache."""
        return float(np.mean([auroc(correct, -u[rows]) for rows, correct in self.queries]))


def make_folds(views: CachedViews, names: list[str]) -> list[Fold]:
    """The three folds of the rule, from a cache whose sources have these names."""
    index = {name: row for row, name in enumerate(names)}
    tiny, unlabelled = ("tiny_imagenet_train", "tiny_imagenet_val"), "unlabelled_photos"
    return [
        Fold("small", tiny, [_all_others(views, index["tiny_imagenet_val"])]),
        Fold("photos", ("imagenet_photos", "imagenette_photos"), _small_galleries(views, index["imagenette_photos"])),
        Fold("guessed", (unlabelled,), [_all_others(views, index[unlabelled])]),
    ]


def _all_others(views: CachedViews, source: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.flatnonzero((views.source == source) & (views.pass_index == 0))
    labels = views.facts["label"][rows]
    neighbors, _ = nearest_neighbors(views.z[rows], 1)
    return rows, labels[neighbors[:, 0]] == labels


def _small_galleries(views: CachedViews, source: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rows = np.flatnonzero((views.source == source) & (views.pass_index == 0))
    labels, vectors = views.facts["label"][rows], normalized(views.z[rows])
    found = []
    for seed in range(GALLERIES):
        rng = np.random.default_rng(seed)
        drawn = [rng.choice(np.flatnonzero(labels == label), GALLERY, replace=False) for label in np.unique(labels)]
        gallery = np.concatenate(drawn)
        queries = np.setdiff1d(np.arange(len(rows)), gallery)
        nearest = (vectors[queries] @ vectors[gallery].T).argmax(axis=1)
        found.append((rows[queries], labels[gallery][nearest] == labels[queries]))
    return found


def judge(views: CachedViews, config: Config, train: TrainConfig, folds: list[Fold]) -> dict[str, float]:
    """Train one head a fold: the R-AUROC of each, and their mean, the rule."""
    names = [source.name for source in config.cache.sources]
    checks = validation.prepare(views, names)
    numbers = {}
    for fold in folds:
        weights = np.array([0.0 if s.name in fold.left_out else s.weight for s in config.cache.sources])
        # The last epoch: the best one would be chosen on images of the kind that is left out.
        head = train_head(views, train, weights, checks).last
        numbers[fold.name] = fold.r_auroc(predict(head, views.z))
    return numbers | {"rule": float(np.mean(list(numbers.values())))}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="training.experiments.recipes", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("config", type=Path, help="the YAML configuration")
    parser.add_argument("--cache", type=Path, required=True, help="the folder that training.cache made")
    parser.add_argument("--out", type=Path, required=True, help="where the numbers go, as JSON")
    arguments = parser.parse_args()
    with one_sentence():
        config = load_config(arguments.config)
        views = load_views(arguments.cache, config.cache)
        folds = make_folds(views, [source.name for source in config.cache.sources])
        results = {}
        for name, changes in RECIPES.items():
            results[name] = judge(views, config, replace(config.train, **changes), folds)  # type: ignore[arg-type]
            write_json(arguments.out, results)
            print(name, " ".join(f"{key} {value:.3f}" for key, value in results[name].items()), flush=True)


if __name__ == "__main__":
    main()
