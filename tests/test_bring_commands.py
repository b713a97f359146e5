"""python -m pvu bring."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pvu.cli import main
from pvu.store import EmbeddedDataset

pytestmark = pytest.mark.usefixtures("quick_map")


@pytest.fixture
def brought(photos: Path, tmp_path: Path) -> list[str]:
    """A command line that brings twelve embeddings, one of them of no use."""
    paths = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    z = np.random.default_rng(0).normal(size=(12, 6))
    z[5] = np.nan
    np.save(tmp_path / "clip.npy", z)
    (tmp_path / "t.csv").write_text("path,u\n" + "".join(f"{path},{row}\n" for row, path in enumerate(paths)))
    files = ["--table", str(tmp_path / "t.csv"), "--images", str(photos)]
    return ["bring", str(tmp_path / "clip.npy"), *files, "--name", "birds", "--workers", "0"]


def test_it_says_what_came_of_it(brought: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(brought) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "birds: 11 embeddings, 12 image files found."
    assert printed[1:3] == ["Left out, 1 row:", "  dog/1.png: its embedding holds NaN or infinite values"]
    store = Path(printed[3].removeprefix("Store: "))
    assert EmbeddedDataset(store).uncertainty.tolist() == [row for row in range(12) if row != 5]


def test_json_holds_the_same(brought: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*brought, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    store = printed.pop("store")
    assert printed == {"dataset": "birds", "images": 11, "failed": 1, "pictures": 12, "uncertainty": "given"}
    assert EmbeddedDataset(Path(store)).name == "birds"
    for name in (store, brought[1], brought[5]):  # the store, the embeddings or the folder of images
        assert main(["search", name, "3", "--k", "2", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["results"]) == 2


def test_mistakes_are_one_line(brought: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([brought[0], "nowhere.npy"]) == 2
    assert capsys.readouterr().err == "There is no file at nowhere.npy. Check the path.\n"
    assert main([*brought[:2], "--uncertainty-model", "default"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("None of the images' files was found")
    assert error.count("\n") == 1


def test_without_uncertainties_it_says_how_to_get_them(brought: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(brought[:2]) == 0
    assert "No uncertainties came along: add a column, or --uncertainty-model default" in capsys.readouterr().out
