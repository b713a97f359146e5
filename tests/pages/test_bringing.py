"""The form for embeddings of one's own, and tables of images in the folder's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pvu import jobs
from pvu.bring import bring
from pvu.progress import PHASES
from pvu.ui.runs import WORDS
from pvu.ui.state import PAGES
from tests.pages.conftest import App


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path / "allowed"))


@pytest.fixture
def allowed(tmp_path: Path, photos: Path) -> Path:
    """A folder that the app may read: twelve pictures, embeddings of them, and a table."""
    folder = tmp_path / "allowed"
    folder.mkdir()
    photos.rename(folder / "photos")
    paths = sorted(path.relative_to(folder / "photos").as_posix() for path in (folder / "photos").rglob("*.png"))
    np.save(folder / "clip.npy", np.random.default_rng(0).normal(size=(12, 6)))
    table = pd.DataFrame({"path": paths, "uncertainty": np.arange(12) / 10, "site": list("abcabcabcabc")})
    table.to_csv(folder / "t.csv", index=False)
    return folder


def give(app: App, **fields: object) -> App:
    for name, value in fields.items():
        app.test.text_input(key=f"bring_{name}").set_value(str(value))
    return app.click("Make the data set")


def test_files_become_a_data_set(app: App, job_now: list[dict[str, Any]], allowed: Path) -> None:
    fields = {"embeddings": allowed / "clip.npy", "table": allowed / "t.csv", "images": allowed / "photos"}
    give(app.open(), **fields, name="birds $", space="clip")
    assert job_now == [
        {
            **{name: str(path) for name, path in fields.items()},
            "uncertainty": None,
            "name": "birds $",
            "space": "clip",
            "uncertainty_model": None,
        }
    ]
    assert app.texts("title") == ["birds $"]
    assert app.texts("caption")[0] == f"{allowed / 'photos'} · embeddings of your own"
    assert [metric.value for metric in app.test.metric][:2] == ["12", "0"]
    assert app.texts("warning") == []


def test_without_uncertainties_it_says_how_to_get_them(app: App, job_now: list[dict[str, Any]], allowed: Path) -> None:
    give(app.open(), embeddings=allowed / "clip.npy")
    assert app.texts("title") == ["clip"]
    assert app.texts("warning")[0].startswith("These embeddings came without uncertainties")


def test_the_default_model_can_say_how_uncertain_they_are(
    app: App, job_now: list[dict[str, Any]], allowed: Path
) -> None:
    pd.read_csv(allowed / "t.csv").drop(columns="uncertainty").to_csv(allowed / "t.csv", index=False)
    app.open().test.checkbox(key="bring_measure").check()
    give(app, embeddings=allowed / "clip.npy", table=allowed / "t.csv", images=allowed / "photos", name="birds")
    assert job_now[0]["uncertainty_model"] == "hybrid-vit"
    assert app.texts("title") == ["birds"]
    assert app.texts("warning") == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Give the path of a file of embeddings."),
        ({"embeddings": "clip.npy"}, "is not a full path"),
        ({"embeddings": "/etc/passwd"}, "is outside the folders that this app may read"),
        ({"embeddings": "{}/clip.npy", "table": "{}/none.csv"}, "There is no table at"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    fields: dict[str, str], message: str, app: App, job_now: list[dict[str, Any]], allowed: Path
) -> None:
    give(app.open(), **{name: value.format(allowed) for name, value in fields.items()})
    assert message in app.texts("error")[0]
    assert job_now == []


def test_what_is_wrong_inside_the_files_is_said_by_the_job(
    app: App, job_now: list[dict[str, Any]], allowed: Path
) -> None:
    np.save(allowed / "clip.npy", np.ones((5, 3)))
    give(app.open(), embeddings=allowed / "clip.npy", table=allowed / "t.csv")
    assert app.texts("error") == [
        "clip.npy has 5 rows, t.csv has 12. Expected one row of the table for each embedding, in the same order."
    ]
    app.click("Choose other files")
    assert app.texts("error") == []


@pytest.mark.parametrize("with_u", [True, False])
def test_every_page_shows_brought_embeddings(with_u: bool, app: App, allowed: Path, quick_map: None) -> None:
    table = pd.read_csv(allowed / "t.csv").assign(label=["cat", "dog"] * 6)
    table.drop(columns=[] if with_u else "uncertainty").to_csv(allowed / "t.csv", index=False)
    dataset = bring(allowed / "clip.npy", table=allowed / "t.csv", images=allowed / "photos", workers=0)
    app.open(dataset=dataset.path.name)
    for page in PAGES:
        app.go(page)
        assert app.texts("error") == [], page
    # The image panel, and the question that only a model can answer.
    app.go("map")
    app.test.session_state["pvu_panel"] = 3
    app.run()
    if with_u:
        app.test.toggle(key="panel_why").set_value(True)
        app.run()
        assert any("were brought, not made here" in text for kind in ("info", "error") for text in app.texts(kind))


def test_every_phase_has_words_and_a_share_of_the_bar() -> None:
    assert "bring" in jobs.KINDS
    assert set(WORDS["bring"].phases) <= set(PHASES)
    assert sum(WORDS["bring"].phases.values()) == sum(WORDS["embed"].phases.values()) == 100


def test_a_table_of_images_is_a_folder_too(app: App, job_now: list[dict[str, Any]], allowed: Path) -> None:
    pictures = [path.read_bytes() for path in sorted((allowed / "photos").rglob("*.png"))]
    table = pa.table({"image": pa.array(pictures, pa.binary()), "label": ["cat", "dog", "owl"] * 4})
    pq.write_table(table, allowed / "pets.parquet")
    app.open().test.text_input(key="folder_path").set_value(str(allowed / "pets.parquet"))
    app.click("Start")
    assert app.texts("title") == ["pets"]
    assert [metric.value for metric in app.test.metric] == ["12", "0", "3"]
