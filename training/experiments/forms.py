"""In which form does the trunk's representation retrieve best? What the bundled Vision Transformer is taught.

    python -m training.experiments.forms training/configs/efficientnet_lite0.yaml --cache CACHE --data DATA --work WORK

Recall@1 of EfficientNet-Lite0's pooled feature as it is, as square roots, centred, and as the components that
:class:`training.hybrid.teacher.Teacher` makes of it. Centre and components are those of the upstream whole pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pvu.hybrid import pooled_input
from pvu.metrics import recall_at_1
from pvu.models import load_model
from training.cached import CachedViews, load_views
from training.command import one_sentence
from training.config import load_config
from training.evaluate import SETS
from training.evaluation.encoding import encode_set
from training.evaluation.sets import find_set
from training.experiments.summary import markdown_table
from training.hybrid.config import Shape
from training.hybrid.teacher import Teacher, as_tensor

Form = Callable[[torch.Tensor], torch.Tensor]
POWERS = (0.0, 0.25, 0.5)


def make_forms(pooled: torch.Tensor, width: int) -> dict[str, Form]:
    """The forms, by name, each from representations (N, D) to vectors to be compared by cosine.

    Args:
        pooled: (P, D) float32, representations of upstream whole pictures.
        width: how many of the teacher's components the last form keeps.
    """
    centre = pooled_input(pooled).mean(0)
    teachers = {power: Teacher(pooled, power) for power in POWERS}
    forms: dict[str, Form] = {
        "as it is": lambda z: z,
        "square roots": pooled_input,
        "square roots, centred": lambda z: pooled_input(z) - centre,
    }
    for power in POWERS[1:]:
        forms[f"the same, components over eigenvalues to the {power:g}"] = teachers[power]
    forms[f"the first {width} of those over eigenvalues to the 0.25"] = lambda z: teachers[0.25](z)[:, :width]
    return forms


def upstream_pictures(views: CachedViews) -> torch.Tensor:
    """Representations (P, D) float32 of the whole pictures that are not held out."""
    rows = np.flatnonzero((views.pass_index == 0) & ~views.held_out & np.isfinite(views.facts["cross_entropy"]))
    return as_tensor(views.z[rows])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="training.experiments.forms", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="the YAML configuration of the cache")
    parser.add_argument("--cache", type=Path, required=True, help="the folder that training.cache made")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sets")
    parser.add_argument("--work", type=Path, required=True, help="where representations are kept")
    arguments = parser.parse_args()
    with one_sentence():
        config = load_config(arguments.config)
        forms = make_forms(upstream_pictures(load_views(arguments.cache, config.cache)), Shape().width)
        model = load_model(config.model)
        found: dict[str, list[float]] = {name: [] for name in forms}
        for name in SETS:
            images = find_set(arguments.data, name)
            z, decoded = encode_set(model, images, kept=arguments.work / "encodings")
            for form, compute in forms.items():
                vectors = compute(torch.from_numpy(z["whole"][decoded])).numpy()
                found[form].append(recall_at_1(vectors, images.labels[decoded]))
    rows = [[form, *(f"{value:.3f}" for value in (*values, np.mean(values)))] for form, values in found.items()]
    print(markdown_table(["form", *SETS, "mean R@1"], rows))


if __name__ == "__main__":
    main()
