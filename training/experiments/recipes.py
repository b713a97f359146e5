"""Better than the paper's recipe? Heads on one cache, chosen by what transfers between upstream kinds of images.

    python -m training.experiments.recipes training/configs/efficientnet_lite0_linear.yaml --cache CACHE --data DATA \
        --work WORK --out recipes.json

The rule, written down before these recipes were compared. A recipe's number is the mean R-AUROC of the five kinds of
:mod:`training.experiments.folds`, each judged with a head that was trained without it, mean over seeds. Recipes within
.01 of the highest count as equal; among them the one whose u follows the strength of degradations best is taken
(Spearman correlation on views of the kinds left out, mean). An earlier rule was the mean of the first three kinds: it
did not ask for other contents, which is what downstream sets have. Nothing downstream is in the rule; but the
downstream sets had been looked at with earlier heads, so their numbers are development numbers.

That many heads are cheap because all see the same 256 principal components of the standardised input, fitted on the
training views; MLPs are 128 wide and take 500 steps of 1,024 views. --only names the recipes to add to what OUT holds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from pvu.head import UncertaintyHead
from pvu.models import load_model
from training import validation
from training.cached import CachedViews, load_views, targets
from training.command import one_sentence
from training.config import Config, TrainConfig, load_config
from training.experiments.folds import Fold, make_folds
from training.experiments.reported import ReportedSet, Reports, load_reported
from training.experiments.summary import markdown_table, over_seeds
from training.linear import fit_linear
from training.pretrain import predict, train_head
from training.shards import write_json
from training.validation import Validation

COMPONENTS = 256
SAMPLE = 20_000  # views that the components are fitted on
SEEDS = (1, 2, 3)
_MLP: dict[str, Any] = {
    "head": "mlp",
    "standardize": False,
    "epochs": 1,
    "epoch_views": 500 * 1024,
    "batch": 1024,
    "hidden": 128,
    "warmup": 0.1,
    "dropout": 0.5,
    "precision": "float32",
}
LINEAR: dict[str, Any] = {"head": "linear", "standardize": False, "pairs": "alike", "ridge": 0.5}
_MIXED = {"retrieval": 1.0, "instance": 1.0}


@dataclass(frozen=True)
class Recipe:
    """What a head is trained on, and how.

    Args:
        changes: to the configuration's ``train``.
        statistics: whether the statistics of the trunk's stages stand behind z.
        sources: names of the sources that are trained on; empty takes all.
        share: of the images that are trained on.
    """

    changes: dict[str, Any]
    statistics: bool = False
    sources: tuple[str, ...] = ()
    share: float = 1.0

    @property
    def seeds(self) -> tuple[int, ...]:
        """A closed form has none, unless images are drawn."""
        return SEEDS if self.changes["head"] == "mlp" or self.share < 1 else SEEDS[:1]


def _linear(losses: dict[str, float], *, statistics: bool = False, **changes: Any) -> Recipe:
    return Recipe(LINEAR | {"task_losses": losses} | changes, statistics)


RECIPES: dict[str, Recipe] = {
    "linear, cross-entropy": _linear({"cross_entropy": 1.0}),
    "linear, 3 retrieval + instance": _linear({"retrieval": 3.0, "instance": 1.0}),
    "linear + statistics, cross-entropy": _linear({"cross_entropy": 1.0}, statistics=True),
    "linear + statistics, retrieval": _linear({"retrieval": 1.0}, statistics=True),
    "linear + statistics, 3 retrieval + instance": _linear({"retrieval": 3.0, "instance": 1.0}, statistics=True),
    "linear + statistics, retrieval + instance": _linear(_MIXED, statistics=True),
    "linear + statistics, retrieval + 2 instance": _linear({"retrieval": 1.0, "instance": 2.0}, statistics=True),
    "linear + statistics, retrieval + crops": _linear({"retrieval": 1.0, "crops": 1.0}, statistics=True),
    "linear + statistics, retrieval + 2 crops": _linear({"retrieval": 1.0, "crops": 2.0}, statistics=True),
    "linear + statistics, all four losses": _linear(
        {"cross_entropy": 1.0, "retrieval": 1.0, "instance": 1.0, "distance": 1.0}, statistics=True
    ),
    "linear + statistics, retrieval + crops, ridge .1": _linear(
        {"retrieval": 1.0, "crops": 1.0}, statistics=True, ridge=0.1
    ),
    "linear + statistics, retrieval + crops, ridge 2": _linear(
        {"retrieval": 1.0, "crops": 1.0}, statistics=True, ridge=2.0
    ),
    "linear + statistics, retrieval + crops, pairs within": _linear(
        {"retrieval": 1.0, "crops": 1.0}, statistics=True, pairs="within"
    ),
    "linear + statistics, retrieval + crops, pairs across": _linear(
        {"retrieval": 1.0, "crops": 1.0}, statistics=True, pairs="across"
    ),
    "linear + statistics, retrieval + crops, undegraded": _linear(
        {"retrieval": 1.0, "crops": 1.0}, statistics=True, degraded=False
    ),
    "MLP, cross-entropy, pairs across, no dropout (the paper's)": Recipe(
        _MLP | {"task_losses": {"cross_entropy": 1.0}, "pairs": "across", "dropout": 0.0, "degraded": False}
    ),
    "MLP, 3 retrieval + instance (the former default)": Recipe(
        _MLP | {"task_losses": {"retrieval": 3.0, "instance": 1.0}, "pairs": "alike"}
    ),
    "MLP + statistics, 3 retrieval + instance": Recipe(
        _MLP | {"task_losses": {"retrieval": 3.0, "instance": 1.0}, "pairs": "alike"}, statistics=True
    ),
    "MLP + statistics, 3 retrieval + instance, L2 in place of ranking": Recipe(
        _MLP | {"task_losses": {"retrieval": 3.0, "instance": 1.0}, "pairs": "alike", "loss": "l2"}, statistics=True
    ),
    "MLP + statistics, 3 retrieval + instance, margin 1": Recipe(
        _MLP | {"task_losses": {"retrieval": 3.0, "instance": 1.0}, "pairs": "alike", "margin": 1.0}, statistics=True
    ),
    **{
        f"linear + statistics, retrieval + crops, {share:.0%} of the images": replace(
            _linear({"retrieval": 1.0, "crops": 1.0}, statistics=True), share=share
        )
        for share in (0.03, 0.1, 0.3)
    },
}


@dataclass(frozen=True)
class Bench:
    """One cache, as every recipe sees it.

    Args:
        views: with the components of z, or of z and statistics, in place of the features.
        checks: the validation, on these views.
        reported: the sets that are reported, in components.
    """

    views: CachedViews
    checks: Validation
    reported: list[ReportedSet] = field(default_factory=list)


def project(
    views: CachedViews, reported: Sequence[ReportedSet], checks: Validation, *, statistics: bool, components: int
) -> Bench:
    """Put principal components of the standardised features, at unit variance on average, in their place.

    Args:
        views: a cache with statistics.
        reported: sets with the same features.
        checks: its validation.
        statistics: whether the statistics are among the features, or z alone.
        components: how many.
    """
    width = views.features.shape[1] if statistics else views.z.shape[1]
    rows = np.flatnonzero(~views.held_out & np.isfinite(views.facts["cross_entropy"]))
    sample = views.features[rows[:: max(1, len(rows) // SAMPLE)], :width].astype(np.float32)
    mean, std = sample.mean(axis=0), sample.std(axis=0)
    std = np.maximum(std, 0.1 * std.mean())
    found = PCA(components, svd_solver="randomized", random_state=0).fit((sample - mean) / std)
    scale = np.float32(np.sqrt(found.explained_variance_.mean()))

    def transform(features: np.ndarray) -> np.ndarray:
        parts = [features[start : start + 8192, :width] for start in range(0, len(features), 8192)]
        return np.concatenate([found.transform((part - mean) / std) / scale for part in parts]).astype(np.float16)

    projected = replace(views, z=transform(views.features), statistics=None)
    return Bench(projected, replace(checks, views=projected), [each.transformed(transform) for each in reported])


def judge(bench: Bench, recipe: Recipe, config: Config, folds: Sequence[Fold]) -> list[dict[str, float]]:
    """Train a recipe on all kinds and without each.

    Returns:
        A dictionary of numbers a seed; NaN for a kind without which the recipe has nothing to be trained on.
    """
    results = []
    for seed in recipe.seeds:
        train = replace(config.train, seed=seed, **recipe.changes)
        kept = _kept(bench.views, recipe, config, seed)
        numbers: dict[str, float] = {}
        for fold in folds:
            if not (kept & ~fold.left_out & ~bench.views.held_out).any():
                numbers |= {fold.name: float("nan"), f"strength/{fold.name}": float("nan")}
                continue
            head = _train(bench, train, kept & ~fold.left_out, config)
            u = np.full(len(bench.views), np.nan, np.float32)
            u[fold.rows()] = predict(head, bench.views.features, rows=fold.rows())
            numbers[fold.name] = fold.r_auroc(u)
            strength = bench.views.facts["strength"][fold.degraded]
            numbers[f"strength/{fold.name}"] = float(spearmanr(u[fold.degraded], strength).statistic)
        numbers["rule"] = float(np.mean([numbers[fold.name] for fold in folds]))
        numbers["strength"] = float(np.mean([numbers[f"strength/{fold.name}"] for fold in folds]))
        head = _train(bench, train, kept, config)
        results.append(numbers | Reports.of(bench.reported, head).numbers())
    return results


def _kept(views: CachedViews, recipe: Recipe, config: Config, seed: int) -> np.ndarray:
    """The views (V,) bool that a recipe may train on."""
    names = np.array([source.name for source in config.cache.sources])
    kept = np.isin(names[views.source], recipe.sources or names)
    if recipe.share < 1:
        rng = np.random.default_rng(seed)
        drawn = [rng.random(int(views.facts["image"].max()) + 1) < recipe.share for _ in names]
        kept &= np.stack(drawn)[views.source, views.facts["image"]]
    return kept


def _train(bench: Bench, train: TrainConfig, kept: np.ndarray, config: Config) -> UncertaintyHead:
    views = replace(bench.views, held_out=bench.views.held_out | ~kept)
    weights = np.array([source.weight for source in config.cache.sources])
    if train.head == "linear":
        return fit_linear(views, targets(views, train), weights, train)
    # The last epoch: the best one would be chosen on images of the kind that is left out.
    return train_head(views, train, weights, bench.checks).last


def tables(results: dict[str, list[dict[str, float]]]) -> str:
    """Two Markdown tables: the rule, and what is reported; intervals over seeds where there are some."""

    def cells(name: str, keys: Sequence[str]) -> Iterator[object]:
        for key in keys:
            values = [numbers[key] for numbers in results[name]]
            yield over_seeds(values) if len(values) > 1 else values[0]

    first = next(iter(results.values()))[0]
    ours = [key for key in first if "/" not in key and not key.startswith("reported")]
    theirs = [key for key in first if key.startswith("reported")]
    order = sorted(results, key=lambda name: -float(np.mean([numbers["rule"] for numbers in results[name]])))
    parts = []
    for keys in (ours, theirs):
        header = ["recipe", *(key.removeprefix("reported ") for key in keys)]
        parts.append(markdown_table(header, [[name, *cells(name, keys)] for name in order]))
    return "\n\n".join(parts)


def run(recipes: dict[str, Recipe], arguments: argparse.Namespace) -> None:
    """Judge recipes one after the other, and keep the numbers after each."""
    config = load_config(arguments.config)
    views = load_views(arguments.cache, config.cache)
    if views.statistics is None:
        raise ValueError(f"{arguments.config} must set statistics: true in its cache, for the recipes that take them.")
    names = [source.name for source in config.cache.sources]
    folds, checks = make_folds(views, names), validation.prepare(views, names)
    reported = load_reported(load_model(config.model, device="cpu"), arguments.data, arguments.work)
    results = json.loads(arguments.out.read_text()) if arguments.only and arguments.out.is_file() else {}
    benches: dict[bool, Bench] = {}
    for name in arguments.only or recipes:
        recipe = recipes[name]
        if recipe.statistics not in benches:
            benches[recipe.statistics] = project(
                views, reported, checks, statistics=recipe.statistics, components=COMPONENTS
            )
        results[name] = judge(benches[recipe.statistics], recipe, config, folds)
        write_json(arguments.out, results)
        means = {key: np.mean([numbers[key] for numbers in results[name]]) for key in results[name][0]}
        print(name, " ".join(f"{key} {value:.3f}" for key, value in means.items() if "/" not in key), flush=True)
    print(tables(results))


def parse(summary: str, prog: str, recipes: dict[str, Recipe]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog=prog, description=summary)
    parser.add_argument("config", type=Path, help="the YAML configuration; its recipe is not used, its cache is")
    parser.add_argument("--cache", type=Path, required=True, help="the folder that training.cache made")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the reported sets")
    parser.add_argument("--work", type=Path, required=True, help="where their representations are kept")
    parser.add_argument("--out", type=Path, required=True, help="where the numbers go, as JSON")
    parser.add_argument("--only", nargs="+", choices=list(recipes), metavar="RECIPE", help="judge these alone")
    return parser.parse_args()


def main() -> None:
    """The command line."""
    arguments = parse((__doc__ or "").partition("\n")[0], "training.experiments.recipes", RECIPES)
    with one_sentence():
        run(RECIPES, arguments)


if __name__ == "__main__":
    main()
