from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from pvu.checkpoint import save_head
from pvu.head import UncertaintyHead
from pvu.models import load_model
from training import evaluate
from training.evaluation.models import Options, evaluate_model


@pytest.fixture
def names(encoder, monkeypatch: pytest.MonkeyPatch):
    """Any model name gives the fake encoder with an untrained head."""
    torch.manual_seed(0)
    head = UncertaintyHead(48, 8).requires_grad_(False)
    facts = {
        "device": "cpu",
        "dim": 48,
        "head_dims": (48,),
        "precision": torch.float32,
        "head": head,
        "backbone": encoder.backbone,
    }
    calls = {"represent": encoder.represent, "logits": encoder.logits, "preprocessing": encoder.preprocessing}
    monkeypatch.setattr(evaluate, "load_model", lambda name: SimpleNamespace(name=name, **facts, **calls))


def run(data: Path, out: Path, *more: str) -> None:
    evaluate.main(
        ["--data", str(data), "--sets", "labelled", "--resamples", "20", "--workers", "0", *more, "--out", str(out)]
    )


@pytest.mark.usefixtures("names")
def test_one_command_writes_numbers_tables_and_figures(data: Path, tmp_path: Path, capsys) -> None:
    run(data, tmp_path / "results.json", "--sheets", str(tmp_path / "sheets"))
    (model,) = json.loads((tmp_path / "results.json").read_text())["models"]
    found = model["sets"]["labelled"]
    assert (model["model"], found["images"], found["labels"], found["classified"]) == ("default", 20, 4, 20)
    printed = capsys.readouterr().out
    assert f"| labelled | 20 | 4 | {found['recall_at_1']['value']:.3f} [" in printed
    assert (tmp_path / "results" / "tables.md").read_text().strip() == printed.strip()
    assert "Plotly.newPlot(" in (tmp_path / "results" / "figures.html").read_text()
    assert len(list((tmp_path / "results" / "encodings").iterdir())) == 3
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["labelled--default--u.jpg"]


@pytest.mark.usefixtures("names")
def test_heads_and_models_share_a_table(data: Path, tmp_path: Path, capsys) -> None:
    torch.manual_seed(1)
    for name in ("a", "b"):
        save_head(UncertaintyHead(48, 8), tmp_path / f"{name}.safetensors", metadata={}, dtype=torch.float32)
    files = [str(tmp_path / "a.safetensors"), f"second={tmp_path / 'b.safetensors'}"]
    run(data, tmp_path / "heads", "--skip", "crops", "degradations", "--head", *files)
    assert "| R@1 | a | second | random |" in capsys.readouterr().out
    assert (tmp_path / "heads" / "results.json").is_file()
    run(data, tmp_path / "models", "--skip", "crops", "degradations", "--model", "one", "two")
    assert "| two | labelled | 20 |" in capsys.readouterr().out


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--head", "missing.safetensors"], "missing.safetensors"),
        (["--model", "one", "two", "--head", "a.safetensors"], "--head goes with one --model"),
        (["--head", "x/a.safetensors", "y/a.safetensors"], "Two files are named a"),
        (["--humans", "birds=votes.csv"], "name birds"),
        (["--ood", "labelled:birds"], "name birds"),
    ],
)
def test_bad_input_is_one_sentence(data: Path, tmp_path: Path, capsys, more: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(data, tmp_path / "results.json", *more)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_mixtures_by_default_are_those_of_the_sets_that_are_there(tmp_path: Path) -> None:
    def mixtures(*more: str) -> list[str]:
        arguments = evaluate.parser().parse_args(["--data", "d", "--out", "o", *more])
        return list(evaluate.options_of(arguments, tmp_path).mixtures)

    assert mixtures() == [evaluate.OOD]
    assert mixtures("--sets", "cub_dev") == []
    assert mixtures("--ood") == []
    assert mixtures("--ood", "cub_dev:flowers17") == ["cub_dev:flowers17"]


@pytest.mark.shared_data
def test_numbers_of_real_photographs_are_a_naive_computation(shared_data, tmp_path: Path) -> None:
    """The bundled model on ten images of each of eight flowers, against Pillow and numpy alone."""
    folders = sorted({path.parent for path in shared_data.folder("flowers17").rglob("*.jpg")})[:8]
    for folder in folders:
        (tmp_path / "flowers" / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:10]:
            (tmp_path / "flowers" / folder.name / path.name).write_bytes(path.read_bytes())
    model = load_model("default")
    report, _ = evaluate_model(model, tmp_path, ["flowers"], options=Options(workers=0, skip=["crops", "degradations"]))
    found = report.sets["flowers"]
    paths = sorted((tmp_path / "flowers").rglob("*.jpg"))
    z, u = model.encode([Image.open(path) for path in paths])
    assert u is not None
    unit = z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)
    nearest = (unit @ unit.T - 2 * np.eye(len(paths))).argmax(1)
    correct = np.array([paths[i].parent == paths[j].parent for i, j in enumerate(nearest)])
    assert 0 < correct.sum() < len(correct) == 80
    assert found.recall_at_1.value == pytest.approx(correct.mean(), abs=1e-6)
    assert found.uncertainties["u"].r_auroc.value == pytest.approx(roc_auc_score(correct, -u), abs=1e-6)
