"""Does learning uncertainty harm the backbone? One small ViT trained with and without the stop-gradient.

    python -m training.experiments.gradient_conflict --data DATA --work WORK --out gradient_conflict.json

A ViT learns to classify Tiny-ImageNet from scratch while a head on its representation learns the task loss,

    CE + lambda * mean (u - l)^2,     l = the image's cross-entropy, detached,

with the head's gradient stopped before the backbone, or not (for several lambda). Every epoch is measured on images
that were not trained on. WORK keeps a checkpoint an epoch: the same command goes on where it was stopped. Source of
the comparison: arXiv 2402.16569, where joint training falls from 79.8 to 75.8 % on ImageNet-1k.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.command import one_sentence
from training.experiments.curves import line_charts
from training.experiments.joint_training import Method, ViTConfig, load_pictures, train
from training.experiments.summary import Estimate, markdown_table, over_seeds
from training.shards import write_json

TRAIN, VALIDATION = "tiny_imagenet_train", "tiny_imagenet_val"
METHODS = (
    Method("stop-gradient", 1.0, stop=True),
    Method("joint, 1", 1.0, stop=False),
    Method("joint, 10", 10.0, stop=False),
)
_COLUMNS = (
    "accuracy",
    "best accuracy",
    "fall from the best",
    "auroc",
    "gradient cosine",
    "accuracy - stop-gradient's",
    "auroc - stop-gradient's",
)


def summarise(runs: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Means and intervals over seeds of what the curves show.

    Args:
        runs: the history of each seed of each method.

    Returns:
        By method: accuracy and auroc of the last epoch, the best epoch's accuracy, how far the last one is below it,
        the mean gradient cosine, and, against the stop-gradient of the same seed, the differences of the last epoch.
    """
    reference = runs.get("stop-gradient", {})
    result: dict[str, Any] = {}
    for method, by_seed in runs.items():
        seeds = list(by_seed)
        last = {seed: by_seed[seed][-1] for seed in seeds}
        best = {seed: max(epoch["accuracy"] for epoch in by_seed[seed]) for seed in seeds}
        columns = {
            "accuracy": [last[seed]["accuracy"] for seed in seeds],
            "best accuracy": list(best.values()),
            "fall from the best": [best[seed] - last[seed]["accuracy"] for seed in seeds],
            "auroc": [last[seed]["auroc"] for seed in seeds],
            "gradient cosine": [float(np.mean([epoch["gradient_cosine"] for epoch in by_seed[s]])) for s in seeds],
        }
        paired = [seed for seed in seeds if seed in reference]
        for name in ("accuracy", "auroc"):
            if method != "stop-gradient":
                columns[f"{name} - stop-gradient's"] = [last[s][name] - reference[s][-1][name] for s in paired]
        result[method] = {name: over_seeds(v).as_dict() if len(v) > 1 else v for name, v in columns.items()}
    return result


def run(config: ViTConfig, data: Path, work: Path, out: Path, seeds: int) -> dict[str, Any]:
    """Every method with every seed, seed by seed; the results are written after each run."""
    pictures = load_pictures(data, TRAIN, config.classes)
    validation = load_pictures(data, VALIDATION, config.classes)
    work.mkdir(parents=True, exist_ok=True)
    runs: dict[str, dict[str, list[dict[str, float]]]] = {method.name: {} for method in METHODS}
    results: dict[str, Any] = {}
    for seed in range(1, seeds + 1):
        for number, method in enumerate(METHODS):
            checkpoint = work / f"method{number}-seed{seed}.pt"
            runs[method.name][str(seed)] = train(config, method, seed, pictures, validation, checkpoint)
            done = {name: by_seed for name, by_seed in runs.items() if by_seed}
            results = {
                "config": asdict(config),
                "methods": [asdict(method) for method in METHODS],
                "runs": done,
                "summary": summarise(done),
            }
            write_json(out, results)
    return results


def markdown(results: dict[str, Any]) -> str:
    """The last epoch of every method, and the curves at every fifth epoch, means over seeds, as two tables."""
    rows = []
    for method, found in results["summary"].items():
        seeds = len(results["runs"][method])
        cells = [_cell(found[key]) if key in found else "-" for key in _COLUMNS]
        rows.append([method, seeds, *cells])
    first = markdown_table(["method", "seeds", *_COLUMNS], rows)
    curves = {method: _curves(by_seed) for method, by_seed in results["runs"].items()}
    rows = []
    for epoch in (0, *range(4, results["config"]["epochs"], 5)):
        at = [
            f"{np.mean([run[epoch] for run in runs]):.3f}" for by_name in curves.values() for runs in by_name.values()
        ]
        rows.append([epoch + 1, *at])
    titles = [f"{method}: {name}" for method, by_name in curves.items() for name in by_name]
    return f"{first}\n\n{markdown_table(['epoch', *titles], rows)}"


def figure(results: dict[str, Any]) -> str:
    """Accuracy and AUROC of every epoch and method as SVG."""
    panels = {
        name: {method: _curves(by_seed)[name] for method, by_seed in results["runs"].items()}
        for name in ("accuracy", "auroc")
    }
    return line_charts(panels, x_title="epoch")


def _curves(by_seed: dict[str, list[dict[str, float]]]) -> dict[str, list[list[float]]]:
    return {name: [[epoch[name] for epoch in run] for run in by_seed.values()] for name in ("accuracy", "auroc")}


def _cell(found: dict[str, Any] | list[float]) -> str:
    return f"{found[0]:.3f}" if isinstance(found, list) else f"{Estimate(**found):.3f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="training.experiments.gradient_conflict", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the image sets")
    parser.add_argument("--work", type=Path, required=True, help="where the checkpoints go")
    parser.add_argument("--out", type=Path, required=True, help="where the numbers go (.json), and the curves (.svg)")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--classes", type=int, default=ViTConfig.classes, help="the first so many labels")
    parser.add_argument("--epochs", type=int, default=ViTConfig.epochs)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with one_sentence():
        config = ViTConfig(classes=arguments.classes, epochs=arguments.epochs)
        results = run(config, arguments.data, arguments.work, arguments.out, arguments.seeds)
    arguments.out.with_suffix(".svg").write_text(figure(results))
    print(markdown(results))


if __name__ == "__main__":
    main()
