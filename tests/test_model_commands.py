"""The commands about models: what is listed, and what is written where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pvu.onnx_export
from pvu.cli import main
from pvu.models import Model
from pvu.registry import REGISTRY


def test_every_model_of_the_registry_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(REGISTRY)
    assert all(row["available"] or row["reason"] for row in rows)
    assert main(["models"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if "the default" in line] == ["hybrid-vit"]


def test_a_model_is_written_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, Path]] = []

    def write(model: Model, path: Path) -> None:
        written.append((model.name, path))

    monkeypatch.setattr(pvu.onnx_export, "export_onnx", write)
    out = tmp_path / "model.onnx"
    assert main(["export-onnx", str(out), "--model", "efficientnet-lite0", "--json"]) == 0
    assert written == [("efficientnet-lite0", out)]
    said = json.loads(capsys.readouterr().out)
    assert said == {"file": str(out), "model": "efficientnet-lite0", "size": 224, "outputs": ["z", "u"]}


def test_a_folder_that_is_not_there_is_said_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export-onnx", str(tmp_path / "nowhere" / "x.onnx")]) == 2
    assert "does not exist" in capsys.readouterr().err
