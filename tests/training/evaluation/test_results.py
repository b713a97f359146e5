from __future__ import annotations

import json

import numpy as np
from reports import report, some

from training.evaluation.results import as_json, ordered_names


def test_json_has_every_number_and_no_nan() -> None:
    found = some()
    value = json.loads(json.dumps(as_json([report("m", birds=found)], {"seed": 0}), allow_nan=False))
    (model,) = value["models"]
    u = model["sets"]["birds"]["uncertainties"]["u"]
    assert value["options"] == {"seed": 0}
    assert u["r_auroc"] == {name: getattr(found.uncertainties["u"].r_auroc, name) for name in ("value", "low", "high")}
    assert u["classification_auroc"] is None
    assert u["safe_retrieval"] == found.uncertainties["u"].safe_retrieval


def test_names_are_heads_then_baselines_then_combinations() -> None:
    rng = np.random.default_rng(1)
    several = some({"a": rng.random(80), "b": rng.random(80)}, classifier=False)
    assert ordered_names([report("x", s=several), report("y", s=some())]) == [
        *("a", "b", "u", "random", "-norm", "-similarity", "entropy", "-energy"),
        *("a and -similarity", "b and -similarity", "u and -similarity"),
    ]
