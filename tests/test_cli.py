"""The command line: JSON alone on standard output, one line on standard error for bad input, never a traceback."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import pvu
from pvu import __version__, cli
from pvu.errors import Cancelled
from pvu.store import EmbeddedDataset
from pvu.terminal import plain
from tests.fakes import FakeEncoder, picture, write_pictures

ROOT = Path(__file__).parents[1]


class PictureEncoder(FakeEncoder):
    """Takes pictures too, as the real model does for queries from outside the data set."""

    def encode(self, images: Any, /) -> tuple[np.ndarray, np.ndarray | None]:
        if not isinstance(images, np.ndarray):
            images = np.stack([self.preprocessing.apply(image) for image in images])
        return super().encode(images)


class Command:
    """Runs commands in this process, and keeps what they print apart."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        output = self._capsys.readouterr()
        return code, output.out, output.err

    def json(self, *arguments: object) -> Any:
        """The JSON value of a command that must succeed."""
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def bad(self, *arguments: object) -> str:
        """The one line of a command that must fail for what it was given."""
        code, out, err = self(*arguments)
        assert code == 2, (out, err)
        assert out == ""
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        return err.strip()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], quick_map: None, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Commands with the fake encoder in place of every model."""
    del quick_map
    fake = PictureEncoder()
    monkeypatch.setattr(importlib.import_module("pvu.pipeline"), "_load", lambda _: fake)
    monkeypatch.setattr(importlib.import_module("pvu.models"), "load_model", lambda *_, **__: fake)
    return Command(capsys)


@pytest.fixture
def embedded(run: Command, photos: Path) -> Path:
    """A folder with three labels of four pictures, embedded, and a broken one."""
    (photos / "owl" / "broken.png").write_bytes(b"not a picture")
    assert run("embed", photos, "--workers", 0)[0] == 0
    return photos


def test_embed_says_what_it_did(run: Command, photos: Path) -> None:
    (photos / "owl" / "broken.png").write_bytes(b"not a picture")
    result = run.json("embed", photos, "--workers", 0)
    store = EmbeddedDataset.open(photos)
    assert result.pop("seconds") > 0
    assert result.pop("images_per_second") > 0
    assert result == {
        "dataset": str(photos),
        "store": str(store.path),
        "model": "fake",
        "images": 12,
        "failed": 1,
        "reused": 0,
        "failures": [{"path": "owl/broken.png", "reason": store.failed["error"].iloc[0]}],
    }


def test_embed_again_reuses_everything(run: Command, embedded: Path) -> None:
    result = run.json("embed", embedded, "--workers", 0)
    assert (result["reused"], result["images_per_second"]) == (12, 0)


def test_embed_for_people_lists_what_was_left_out(run: Command, photos: Path) -> None:
    for number in range(25):
        (photos / f"bad{number:02d}.png").write_bytes(b"no")
    code, out, _ = run("embed", photos, "--workers", 0)
    assert code == 0
    assert "photos: 12 images (" in out
    assert "Left out, 25 files:\n  bad00.png: not an image" in out
    assert "bad19.png" in out
    assert "bad20.png" not in out
    assert "and 5 more (--json lists all)" in out


def test_embed_takes_labels_from_a_table(run: Command, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,label,camera\ncat/0.png,kitten,phone\n")
    run.json("embed", photos, "--table", table, "--workers", 0)
    images = EmbeddedDataset.open(photos).images.set_index("path")
    assert images.loc["cat/0.png", ["label", "camera"]].tolist() == ["kitten", "phone"]


def test_search_matches_the_library(run: Command, embedded: Path) -> None:
    dataset = EmbeddedDataset.open(embedded)
    found = run.json("search", embedded, "cat/1.png", "--k", 5)
    row = dataset.find_row("cat/1.png")
    assert row is not None
    expected = dataset.search(row, 5)
    assert found["query"] == {
        "path": "cat/1.png",
        "uncertainty": pytest.approx(float(dataset.uncertainty[row])),
        "percentile": pytest.approx(float(dataset.percentiles[row])),
    }
    assert [list(result) for result in found["results"]] == [["path", "similarity", "uncertainty", "label"]] * 5
    assert [result["path"] for result in found["results"]] == expected["path"].tolist()
    assert [result["similarity"] for result in found["results"]] == pytest.approx(expected["similarity"].tolist())


def test_search_filters_by_share_and_by_value(run: Command, embedded: Path) -> None:
    dataset = EmbeddedDataset.open(embedded)
    limit = dataset.threshold(0.5)
    by_share = run.json("search", embedded, "cat/1.png", "--k", 12, "--keep", 0.5)["results"]
    by_value = run.json("search", embedded, "cat/1.png", "--k", 12, "--max-uncertainty", repr(limit))["results"]
    assert by_share == by_value
    passing = (dataset.uncertainty <= limit).sum() - (dataset.uncertainty[dataset.find_row("cat/1.png")] <= limit)
    assert len(by_share) == passing
    assert max(result["uncertainty"] for result in by_share) <= limit


@pytest.mark.parametrize("query", ["5", "cat/1.png", "file"])
def test_search_takes_a_row_a_path_of_the_set_and_any_file(run: Command, embedded: Path, query: str) -> None:
    expected = "cat/1.png" if query != "5" else EmbeddedDataset.open(embedded).images["path"].iloc[5]
    asked = str(embedded / "cat" / "1.png") if query == "file" else query
    found = run.json("search", embedded, asked)
    assert found["query"]["path"] == expected
    assert expected not in [result["path"] for result in found["results"]]


def test_search_with_a_picture_from_outside(run: Command, embedded: Path, tmp_path: Path) -> None:
    outside = tmp_path / "7"  # a file whose name could be a row
    picture(99, like=sum(b"cat")).save(outside, "PNG")
    found = run.json("search", embedded, outside, "--k", 4)
    assert found["query"]["path"] == str(outside)
    assert 0 <= found["query"]["percentile"] <= 100
    assert {result["label"] for result in found["results"]} == {"cat"}


def test_search_for_people(run: Command, embedded: Path) -> None:
    code, out, _ = run("search", embedded, "cat/1.png", "--k", 3)
    assert code == 0
    assert "Query: cat/1.png" in out
    assert len(re.findall(r"^ +[01]\.\d{3} ", out, re.MULTILINE)) == 3


def test_evaluate_equals_naive_numpy(run: Command, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    write_pictures(folder, [f"{label}/{number}.png" for label in ("cat", "dog", "owl", "yak") for number in range(9)])
    for number, path in enumerate(sorted(folder.rglob("*.png"))[::4]):  # put some into the wrong folder
        path.rename(folder / ("cat", "dog", "owl")[number % 3] / f"moved{number}.png")
    run.json("embed", folder, "--workers", 0)
    result = run.json("evaluate", folder)
    dataset = EmbeddedDataset.open(folder)
    z = np.asarray(dataset.embeddings, np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    cosines = z @ z.T
    np.fill_diagonal(cosines, -np.inf)
    right = dataset.labels[cosines.argmax(axis=1)] == dataset.labels
    assert 0 < right.mean() < 1
    order = np.argsort(dataset.uncertainty, kind="stable")
    risks = np.cumsum(~right[order]) / np.arange(1, len(right) + 1)
    assert (result["images"], result["labels"]) == (36, 4)
    assert result["recall_at_1"] == pytest.approx(right.mean(), abs=1e-6)
    assert result["r_auroc"] == pytest.approx(roc_auc_score(right, -dataset.uncertainty), abs=1e-6)
    assert result["aurc"] == pytest.approx(risks.mean(), abs=1e-6)
    assert result["aurc_oracle"] <= result["aurc"]
    assert "Recall@1" in run("evaluate", folder)[1]


def test_evaluate_without_labels_says_why_not(run: Command, make_photos: Callable[..., Path]) -> None:
    folder = make_photos(5)
    run.json("embed", folder, "--workers", 0)
    assert "many has no labels" in run.bad("evaluate", folder, "--json")


def test_without_a_head_what_is_missing_is_null(run: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headless = PictureEncoder(name="bare", fingerprint="bare-1", has_head=False)
    monkeypatch.setattr(importlib.import_module("pvu.pipeline"), "_load", lambda _: headless)
    run.json("embed", photos, "--workers", 0)
    result = run.json("evaluate", photos)
    assert result["recall_at_1"] == 1
    assert (result["r_auroc"], result["aurc"]) == (None, None)
    found = run.json("search", photos, "cat/1.png")
    assert found["query"] == {"path": "cat/1.png", "uncertainty": None, "percentile": None}
    assert found["results"][0]["uncertainty"] is None
    assert "bare has no uncertainty head" in run.bad("search", photos, "cat/1.png", "--keep", 0.9)
    table = photos.parent / "out.csv"
    run.json("export", photos, "--out", table)
    assert pd.read_csv(table)["percentile"].isna().all()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_writes_every_image_with_its_original(run: Command, embedded: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"table{suffix}"
    result = run.json("export", embedded, "--out", out)
    assert result == {"dataset": str(embedded), "out": str(out), "images": 12}
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    dataset = EmbeddedDataset.open(embedded)
    assert table["path"].tolist() == [str(embedded / path) for path in dataset.images["path"]]
    assert all(Path(path).is_file() for path in table["path"])
    assert table["label"].tolist() == dataset.labels.tolist()
    assert table["uncertainty"].to_numpy() == pytest.approx(dataset.uncertainty)
    assert table["map_x"].to_numpy() == pytest.approx(dataset.coords[:, 0])
    assert {"percentile", "width", "height", "content_hash"} <= set(table.columns)
    assert list(tmp_path.glob("*.partial")) == []


def test_export_keeps_the_certain_and_text_is_paths_alone(run: Command, embedded: Path, tmp_path: Path) -> None:
    out = tmp_path / "paths.txt"
    result = run.json("export", embedded, "--out", out, "--keep", 0.75)
    dataset = EmbeddedDataset.open(embedded)
    kept = dataset.images["path"][dataset.uncertainty <= dataset.threshold(0.75)]
    assert out.read_text().splitlines() == [str(embedded / path) for path in kept]
    assert result["images"] == len(kept) == 9


def test_demo_embeds_and_reports(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pvu import demo

    monkeypatch.setattr(demo, "PHOTOGRAPHS", {label: demo.PHOTOGRAPHS[label] for label in ("cat", "coffee")})
    page = tmp_path / "demo.html"
    result = run.json("demo", "--html", page, "--workers", 0)
    assert (result["images"], result["failed"], result["html"]) == (48, 0, str(page))
    assert page.read_text().startswith("<!doctype html>")


def test_models_lists_the_registry(run: Command) -> None:
    rows = {row["name"]: row for row in run.json("models")}
    assert set(rows["efficientnet-lite0"]) == {"name", "backbone", "head", "available", "reason"}
    assert rows["efficientnet-lite0"]["available"] is True
    assert rows["efficientnet-lite0"]["backbone"] == "tf_efficientnet_lite0"
    large = rows["vit_large_patch16_224.augreg_in21k"]
    assert large["available"] or "downloaded" in large["reason"]
    assert "efficientnet-lite0" in run("models")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["embed", "/no/such/folder"], "There is no folder or .zip at /no/such/folder"),
        (["embed", "/no/such/folder", "--json"], "There is no folder or .zip"),
        (["embed"], "Missing argument 'DIR'"),
        (["embed", "PHOTOS", "--table", "/no/table.csv"], "There is no table at /no/table.csv"),
        (["embed", "PHOTOS", "--workers", "-1"], "--workers"),
        (["search", "PHOTOS", "cat/0.png", "--k", "0"], "--k"),
        (["search", "PHOTOS", "cat/0.png", "--k", "many"], "--k"),
        (["search", "PHOTOS", "cat/0.png", "--keep", "0"], "0.0 is not above 0 and at most 1"),
        (["search", "PHOTOS", "cat/0.png", "--keep", "90"], "90.0 is not above 0 and at most 1"),
        (["search", "PHOTOS", "cat/0.png", "--max-uncertainty", "nan"], "nan is not a number"),
        (["search", "PHOTOS", "cat/0.png", "--keep", ".5", "--max-uncertainty", "1"], "not both"),
        (["search", "PHOTOS", "no.png"], "There is no image at no.png"),
        (["search", "PHOTOS", "9999"], "There is no row 9999"),
        (["search", "PHOTOS", "cat/0.png", "--model", "no_such_model"], "There is no model named 'no_such_model'"),
        (["evaluate", "/no/such/folder"], "neither a store nor a folder that was embedded"),
        (["export", "PHOTOS", "--out", "table.xlsx"], "'.xlsx', but the export writes .csv, .parquet, .txt"),
        (["export", "PHOTOS", "--out", "/no/such/folder/t.csv"], "the folder /no/such/folder does not exist"),
        (["demo", "--html", "/no/such/folder/t.html"], "the folder /no/such/folder does not exist"),
        (["app", "--port", "99999"], "--port"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["embed", "PHOTOS", "--frobnicate"], "--frobnicate"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Command, embedded: Path, arguments: Sequence[str], says: str
) -> None:
    run("models")  # forget what the fixture printed
    assert says in run.bad(*[str(embedded) if argument == "PHOTOS" else argument for argument in arguments])


def test_the_version_and_the_help(run: Command) -> None:
    assert run("--version") == (0, f"pvu {__version__}\n", "")
    for arguments in ([], ["--help"]):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert all(command in out for command in ("models", "demo", "embed", "search", "evaluate", "export", "app"))


def test_the_app_is_started_for_this_computer_only(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def call(command: list[str]) -> int:
        started.append(command)
        return 3

    monkeypatch.setattr(subprocess, "call", call)
    assert run("app", "--port", 8599)[0] == 3
    [command] = started
    assert command[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert command[command.index("--server.address") + 1] == "127.0.0.1"
    assert command[command.index("--server.port") + 1] == "8599"


def test_without_app_py_the_app_says_so(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "pvu" / "cli.py"))
    assert "The app is not beside the package" in run.bad("app")


def test_what_libraries_print_goes_to_standard_error(
    run: Command, embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(*_: object) -> None:
        print("a library says hello")

    monkeypatch.setattr(cli, "_as_query", lambda _, query: (noisy(), query)[1])
    code, out, err = run("search", embedded, "cat/1.png", "--json")
    assert code == 0
    assert len(json.loads(out)["results"]) == 10
    assert "hello" in err


def test_json_has_no_nan() -> None:
    values = {"a": math.nan, "b": [np.float32("inf"), np.int64(3)], "c": (np.float64(0.5), None, "nan", True)}
    assert plain(values) == {"a": None, "b": [None, 3], "c": [0.5, None, "nan", True]}


@pytest.mark.parametrize(
    ("error", "says"),
    [(Cancelled("Cancelled after 3 of 9 images."), "Cancelled after 3"), (KeyboardInterrupt(), "finished is kept")],
)
def test_an_interrupted_run_exits_with_130(
    run: Command, photos: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, says: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(importlib.import_module("pvu.pipeline"), "embed_with_report", stop)
    code, out, err = run("embed", photos, "--json")
    assert (code, out) == (130, "")
    assert says in err


def pvu_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pvu", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_as_a_process_json_is_all_there_is(tmp_path: Path) -> None:
    done = pvu_process("models", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[0]["name"] == "hybrid-vit"
    done = pvu_process("embed", tmp_path / "nowhere", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"There is no folder or .zip at {tmp_path / 'nowhere'}. Check the path.\n"


def test_help_does_not_load_torch() -> None:
    code = "import sys, pvu.cli; print(sorted({'torch', 'faiss', 'pandas', 'timm', 'plotly'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


_WITH_A_FAKE = """
import importlib, sys
import numpy as np
import pvu.assemble, pvu.cli
from tests.fakes import FakeEncoder
pipeline = importlib.import_module("pvu.pipeline")
pipeline._load = lambda _: FakeEncoder(seconds_per_image=0.01)
pvu.assemble.project = lambda embeddings, *_: np.asarray(embeddings[:, :2], np.float32)
sys.exit(pvu.cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="sends Ctrl-C to a process group, as a terminal does")
def test_a_real_ctrl_c_keeps_what_is_finished_and_goes_on_from_there(make_photos: Callable[..., Path]) -> None:
    """The signal goes to every process of the group, the decoding workers too, as a terminal sends it."""
    folder = make_photos(400)
    command = [sys.executable, "-c", _WITH_A_FAKE, "embed", str(folder), "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    stores = Path(os.environ["PVU_HOME"]) / "stores"
    deadline = time.monotonic() + 90
    while not list(stores.glob("*.partial/shards/*.parquet")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert re.search(r"Cancelled after \d+ of 400 images. They are kept", err)
    again = subprocess.run(command, check=True, timeout=90, **pipes)
    result = json.loads(again.stdout)
    assert result["images"] == 400
    assert 256 <= result["reused"] < 400


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["flowers17", "cub_dev"])
def test_evaluation_of_real_photographs_is_what_numpy_says(
    name: str, real_set: Callable[[str], EmbeddedDataset]
) -> None:
    """The whole way with the default model, against similarities of all pairs in one matrix."""
    dataset = real_set(name)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(["evaluate", str(dataset.path), "--json"]) == 0
    result = json.loads(out.getvalue())
    vectors = np.asarray(dataset.embeddings, np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    correct = dataset.labels[similarities.argmax(axis=1)] == dataset.labels
    assert result["images"] == len(dataset.images) == len(correct)
    assert result["recall_at_1"] == pytest.approx(correct.mean(), abs=1e-6)
    assert result["r_auroc"] == pytest.approx(roc_auc_score(correct, -dataset.uncertainty), abs=1e-6)
    assert pvu.metrics.recall_at_1(dataset.embeddings, dataset.labels) == pytest.approx(correct.mean(), abs=1e-6)
    r_auroc = pvu.metrics.r_auroc(dataset.embeddings, dataset.labels, dataset.uncertainty)
    assert r_auroc == pytest.approx(result["r_auroc"], abs=1e-6)
