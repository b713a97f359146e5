from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.training.small_cache import QUICK, make_bench, make_set
from training.experiments import ranking_vs_l2
from training.experiments.ranking_vs_l2 import compare, compare_scales, markdown, rescale
from training.experiments.workbench import Answers, trained_head, uncertainty


@pytest.fixture
def sets() -> dict[str, Answers]:
    return {"one": make_set(11), "two": make_set(12)}


def test_comparison_equals_one_done_by_hand(tmp_path: Path, sets: dict[str, Answers]) -> None:
    bench = make_bench(tmp_path)
    found = compare(bench, QUICK, "quick", [1, 2], sets, repeats=50)
    by_hand: dict[str, list[float]] = {"ranking": [], "l2": []}
    for loss, values in by_hand.items():
        for seed in (1, 2):
            head = trained_head(bench, replace(QUICK, loss=loss, seed=seed), f"quick-{loss}")
            u = uncertainty(head, sets["one"].encoded)
            values.append(float(roc_auc_score(sets["one"].correct, -u)))
    assert found["one"]["r_auroc"] == {loss: pytest.approx(values) for loss, values in by_hand.items()}
    difference = np.subtract(by_hand["ranking"], by_hand["l2"])
    assert found["one"]["over_seeds"]["difference"]["mean"] == pytest.approx(difference.mean())
    assert found["one"]["over_images"]["mean"] == pytest.approx(difference.mean())
    assert found["one"]["over_images"]["low"] < difference.mean() < found["one"]["over_images"]["high"]
    mean = np.mean([found[name]["over_seeds"]["ranking"]["mean"] for name in sets])
    assert found["mean"]["over_seeds"]["ranking"]["mean"] == pytest.approx(mean)
    assert "| mean |" in markdown({"comparison": found, "scale": {}})
    json.dumps(found)


def test_the_ranking_head_does_not_see_the_scale_and_the_l2_head_does(tmp_path: Path, sets: dict[str, Answers]) -> None:
    bench = make_bench(tmp_path)
    found = compare_scales(bench, QUICK, "quick", [1], sets)
    for run in found["ranking"]:
        assert run["same_head"]
        assert run["one"]["spearman"] == pytest.approx(1)
    for run in found["l2"]:
        assert not run["same_head"]
        assert run["one"]["spearman"] < 1
    assert bench.views.facts["retrieval"].max() < 3, "the cache itself must not change"
    assert rescale(bench, 100).views.facts["retrieval"].max() > 150


def test_training_that_breaks_on_another_scale_is_told(
    tmp_path: Path, sets: dict[str, Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking_vs_l2, "SCALE", 1e30)  # its square is not a float32 any more
    bench = make_bench(tmp_path)
    scale = compare_scales(bench, QUICK, "quick", [1], sets)
    assert scale["ranking"][0]["same_head"]
    assert "finite" in scale["l2"][0]["error"] or "inf" in scale["l2"][0]["error"]
    assert scale["l2"][0]["error"] in markdown({"comparison": {}, "scale": scale})


def test_a_missing_cache_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path(ranking_vs_l2.__file__).parents[1] / "configs" / "efficientnet_lite0_paper.yaml"
    folder = str(tmp_path / "none")
    arguments = [str(config), "--cache", folder, "--data", folder, "--work", folder, "--out", f"{folder}/x.json"]
    monkeypatch.setattr(sys, "argv", ["ranking_vs_l2", *arguments])
    with pytest.raises(SystemExit) as ended:
        ranking_vs_l2.main()
    assert ended.value.code == 2
    assert "no cache" in capsys.readouterr().err
