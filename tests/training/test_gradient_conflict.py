from __future__ import annotations

import pytest

from training.experiments.gradient_conflict import figure, markdown, summarise
from training.experiments.summary import over_seeds


def test_summary_pairs_the_seeds() -> None:
    def history(accuracies: list[float]) -> list[dict[str, float]]:
        return [{"accuracy": a, "auroc": a / 2, "gradient_cosine": -a} for a in accuracies]

    runs = {
        "stop-gradient": {"1": history([0.2, 0.4]), "2": history([0.2, 0.5])},
        "joint, 1": {"1": history([0.35, 0.3]), "2": history([0.3, 0.35])},
    }
    found = summarise(runs)["joint, 1"]
    assert found["fall from the best"] == pytest.approx(over_seeds([0.05, 0.0]).as_dict())
    assert found["accuracy - stop-gradient's"]["mean"] == pytest.approx(-0.125)
    assert found["gradient cosine"]["mean"] == pytest.approx(-0.325)


def test_results_are_told_in_tables_and_curves() -> None:
    history = [{"accuracy": 0.1 * e, "auroc": 0.5, "gradient_cosine": 0.0} for e in range(6)]
    runs = {"stop-gradient": {"1": history}, "joint, 1": {"1": history, "2": history[::-1]}}
    results = {"config": {"epochs": 6}, "runs": runs, "summary": summarise(runs)}
    table = markdown(results).splitlines()
    assert table[2].startswith("| stop-gradient | 1 | 0.500 | 0.500 | 0.000 | 0.500 |")
    assert table[3].startswith("| joint, 1 | 2 | 0.250 [")
    assert table[-1] == "| 5 | 0.400 | 0.500 | 0.250 | 0.500 |"
    assert figure(results).count("<polyline") == 4
