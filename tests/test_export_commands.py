"""pvu export: what it writes is what the library writes, and bad input is one line before anything is done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pvu import cli
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.fakes import FakeEncoder

pytestmark = pytest.mark.usefixtures("quick_map")


@pytest.fixture
def dataset(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedDataset:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path / "nowhere"))  # a person at a terminal needs no leave
    opened = embed(photos, model=FakeEncoder(), workers=0)
    Tags.of(opened).set([0, 5], "drop")
    Tags.of(opened).set(9, "fix label", "heron")
    return opened


class Export:
    """Runs ``pvu export`` on the data set, in this process."""

    def __init__(self, dataset: EmbeddedDataset, capsys: pytest.CaptureFixture[str]) -> None:
        self.source = dataset.source
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        code = cli.main(["export", str(self.source), *map(str, arguments)])
        output = self._capsys.readouterr()
        return code, output.out, output.err

    def json(self, *arguments: object) -> Any:
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def export(dataset: EmbeddedDataset, capsys: pytest.CaptureFixture[str]) -> Export:
    return Export(dataset, capsys)


def test_tags_and_shares_choose_and_the_embeddings_go_with_the_table(
    export: Export, dataset: EmbeddedDataset, tmp_path: Path
) -> None:
    out, vectors = tmp_path / "kept.parquet", tmp_path / "kept.npy"
    result = export.json("--what", "not-dropped", "--keep", 0.5, "--out", out, "--embeddings", vectors)
    expected = [row for row in range(12) if dataset.percentiles[row] <= 50 and row not in (0, 5)]
    assert result == {
        "dataset": str(dataset.source),
        "out": str(out),
        "embeddings": str(vectors),
        "images": len(expected),
    }
    table = pd.read_parquet(out)
    assert table["path"].tolist() == [str(dataset.image_path(row)) for row in expected]
    np.testing.assert_array_equal(np.load(vectors), np.asarray(dataset.embeddings)[expected])


def test_copies_links_and_the_same_again(export: Export, dataset: EmbeddedDataset, tmp_path: Path) -> None:
    new, links = tmp_path / "new", tmp_path / "links"
    copied = export.json("--what", "not-dropped", "--copy-to", new)
    assert copied["copy"] == {
        "folder": str(new),
        "copied": 10,
        "linked": 0,
        "there": 0,
        "changed": 0,
        "others": 0,
        "failed": {},
        "no_links": None,
    }
    assert export.json("--what", "not-dropped", "--copy-to", new)["copy"]["there"] == 10
    code, out, _ = export("--what", "fix-label", "--link-to", links, "--by-label", "--fix-labels")
    assert (code, out) == (0, f"1 image linked: {links}.\n")
    assert os.path.samefile(links / "heron" / "1.png", dataset.image_path(9))


def test_what_could_not_be_copied_is_listed(export: Export, dataset: EmbeddedDataset, tmp_path: Path) -> None:
    dataset.image_path(3).unlink()
    code, out, _ = export("--copy-to", tmp_path / "new")
    assert code == 0
    assert out.splitlines() == [
        f"11 images copied, 1 could not be put there: {tmp_path / 'new'}.",
        "  cat/3.png: the original is no longer there",
    ]


def test_a_report(export: Export, tmp_path: Path) -> None:
    page = tmp_path / "photos.html"
    assert export("--report", page)[:2] == (0, f"Report: {page}\n")
    assert page.read_text().startswith("<!doctype html>")


def test_bad_input_is_one_line_and_writes_nothing(export: Export, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    wrong = {
        (): "Say what to write: --out, --embeddings, --copy-to, --link-to or --report.",
        ("--out", tmp_path / "t.xlsx"): "'.xlsx', but the export writes .csv, .parquet, .txt.",
        ("--embeddings", tmp_path / "z.npz"): "'.npz', but the export writes .npy.",
        ("--report", tmp_path / "r.pdf"): "'.pdf', but the export writes .html, .htm.",
        ("--out", tmp_path / "no" / "t.csv"): "does not exist",
        ("--out", tmp_path / "t.csv", "--what", "best"): "There is no choice 'best'.",
        ("--out", tmp_path / "t.csv", "--keep", 90): "90.0 is not above 0 and at most 1",
        ("--copy-to", tmp_path / "a", "--link-to", tmp_path / "b"): "not both",
        ("--out", tmp_path / "t.csv", "--by-label"): "give --copy-to or --link-to too",
        ("--out", tmp_path / "t.csv", "--copy-to", tmp_path / "full"): "holds other things already (thesis.txt",
        ("--what", "unsure", "--copy-to", tmp_path / "new"): "No image is chosen",
        ("--copy-to", export.source / "kept"): "lie in each other",
    }
    before = sorted(path for path in tmp_path.rglob("*") if "pvu-home" not in path.parts)
    for arguments, message in wrong.items():
        code, out, err = export(*arguments)
        assert (code, out) == (2, ""), arguments
        assert err.count("\n") == 1
        assert message in err, arguments
    assert sorted(path for path in tmp_path.rglob("*") if "pvu-home" not in path.parts) == before
