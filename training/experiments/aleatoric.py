"""Is u aleatoric (the image is ambiguous) or epistemic (the model does not know it)? Held against other uncertainties.

    python -m training.experiments.aleatoric training/configs/efficientnet_lite0_paper.yaml \
        training/configs/efficientnet_lite0.yaml --cache CACHE --data DATA --work WORK --out aleatoric.json

u of each configuration, the pretrained classifier's entropy, an ensemble and MC dropout of classifiers that never saw a
quarter of Tiny-ImageNet's labels, and the distance to the nearest training pictures, on four questions:

    degraded     do they rise with blur, noise, crop, ...? (Spearman correlation with strength)
    unfamiliar   do they tell labels and domains that were not trained on? (AUROC; .5: no; the paper has .449 for u)
    retrieval    do they tell wrong nearest neighbours from right ones? (R-AUROC)
    agreement    do they order images alike? (Spearman correlation between them, mean of the sets)

Each of several replicates has its own head, ensemble and dropout, from its own seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr
from torch import nn

from pvu.head import UncertaintyHead
from pvu.metrics import auroc
from pvu.models import Model, load_model
from training.cached import CachedViews
from training.command import one_sentence
from training.config import Config, load_config
from training.data import imagenet_classes
from training.degradations import LEVELS, degraded_views
from training.evaluate import SETS
from training.evaluation.sets import find_set
from training.experiments import estimators
from training.experiments.estimators import ClassifierConfig
from training.experiments.summary import Estimate, markdown_table, over_images, over_seeds
from training.experiments.workbench import (
    Answers,
    Workbench,
    answers_of,
    encoded_set,
    one_cache,
    open_workbench,
    trained_head,
)
from training.pretrain import predict
from training.shards import write_json

UPSTREAM, UPSTREAM_VALIDATION = "tiny_imagenet_train", "tiny_imagenet_val"
PHOTOGRAPHS = ("imagenet_photos", "imagenette_photos")
SWEPT = ("cub_dev", "flowers17")
MEMBERS = 5
Scores = dict[str, np.ndarray]  # by estimator: (N,), higher where less certain


@dataclass(frozen=True)
class Split:
    """What the classifiers know, and what they were kept from.

    Args:
        unseen: (U,) int, ImageNet-1k classes that no classifier and no bank saw.
        z: (T, D) float16, the classifiers' training views.
        labels: (T,) int, theirs, from 0.
        bank: (B, D) float16, whole training pictures with a true label that is not left out.
        photographs: (P, D) float16, held-out whole photographs: upstream, but not trained on.
    """

    unseen: np.ndarray
    z: np.ndarray
    labels: np.ndarray
    bank: np.ndarray
    photographs: np.ndarray


def split_labels(views: CachedViews, names: Sequence[str]) -> Split:
    """Leave every fourth label of Tiny-ImageNet out.

    Raises:
        ValueError: if the cache lacks one of the sources.
    """
    missing = [name for name in (UPSTREAM, *PHOTOGRAPHS) if name not in names]
    if missing:
        raise ValueError(f"The cache has no {', '.join(missing)}; this experiment needs them as sources.")
    labels, tiny = views.facts["label"], views.source == names.index(UPSTREAM)
    unseen = np.unique(labels[tiny])[3::4]
    known = ~np.isin(labels, unseen) & views.known & np.isfinite(views.facts["cross_entropy"])
    rows = np.flatnonzero(tiny & known)
    whole = views.pass_index == 0
    photographs = np.isin(views.source, [names.index(name) for name in PHOTOGRAPHS]) & whole
    return Split(
        unseen=unseen,
        z=views.z[rows],
        labels=np.unique(labels[rows], return_inverse=True)[1],
        bank=views.z[known & whole & ~views.held_out],
        photographs=views.z[photographs & views.held_out],
    )


@dataclass(frozen=True)
class Replicate:
    """Every estimator with one set of seeds.

    Args:
        model: the frozen backbone's classifier, for the class entropy.
        heads: by configuration.
        members: of the ensemble; the first serves MC dropout.
        bank: (B, D) float, of the distance.
        seed: of the dropped units.
    """

    model: Model
    heads: dict[str, UncertaintyHead]
    members: list[nn.Sequential]
    bank: np.ndarray
    seed: int

    def scores(self, z: np.ndarray) -> Scores:
        """Every uncertainty of representations (N, D) float32."""
        probabilities = torch.softmax(self.model.logits(torch.from_numpy(z).to(self.model.device)), 1).cpu()
        ensemble = estimators.ensemble_probabilities(self.members, z)
        dropout = estimators.dropout_probabilities(self.members[0], z, seed=self.seed)
        return {
            **{f"u, {name}": predict(head, z) for name, head in self.heads.items()},
            "class entropy": estimators.entropy(probabilities).numpy(),
            "ensemble, expected entropy": estimators.expected_entropy(ensemble),
            "ensemble, mutual information": estimators.mutual_information(ensemble),
            "MC dropout, mutual information": estimators.mutual_information(dropout),
            "k-NN distance": estimators.knn_distance(z, self.bank),
        }


def make_replicate(bench: Workbench, configs: dict[str, Config], model: Model, split: Split, seed: int) -> Replicate:
    """Train the heads and the ensemble of one replicate."""
    heads = {
        name: trained_head(bench, replace(config.train, seed=seed), f"{name}-{config.train.loss}")
        for name, config in configs.items()
    }
    print(f"ensemble {seed}", flush=True)
    seeds = range(MEMBERS * seed, MEMBERS * (seed + 1))
    members = [estimators.train_classifier(split.z, split.labels, ClassifierConfig(), s) for s in seeds]
    return Replicate(model, heads, members, split.bank.astype(np.float32), seed)


def summarise(
    replicates: Sequence[Scores], statistic: Callable[[np.ndarray, np.ndarray], float], images: int, *, repeats: int
) -> dict[str, Any]:
    """One number of every estimator.

    Args:
        replicates: scores of the images, of each replicate.
        statistic: from scores (N,) and rows (n,) int with repeats to the number.
        images: how many rows there are.
        repeats: of the bootstrap over images.

    Returns:
        By estimator: each replicate's value, the mean with its interval over seeds, and the same mean with an interval
        over images.
    """
    result = {}
    for name in replicates[0]:
        arrays = [scores[name] for scores in replicates]
        values = [statistic(array, np.arange(images)) for array in arrays]
        mean = _mean_statistic(statistic, arrays)
        result[name] = {
            "values": values,
            "over_seeds": over_seeds(values).as_dict(),
            "over_images": over_images(mean, images, repeats=repeats).as_dict(),
        }
    return result


def _mean_statistic(
    statistic: Callable[[np.ndarray, np.ndarray], float], arrays: Sequence[np.ndarray]
) -> Callable[[np.ndarray], float]:
    return lambda rows: float(np.mean([statistic(array, rows) for array in arrays]))


def degraded(replicates: Sequence[Replicate], data: Path, name: str, *, images: int, repeats: int) -> dict[str, Any]:
    """By degradation and estimator: Spearman correlation with strength, pooled over images."""
    model = replicates[0].model
    paths = find_set(data, name).files
    result = {}
    for kind, views in degraded_views(model.preprocessing, paths, images=images):
        print(f"{name}, {kind}", flush=True)
        z = model.represent(torch.from_numpy(views)).cpu().numpy()
        scores = [replicate.scores(z) for replicate in replicates]
        result[kind] = summarise(scores, with_strength, len(views) // len(LEVELS), repeats=repeats)
    return result


def with_strength(scores: np.ndarray, rows: np.ndarray) -> float:
    """Spearman correlation of scores (images x levels,) and strength over the images in ``rows``."""
    picked = scores.reshape(-1, len(LEVELS))[rows]
    return float(spearmanr(picked.ravel(), np.tile(LEVELS, len(rows))).statistic)


def unfamiliar(scores: dict[str, list[Scores]], unseen: np.ndarray, *, repeats: int) -> dict[str, Any]:
    """By comparison and estimator: AUROC of the uncertainty for being unfamiliar.

    Args:
        scores: by set (and "photographs", held-out upstream ones) of each replicate.
        unseen: (N,) bool, which images of Tiny-ImageNet validation have a label that was left out.
        repeats: of the bootstrap over images.
    """
    tiny = scores[UPSTREAM_VALIDATION]
    known = [_rows(one, ~unseen) for one in tiny]
    pairs = {"unseen labels / known labels": (known, [_rows(one, unseen) for one in tiny])}
    pairs |= {f"{name} / known labels": (known, scores[name]) for name in SETS if name != UPSTREAM_VALIDATION}
    pairs |= {f"{name} / photographs": (scores["photographs"], scores[name]) for name in SWEPT}
    result = {}
    for title, (inside, outside) in pairs.items():
        joined = [{n: np.concatenate([a[n], b[n]]) for n in a} for a, b in zip(inside, outside, strict=True)]
        count = len(next(iter(inside[0].values())))
        is_outside = np.arange(len(next(iter(joined[0].values())))) >= count
        result[title] = summarise(joined, _auroc_of(is_outside), len(is_outside), repeats=repeats)
    return result


def _rows(scores: Scores, keep: np.ndarray) -> Scores:
    return {name: values[keep] for name, values in scores.items()}


def _auroc_of(positive: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda scores, rows: auroc(positive[rows], scores[rows])


def retrieval(scores: dict[str, list[Scores]], sets: dict[str, Answers], *, repeats: int) -> dict[str, Any]:
    """By set and estimator: R-AUROC, that is the AUROC of the uncertainty for a wrong nearest neighbour."""
    return {
        name: summarise(scores[name], _auroc_of(~found.correct), len(found.correct), repeats=repeats)
        for name, found in sets.items()
    }


def agreement(scores: dict[str, list[Scores]]) -> dict[str, dict[str, float]]:
    """Spearman correlation of every two estimators over the images of a set, mean over sets and replicates."""
    matrices, names = [], list(scores[SETS[0]][0])
    for name in SETS:
        for one in scores[name]:
            matrices.append(np.corrcoef([rankdata(one[n]) for n in names]))
    mean = np.mean(matrices, axis=0)
    return {a: {b: float(mean[i, j]) for j, b in enumerate(names)} for i, a in enumerate(names)}


def run(
    configs: dict[str, Config], cache: Path, data: Path, work: Path, *, replicates: int, images: int, repeats: int
) -> dict[str, Any]:
    """All four questions.

    Args:
        configs: recipes of one model and one cache.
        cache: that cache.
        data: the folder that holds the sets.
        work: where heads and encoded sets are kept.
        replicates: how many, at least 2.
        images: degraded, of each set.
        repeats: of every bootstrap.
    """
    config = one_cache(configs)
    bench = open_workbench(config, cache, work)
    split = split_labels(bench.views, [source.name for source in config.cache.sources])
    model = load_model(config.model)
    sets = {name: answers_of(encoded_set(model, data, name, work)) for name in SETS}
    made = [make_replicate(bench, configs, model, split, seed) for seed in range(1, replicates + 1)]
    scores = {name: [one.scores(found.encoded.z) for one in made] for name, found in sets.items()}
    scores["photographs"] = [one.scores(split.photographs.astype(np.float32)) for one in made]
    tiny = sets[UPSTREAM_VALIDATION].encoded
    classes = imagenet_classes()
    unseen = np.isin([classes[label] for label in tiny.labels], split.unseen)
    return {
        "counts": {
            "left-out labels": len(split.unseen),
            "training views": len(split.z),
            "bank": len(split.bank),
            "photographs": len(split.photographs),
        },
        "degraded": {name: degraded(made, data, name, images=images, repeats=repeats) for name in SWEPT},
        "unfamiliar": unfamiliar(scores, unseen, repeats=repeats),
        "retrieval": retrieval(scores, sets, repeats=repeats),
        "agreement": agreement(scores),
    }


def markdown(results: dict[str, Any]) -> str:
    """A table for each question; every number is the mean of the replicates, its interval is over images."""
    parts = []
    for set_name, by_kind in results["degraded"].items():
        parts.append(f"Spearman correlation with strength, {set_name}:\n\n{_table(by_kind)}")
    parts.append(f"AUROC for being unfamiliar:\n\n{_table(results['unfamiliar'])}")
    parts.append(f"R-AUROC:\n\n{_table(results['retrieval'])}")
    names = list(results["agreement"])
    rows = [[name, *results["agreement"][name].values()] for name in names]
    parts.append(f"Spearman correlation between them:\n\n{markdown_table(['', *names], rows)}")
    return "\n\n".join(parts)


def _table(by_column: dict[str, Any]) -> str:
    columns = list(by_column)
    rows = [
        [name, *(Estimate(**by_column[column][name]["over_images"]) for column in columns)]
        for name in by_column[columns[0]]
    ]
    return markdown_table(["uncertainty", *columns], rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="training.experiments.aleatoric", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("configs", type=Path, nargs="+", help="YAML configurations of one model and one cache")
    parser.add_argument("--cache", type=Path, required=True, help="the folder that training.cache made")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sets")
    parser.add_argument("--work", type=Path, required=True, help="where trained heads and encoded sets are kept")
    parser.add_argument("--out", type=Path, required=True, help="where the numbers go, as JSON")
    parser.add_argument("--replicates", type=int, default=5, help="how many, each with its own seeds")
    parser.add_argument("--images", type=int, default=60, help="photographs of each set that are degraded")
    parser.add_argument("--repeats", type=int, default=200, help="of the bootstrap over images")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with one_sentence():
        results = run(
            {path.stem: load_config(path) for path in arguments.configs},
            arguments.cache,
            arguments.data,
            arguments.work,
            replicates=arguments.replicates,
            images=arguments.images,
            repeats=arguments.repeats,
        )
        write_json(arguments.out, results)
    print(markdown(results))


if __name__ == "__main__":
    main()
