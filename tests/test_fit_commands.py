"""pvu fit: prints what the library measures, uses the head only when asked to, and says in one line what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pvu import cli, fitting
from pvu.fitting import FitConfig
from pvu.models import load_model
from pvu.own_heads import candidate_of
from pvu.pipeline import embed
from pvu.registry import own_head_path
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder
from tests.headless import QUICK, embed_pets, write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture
def dataset(weights: Path, tmp_path: Path, quick_map: None, monkeypatch: pytest.MonkeyPatch) -> EmbeddedDataset:
    monkeypatch.setattr(FitConfig, "steps_for", lambda *_: QUICK.steps)
    return embed_pets(tmp_path, weights)


def fit(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["fit", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code, out, _ = fit(capsys, *arguments, "--json")
    assert code == 0
    result: dict[str, Any] = json.loads(out)
    return result


def test_it_measures_and_uses_nothing(dataset: EmbeddedDataset, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = fit(capsys, dataset.source)
    assert code == 0
    candidate = candidate_of(dataset)
    assert candidate is not None
    assert f"pets: a head for {dataset.manifest['model']} from 60 images with 4 labels" in out
    for name, score in candidate.scores.items():
        assert f"  {fitting.NAMES[name]:60}{score.value:.4f}" in out
    assert fitting.advice(candidate.scores) in out
    assert "add --save to use it" in out
    assert "Traceback" not in err
    assert not own_head_path(dataset.manifest["model"]).exists()


def test_save_puts_it_to_use(dataset: EmbeddedDataset, capsys: pytest.CaptureFixture[str]) -> None:
    result = as_json(capsys, dataset.source, "--save", "--seed", 4)
    assert Path(result["head"]) == own_head_path(dataset.manifest["model"])
    assert Path(result["card"]).is_file()
    made = EmbeddedDataset(Path(result["store"]))
    assert made.manifest["fingerprint"] == load_model(dataset.manifest["model"]).fingerprint
    assert made.manifest["fitted_head"]["config"]["seed"] == 4
    assert result["r_auroc"]["random"] == [0.5, 0.5, 0.5]
    assert result["beats_chance"] is (result["r_auroc"]["head"][1] > 0.5)


def test_the_json_says_that_nothing_is_in_use(dataset: EmbeddedDataset, capsys: pytest.CaptureFixture[str]) -> None:
    result = as_json(capsys, dataset.source)
    assert result["store"] is None
    assert Path(result["head"]).is_file()
    assert (result["images"], result["labels"]) == (60, 4)


def test_a_set_without_labels_is_one_line(
    make_photos: Any, quick_map: None, capsys: pytest.CaptureFixture[str]
) -> None:
    embed(make_photos(8), model=FakeEncoder(has_head=False), workers=0)
    code, out, err = fit(capsys, make_photos(8))
    assert (code, out) == (2, "")
    assert err.strip().splitlines()[-1].startswith("many has no labels, and a head learns from them")
