"""What an evaluation found: one record a model, and the JSON of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from training.evaluation.baselines import COMBINED
from training.evaluation.ood import MixtureReport
from training.evaluation.protocol import SetReport
from training.shards import without_nan

FORMAT = "pvu.evaluation/1"


@dataclass(frozen=True)
class ModelReport:
    """Everything that was measured of one backbone with its heads.

    Args:
        model: its name.
        backbone: fingerprint of its weights and preprocessing.
        heads: where each head came from, by name.
        sets: by name.
        mixtures: of upstream and downstream images, by "UPSTREAM:SET+SET".
        degradations: Spearman correlation of each uncertainty with the strength of each degradation: set, name, kind.
        unreadable: how many images of a set could not be decoded, by set, where there are any.
    """

    model: str
    backbone: str
    heads: dict[str, str]
    sets: dict[str, SetReport]
    mixtures: dict[str, MixtureReport] = field(default_factory=dict)
    degradations: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)


def as_json(models: Sequence[ModelReport], options: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able results of models, with the options that they were measured with. NaN becomes null."""
    value = {"format": FORMAT, "options": dict(options), "models": [asdict(model) for model in models]}
    cleaned: dict[str, Any] = without_nan(value)
    return cleaned


def ordered_names(models: Sequence[ModelReport]) -> list[str]:
    """Every uncertainty's name, each once: heads, baselines, combinations."""
    heads: dict[str, None] = {}  # dictionaries, since they keep the order
    others: dict[str, None] = {}
    both: dict[str, None] = {}
    for report in models:
        for found in report.sets.values():
            for name in found.uncertainties:
                kind = heads if name in found.heads else both if name.endswith(COMBINED) else others
                kind[name] = None
    return [*heads, *(name for name in others if name not in heads), *both]
