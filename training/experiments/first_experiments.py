"""What a reader of the paper tries first: does a head rank birds, and is the backbone left alone?

    python -m training.experiments.first_experiments training/configs/efficientnet_lite0_paper.yaml \
        training/configs/efficientnet_lite0.yaml --cache CACHE --data DATA --work WORK --out first_experiments.json

For each configuration, heads with several seeds and their R-AUROC on four labelled sets that none was trained on. Then
the model without a head against the model with the head just trained: weights before and after, representations bit
for bit, and the accuracy and Recall@1 that follow from them. The configurations share the model and the cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pvu.backbones import hash_weights, load_backbone
from pvu.images import Preprocessing
from pvu.metrics import recall_at_1
from pvu.models import Model, Precision, load_model
from training.command import one_sentence
from training.config import Config, load_config
from training.data import imagenet_classes
from training.evaluate import SETS
from training.evaluation.encoding import encode_set
from training.evaluation.sets import find_set
from training.experiments.summary import Estimate, markdown_table, over_images, over_seeds
from training.experiments.workbench import (
    Answers,
    Workbench,
    answers_of,
    encoded_set,
    head_path,
    one_cache,
    open_workbench,
    trained_head,
    uncertainty,
)
from training.shards import write_json

BIRDS = "cub_dev"
TARGET = 0.6  # R-AUROC on birds that the paper's readers are promised (arXiv 2402.16569: ViT-B .626 on CUB)
CLASSIFIED = ("imagenet_photos", "tiny_imagenet_val")  # labelled by wnid, so that the classifier can be right


@dataclass(frozen=True)
class WithHead:
    """A model that is asked for u as well whenever it is asked for representations, as the app does."""

    model: Model

    @property
    def preprocessing(self) -> Preprocessing:
        return self.model.preprocessing

    def represent(self, pixels: torch.Tensor) -> torch.Tensor:
        """z (B, D) float32 of pixels (B, size, size, 3) uint8, as :meth:`Model.encode` gives it beside u."""
        z, u = self.model.encode(pixels.numpy())
        assert u is not None
        return torch.from_numpy(z)


def rank_sets(
    bench: Workbench,
    configs: dict[str, Config],
    seeds: Sequence[int],
    sets: dict[str, Answers],
    *,
    repeats: int = 500,
) -> dict[str, Any]:
    """R-AUROC of heads of each configuration, trained on the cache alone.

    Returns:
        By configuration and set: the R-AUROC of each seed, its mean with an interval over seeds, and that of the
        first seed's head with an interval over images.
    """
    results: dict[str, Any] = {}
    for name, config in configs.items():
        recipe = f"{name}-{config.train.loss}"
        heads = [trained_head(bench, replace(config.train, seed=seed), recipe) for seed in seeds]
        results[name] = {}
        for set_name, found in sets.items():
            us = [uncertainty(head, found.encoded) for head in heads]
            values = [found.r_auroc(u) for u in us]
            results[name][set_name] = {
                "r_auroc": values,
                "over_seeds": over_seeds(values).as_dict(),
                "over_images": over_images(found.resampled(us[0]), len(us[0]), repeats=repeats).as_dict(),
            }
    return results


def compare_backbones(config: Config, head: Path, data: Path, names: Sequence[str], *, workers: int) -> dict[str, Any]:
    """The model without any head against the same model with one, on sets of images.

    Returns:
        ``weights``: the backbone's hash without and with; by set: how many images have another representation in any
        bit, and [without, with] of Recall@1 and, where labels are wnids, of top-1 accuracy.
    """
    headed = load_model(config.model, head=head)
    precision: Precision = "bfloat16" if headed.precision == torch.bfloat16 else "float32"
    bare = Model(headed.spec, load_backbone(headed.spec), None, headed.preprocessing, precision=precision)
    result: dict[str, Any] = {"weights": [hash_weights(bare.backbone), hash_weights(headed.backbone)]}
    for name in names:
        print(f"encoding {name} without and with the head", flush=True)
        images = find_set(data, name)
        both = [encode_set(model, images, workers=workers) for model in (bare, WithHead(headed))]  # type: ignore[arg-type]
        decoded = both[0][1]
        z, z_with = (found["whole"][decoded] for found, _ in both)
        labels = images.labels[decoded].astype(str)
        result[name] = {"images": len(z), "differing": int(np.count_nonzero((z != z_with).any(axis=1)))}
        if len(set(labels)) < len(labels):  # with one image a label no answer can be right
            result[name]["recall_at_1"] = [recall_at_1(found, labels) for found in (z, z_with)]
        if name in CLASSIFIED:
            models = ((bare, z), (headed, z_with))
            result[name]["top_1"] = [top_1(model, found, labels) for model, found in models]
    # Once more: encoding has not changed it either.
    result["weights"].append(hash_weights(headed.backbone))
    return result


def top_1(model: Model, z: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose label, a wnid, is the frozen classifier's first guess."""
    classes = imagenet_classes()
    guesses = model.logits(torch.from_numpy(z).to(model.device)).argmax(1).cpu().numpy()
    return float(np.mean(guesses == np.array([classes[label] for label in labels])))


def markdown(results: dict[str, Any]) -> str:
    """R-AUROC of each configuration, and the backbone without and with the head, as two tables."""
    rows = []
    for name, by_set in results["ranking"].items():
        for set_name, found in by_set.items():
            values = " ".join(f"{value:.3f}" for value in found["r_auroc"])
            rows.append([name, set_name, values, Estimate(**found["over_seeds"]), Estimate(**found["over_images"])])
    header = ["recipe", "set", "R-AUROC of each seed", "mean, interval over seeds", "seed 1, interval over images"]
    first = markdown_table(header, rows)
    rows = []
    for name, found in results["backbone"].items():
        if name != "weights":
            pairs = [" / ".join(f"{v:.4f}" for v in found.get(key, [])) or "-" for key in ("top_1", "recall_at_1")]
            rows.append([name, found["images"], found["differing"], *pairs])
    header = ["set", "images", "representations that differ", "top-1 without / with", "Recall@1 without / with"]
    return f"{first}\n\n{markdown_table(header, rows)}\n\nweights: {' '.join(results['backbone']['weights'])}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="training.experiments.first_experiments", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("configs", type=Path, nargs="+", help="YAML configurations of one model and one cache")
    parser.add_argument("--cache", type=Path, required=True, help="the folder that training.cache made")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sets")
    parser.add_argument("--work", type=Path, required=True, help="where trained heads and encoded sets are kept")
    parser.add_argument("--out", type=Path, required=True, help="where the numbers go, as JSON")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--workers", type=int, default=1, help="decoding processes beside the model")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with one_sentence():
        configs = {path.stem: load_config(path) for path in arguments.configs}
        config = one_cache(configs)
        bench = open_workbench(config, arguments.cache, arguments.work)
        model = load_model(config.model)
        sets = {name: answers_of(encoded_set(model, arguments.data, name, arguments.work)) for name in SETS}
        before = hash_weights(model.backbone)
        results = {"ranking": rank_sets(bench, configs, range(1, arguments.seeds + 1), sets)}
        write_json(arguments.out, results)
        name, last = list(configs.items())[-1]
        head = head_path(bench, replace(last.train, seed=1), f"{name}-{last.train.loss}")
        names = ("imagenet_photos", *SETS)
        results["backbone"] = compare_backbones(config, head, arguments.data, names, workers=arguments.workers)
        results["backbone"]["weights"][:0] = [before, hash_weights(model.backbone)]
        write_json(arguments.out, results)
    print(markdown(results))


if __name__ == "__main__":
    main()
