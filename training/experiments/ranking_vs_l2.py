"""Ranking against L2 on one cache: which loss gives the head that transfers, and which needs the task loss's scale?

    python -m training.experiments.ranking_vs_l2 training/configs/efficientnet_lite0_paper.yaml \
        --cache CACHE --data DATA --work WORK --out ranking_vs_l2.json

Heads of one recipe that differ in the loss alone, with several seeds, on four labelled sets that none was trained on.
Then the task losses are multiplied by 100: the ranking loss sees only which of two is larger (arXiv 2402.16569,
section 3: "scale-free"), so its head must not change at all. WORK keeps what was trained and encoded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from pvu.backbones import hash_weights
from pvu.head import UncertaintyHead
from pvu.metrics import auroc
from pvu.models import load_model
from training.command import one_sentence
from training.config import TASK_LOSSES, TrainConfig, load_config
from training.evaluate import SETS
from training.experiments.summary import markdown_table, over_images, over_seeds
from training.experiments.workbench import (
    Answers,
    Workbench,
    answers_of,
    encoded_set,
    open_workbench,
    trained_head,
    uncertainty,
)
from training.pretrain import TrainingError
from training.shards import write_json

LOSSES = ("ranking", "l2")
SCALE = 100.0


def compare(
    bench: Workbench,
    train: TrainConfig,
    name: str,
    seeds: Sequence[int],
    sets: dict[str, Answers],
    *,
    repeats: int = 200,
) -> dict[str, Any]:
    """Heads of both losses with every seed.

    Args:
        bench: the cache.
        train: the recipe; its loss and seed are replaced.
        name: of the recipe.
        seeds: at least two.
        sets: what the heads are judged on, by name.
        repeats: of the bootstrap over images.

    Returns:
        By set, and for their mean: R-AUROC of each seed and loss; ``over_seeds``: the mean of each loss and of the
        difference ranking - L2 of one seed, with intervals; ``over_images``: the difference of the two losses' mean
        R-AUROC over seeds, with an interval over images (not for the mean of the sets).
    """
    heads = {loss: _heads(bench, replace(train, loss=loss), name, seeds) for loss in LOSSES}
    us = {
        loss: {n: [uncertainty(head, found.encoded) for head in heads[loss]] for n, found in sets.items()}
        for loss in LOSSES
    }
    values = {loss: {n: [found.r_auroc(u) for u in us[loss][n]] for n, found in sets.items()} for loss in LOSSES}
    results: dict[str, Any] = {}
    for set_name, found in sets.items():
        results[set_name] = _paired({loss: values[loss][set_name] for loss in LOSSES})
        results[set_name]["over_images"] = _image_interval(found.correct, us, set_name, repeats)
    means = {loss: np.mean([values[loss][n] for n in sets], axis=0).tolist() for loss in LOSSES}
    results["mean"] = _paired(means)
    return results


def _heads(bench: Workbench, train: TrainConfig, name: str, seeds: Sequence[int]) -> list[UncertaintyHead]:
    return [trained_head(bench, replace(train, seed=seed), f"{name}-{train.loss}") for seed in seeds]


def _paired(values: dict[str, list[float]]) -> dict[str, Any]:
    difference = [a - b for a, b in zip(values["ranking"], values["l2"], strict=True)]
    return {
        "r_auroc": values,
        "over_seeds": {name: over_seeds(v).as_dict() for name, v in (values | {"difference": difference}).items()},
    }


def _image_interval(
    correct: np.ndarray, us: dict[str, dict[str, list[np.ndarray]]], name: str, repeats: int
) -> dict[str, float]:
    def difference(rows: np.ndarray) -> float:
        means = [np.mean([auroc(correct[rows], -u[rows]) for u in us[loss][name]]) for loss in LOSSES]
        return float(means[0] - means[1])

    return over_images(difference, len(correct), repeats=repeats).as_dict()


def rescale(bench: Workbench, factor: float) -> Workbench:
    """The same cache with every task loss multiplied, as if it had been measured in another unit."""
    facts = bench.views.facts.copy()
    for name in TASK_LOSSES:
        facts[name] *= factor
    manifest = bench.views.manifest | {"task losses times": factor}
    return replace(bench, views=replace(bench.views, facts=facts, manifest=manifest))


def compare_scales(
    bench: Workbench, train: TrainConfig, name: str, seeds: Sequence[int], sets: dict[str, Answers]
) -> dict[str, Any]:
    """Each loss on task losses as they are, and on SCALE times them.

    Returns:
        By loss, one entry a seed: ``same_head``, whether all weights are equal bit for bit; by set, the Spearman
        correlation of the two heads' u and the R-AUROC of both; or ``error``, where training on the scaled losses
        fails.
    """
    scaled = rescale(bench, SCALE)
    results: dict[str, Any] = {}
    for loss in LOSSES:
        results[loss] = []
        for seed in seeds:
            recipe = replace(train, loss=loss, seed=seed)
            plain = trained_head(bench, recipe, f"{name}-{loss}")
            try:
                other = trained_head(scaled, recipe, f"{name}-{loss}-scaled")
            except TrainingError as error:
                results[loss].append({"seed": seed, "error": str(error)})
                continue
            results[loss].append({"seed": seed} | _differences(plain, other, sets))
    return results


def _differences(plain: UncertaintyHead, other: UncertaintyHead, sets: dict[str, Answers]) -> dict[str, Any]:
    found: dict[str, Any] = {"same_head": hash_weights(plain) == hash_weights(other)}
    for name, answers in sets.items():
        u, scaled = (uncertainty(head, answers.encoded) for head in (plain, other))
        found[name] = {
            "spearman": float(spearmanr(u, scaled).statistic),
            "r_auroc": [answers.r_auroc(u), answers.r_auroc(scaled)],
        }
    return found


def markdown(results: dict[str, Any]) -> str:
    """The comparison and the change of scale as two tables."""
    rows = []
    for name, found in results["comparison"].items():
        cells = [_interval(found["over_seeds"][key]) for key in (*LOSSES, "difference")]
        rows.append([name, *cells, _interval(found["over_images"]) if "over_images" in found else "-"])
    first = markdown_table(["set", "ranking", "L2", "ranking - L2, over seeds", "the same, over images"], rows)
    rows = []
    for loss, runs in results["scale"].items():
        for found in runs:
            if "error" in found:
                rows.append([loss, found["seed"], found["error"], "-", "-"])
                continue
            by_set = [one for one in found.values() if isinstance(one, dict)]
            change = np.mean([np.diff(one["r_auroc"])[0] for one in by_set])
            same = "yes" if found["same_head"] else "no"
            rows.append([loss, found["seed"], same, min(one["spearman"] for one in by_set), f"{change:+.3f}"])
    header = ["loss", "seed", "head equal bit for bit", "smallest Spearman of u", "change of mean R-AUROC"]
    return f"{first}\n\n{markdown_table(header, rows)}"


def _interval(found: dict[str, float]) -> str:
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="training.experiments.ranking_vs_l2", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("config", type=Path, help="the YAML configuration: the recipe, whose loss is replaced")
    parser.add_argument("--cache", type=Path, required=True, help="the folder that training.cache made")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sets")
    parser.add_argument("--work", type=Path, required=True, help="where trained heads and encoded sets are kept")
    parser.add_argument("--out", type=Path, required=True, help="where the numbers go, as JSON")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--scaled-seeds", type=int, default=2, help="how many are trained on scaled losses too")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with one_sentence():
        config = load_config(arguments.config)
        bench = open_workbench(config, arguments.cache, arguments.work)
        model = load_model(config.model)
        sets = {name: answers_of(encoded_set(model, arguments.data, name, arguments.work)) for name in SETS}
        seeds, name = range(1, arguments.seeds + 1), arguments.config.stem
        results = {"comparison": compare(bench, config.train, name, seeds, sets)}
        write_json(arguments.out, results)
        results["scale"] = compare_scales(bench, config.train, name, seeds[: arguments.scaled_seeds], sets)
        write_json(arguments.out, results)
    print(markdown(results))


if __name__ == "__main__":
    main()
