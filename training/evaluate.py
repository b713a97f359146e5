"""Measure a model's uncertainty on labelled sets, beside what could be had without a head.

    python -m training.evaluate --model default --data DATA --out results.json

Writes the numbers as JSON and prints them as Markdown. The protocol is that of the URL benchmark (arXiv 2307.03810).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pvu.errors import ModelError
from pvu.metrics import auroc, correct_at_1
from pvu.models import Model, load_model
from pvu.neighbors import nearest_neighbors
from training.augment import Augmentation
from training.command import one_sentence
from training.data import SourceConfig, list_images
from training.degradations import sweep
from training.shards import write_json
from training.views import CHUNK, Chunk, views_in_order

SETS = ("tiny_imagenet_val", "cub_dev", "flowers17", "cifar10_dev")
BASELINES = ("random", "norm", "entropy", "energy")
_TITLES = {
    "u": "u",
    "random": "random",
    "norm": "-norm",
    "entropy": "entropy",
    "energy": "-energy",
    "similarity": "-similarity",
    "u+similarity": "u and -similarity",
}


def encode_set(model: Model, data: Path, name: str, *, workers: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Representations and labels of a labelled set: a folder tree whose folder names are the labels.

    Returns:
        z: (N, D) float32, in the order of the paths.
        labels: (N,) str.

    Raises:
        SourceError: if the set is missing or empty.
    """
    images = list_images(data, SourceConfig(name, passes=0))
    parts = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    chunks = [
        Chunk(tuple(i.key for i in part), tuple(i.path for i in part), 0, 0, Augmentation(), model.preprocessing)
        for part in parts
    ]
    z, kept = [], []
    for pixels, changes in views_in_order(chunks, workers):
        z.append(model.represent(torch.from_numpy(pixels)).cpu().numpy())
        kept.append(changes[:, 0] > 0)
    decoded = np.concatenate(kept)
    labels = np.array([image.path.parent.name for image in images])
    return np.concatenate(z)[decoded], labels[decoded]


def uncertainties(z: np.ndarray, logits: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
    """u and its baselines that need no gallery, each higher where the image is less certain.

    Args:
        z: (N, D) float.
        logits: (N, C) float, of the pretrained classifier.
        u: (N,) float, of the head.
    """
    scores = torch.from_numpy(np.asarray(logits, np.float32))
    log_p = torch.log_softmax(scores, dim=1)
    return {
        "u": u,
        "random": np.random.default_rng(0).random(len(z)),
        "norm": -np.linalg.norm(np.asarray(z, np.float32), axis=1),
        "entropy": -(log_p.exp() * log_p).sum(1).numpy(),
        # The energy is -logsumexp; a low one means certain (arXiv 2010.03759).
        "energy": -torch.logsumexp(scores, dim=1).numpy(),
    }


def measure(z: np.ndarray, labels: Sequence[str] | np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Recall@1 and the R-AUROC of each uncertainty, of the nearest neighbour's distance, and of u with that distance.

    Args:
        z: (N, D) float.
        labels: (N,).
        scores: of :func:`uncertainties`, each (N,).

    Returns:
        images, labels, recall_at_1, and r_auroc by name.
    """
    neighbors, similarities = nearest_neighbors(z, 1)
    correct, rows = correct_at_1(neighbors, labels)
    distance = -similarities[rows, 0]
    r_auroc = {name: auroc(correct, -score[rows]) for name, score in scores.items()}
    r_auroc["similarity"] = auroc(correct, -distance)
    both = np.column_stack([np.log(scores["u"][rows]), distance])
    r_auroc["u+similarity"] = cross_fitted(correct, both)
    return {
        "images": len(rows),
        "labels": len(set(np.asarray(labels)[rows].tolist())),
        "recall_at_1": float(correct.mean()),
        "r_auroc": r_auroc,
    }


def cross_fitted(correct: np.ndarray, features: np.ndarray, *, folds: int = 5) -> float:
    """AUROC of a logistic regression for being right, each answer scored by a fit that did not see it.

    Args:
        correct: (n,) bool.
        features: (n, F) float, standardised in each fit.
        folds: NaN is returned where a class has fewer answers than this.
    """
    if min(correct.sum(), (~correct).sum()) < folds:
        return float("nan")
    model = make_pipeline(StandardScaler(), LogisticRegression())
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    chance = cross_val_predict(model, features, correct, cv=split, method="predict_proba")[:, 1]
    return auroc(correct, chance)


def evaluate(model: Model, data: Path, sets: Sequence[str], *, workers: int = 1) -> dict[str, Any]:
    """Everything the model card reports.

    Args:
        model: with a head and a classifier.
        data: the folder that holds the sets.
        sets: their names.
        workers: decoding processes beside the model.

    Raises:
        ModelError: if the model has no head, or no classifier.
        SourceError: if a set is missing or empty.
    """
    if model.head is None:
        raise ModelError(f"{model.name} has no uncertainty head to evaluate. Train one with training.pretrain.")
    results = {}
    for name in sets:
        z, labels = encode_set(model, data, name, workers=workers)
        u = model.head(torch.from_numpy(z).to(model.device)).cpu().numpy()
        logits = model.logits(torch.from_numpy(z).to(model.device)).cpu().numpy()
        results[name] = measure(z, labels, uncertainties(z, logits, u))
        images = [image.path for image in list_images(data, SourceConfig(name, passes=0))]
        results[name]["degradation"] = sweep(model, images)
    return {"model": model.name, "fingerprint": model.fingerprint, "sets": results}


def markdown(results: dict[str, Any]) -> str:
    """Two tables: R-AUROC of each uncertainty a set, and how u follows degradations."""
    sets = results["sets"]
    lines = [
        "| set | images | labels | R@1 | " + " | ".join(_TITLES.values()) + " |",
        "| --- " * (4 + len(_TITLES)) + "|",
    ]
    for name, found in sets.items():
        numbers = " | ".join(f"{found['r_auroc'][key]:.3f}" for key in _TITLES)
        lines.append(f"| {name} | {found['images']} | {found['labels']} | {found['recall_at_1']:.3f} | {numbers} |")
    kinds = list(next(iter(sets.values()))["degradation"])
    lines += ["", "| set | " + " | ".join(kinds) + " |", "| --- " * (1 + len(kinds)) + "|"]
    for name, found in sets.items():
        lines.append(f"| {name} | " + " | ".join(f"{found['degradation'][kind]:.3f}" for kind in kinds) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="training.evaluate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="default", help="a name of pvu's registry")
    parser.add_argument("--head", type=Path, help="another head's safetensors file")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="their names")
    parser.add_argument("--out", type=Path, required=True, help="where the numbers go, as JSON")
    arguments = parser.parse_args()
    with one_sentence():
        model = load_model(arguments.model, head=arguments.head)
        results = evaluate(model, arguments.data, arguments.sets)
        write_json(arguments.out, results)
    print(markdown(results))


if __name__ == "__main__":
    main()
