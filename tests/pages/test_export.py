"""The export page: what is chosen is what is counted, shown, downloaded and copied."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pvu import jobs
from pvu.copy_plan import plan_copy
from pvu.copying import copy_images
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.pages.conftest import App

Make = Callable[..., EmbeddedDataset]


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path))


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the download buttons of the last run would give, by their key."""
    given: dict[str, dict[str, Any]] = {}

    def record(label: str, *, data: Any, key: str, **options: Any) -> bool:
        given[key] = {"label": label, "data": data, **options}
        return False

    monkeypatch.setattr("streamlit.download_button", record)
    return given


@pytest.fixture
def dataset(make_dataset: Make) -> EmbeddedDataset:
    return make_dataset()


def opened(app: App, dataset: EmbeddedDataset) -> App:
    return app.open("export", dataset=dataset.path.name)


def choose(app: App, what: str) -> App:
    app.test.radio(key="export_what").set_value(what)
    return app.run()


def count(app: App) -> str:
    return app.texts("markdown")[0]


def test_without_a_data_set_the_page_says_where_to_begin(app: App) -> None:
    app.open("export")
    assert "Once one is, this page shows ways to take out what you found" in app.texts("info")[0]
    assert len(app.links()) == 1


def test_only_what_is_there_can_be_chosen(app: App, dataset: EmbeddedDataset) -> None:
    opened(app, dataset)
    assert app.test.radio(key="export_what").options == [
        *("All images (36)", "The most certain …", "The most uncertain …"),
    ]
    assert count(app) == "**36 of 36 images**"
    assert "Images that you select on the map or tag in the review" in app.texts("caption")[0]
    assert len(app.galleries.rows("export_gallery")) == 8


def test_tags_selection_and_shares_are_counted_and_shown(app: App, dataset: EmbeddedDataset) -> None:
    tags = Tags.of(dataset)
    tags.set(range(4), "drop")
    tags.set([30, 31], "keep")
    opened(app, dataset)
    app.test.session_state[f"selection:{dataset.version}"] = np.array([9, 3, 7])
    app.run()
    assert app.test.radio(key="export_what").options[:5] == [
        *("All images (36)", "Selected on the map (3)", "All but the dropped (32)"),
        *("Tagged keep (2)", "Tagged drop (4)"),
    ]
    expected = {"selected": [3, 7, 9], "kept": [30, 31], "dropped": [0, 1, 2, 3]}
    for what, rows in expected.items():
        choose(app, what)
        assert count(app) == f"**{len(rows)} of 36 images**"
        assert app.galleries.rows("export_gallery") == rows
    choose(app, "uncertain")
    app.test.slider(key="export_share").set_value(20).run()
    assert count(app) == "**7 of 36 images**"
    assert set(app.galleries.rows("export_gallery")) == set(np.argsort(dataset.uncertainty)[-7:].tolist())


def test_downloads_hold_the_chosen_images(
    app: App, dataset: EmbeddedDataset, downloads: dict[str, dict[str, Any]]
) -> None:
    Tags.of(dataset).set(range(4), "drop")
    choose(opened(app, dataset), "not-dropped")
    button = downloads["download_table"]
    assert (button["label"], button["file_name"]) == ("Download CSV", "pets.csv")
    table = pd.read_csv(io.BytesIO(button["data"]()))
    assert table["path"].tolist() == [str(dataset.image_path(row)) for row in range(4, 36)]
    app.test.segmented_control(key="export_format").set_value(".txt").run()
    assert downloads["download_table"]["file_name"] == "pets.txt"
    assert downloads["download_table"]["data"]().decode().splitlines() == table["path"].tolist()
    assert downloads["download_embeddings"]["file_name"] == "pets-embeddings.zip"


def test_a_report_is_written_when_asked_for_and_again_when_tags_change(
    app: App, dataset: EmbeddedDataset, downloads: dict[str, dict[str, Any]]
) -> None:
    opened(app, dataset)
    assert "download_report" not in downloads
    app.click("Write the report")
    page = downloads["download_report"]["data"]
    assert page.startswith("<!doctype html>")
    assert str(dataset.source) not in page
    app.test.checkbox(key="report_paths").set_value(True).run()
    app.click("Write the report")
    assert str(dataset.source) in downloads["download_report"]["data"]
    Tags.of(dataset).set(0, "drop")
    app.run()
    assert "Write the report" in [button.label for button in app.test.button]


def test_images_are_copied_in_a_job_and_the_form_stays_filled(
    app: App, dataset: EmbeddedDataset, job_now: list[dict[str, Any]], tmp_path: Path
) -> None:
    Tags.of(dataset).set(5, "fix label", "wolf")
    new = tmp_path / "new"
    opened(app, dataset)
    app.test.text_input(key="copy_folder").set_value(f"  {new} ")
    app.test.radio(key="copy_layout").set_value("labels")
    app.test.checkbox(key="copy_corrected").set_value(True)
    app.click("Copy 36 images")
    app.run()
    assert [{**asked, "rows": len(asked["rows"])} for asked in job_now] == [
        {
            "store": str(dataset.path),
            "version": dataset.version,
            "rows": 36,
            "link": False,
            "folder": str(new),
            "layout": "labels",
            "corrected": True,
        }
    ]
    assert app.texts("success") == [f"36 images copied: {new}."]
    assert (new / "wolf" / "05.png").read_bytes() == dataset.image_path(5).read_bytes()
    assert app.test.text_input(key="copy_folder").value.strip() == str(new)
    app.test.checkbox(key="copy_link").set_value(True).run()
    app.click("Link 36 images")
    app.run()
    assert app.texts("success") == [f"36 there already: {new}."]


def test_what_could_not_be_copied_is_listed(
    app: App, dataset: EmbeddedDataset, job_now: list[dict[str, Any]], tmp_path: Path
) -> None:
    dataset.image_path(7).unlink()
    opened(app, dataset)
    app.test.text_input(key="copy_folder").set_value(str(tmp_path / "new"))
    app.click("Copy 36 images")
    app.run()
    assert "35 images copied, 1 could not be put there" in app.texts("warning")[0]
    assert app.test.dataframe[0].value.to_dict("records") == [
        {"Image": "cat/07.png", "Why": "the original is no longer there"}
    ]
    assert len(job_now) == 1


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("", "Give the path of a new folder."),
        ("relative", "relative is not a full path."),
        ("/etc/kept", "/etc/kept is outside the folders that this app may use"),
        ("{tmp}/pets/kept", "lie in each other"),
        ("{tmp}/pvu-home/stores/kept", "where pvu keeps its own files"),
        ("{tmp}/no/kept", "{tmp}/no does not exist"),
    ],
)
def test_a_folder_that_will_not_do_is_one_sentence(
    app: App, dataset: EmbeddedDataset, job_now: list[dict[str, Any]], tmp_path: Path, folder: str, message: str
) -> None:
    opened(app, dataset)
    app.test.text_input(key="copy_folder").set_value(folder.replace("{tmp}", str(tmp_path)))
    app.click("Copy 36 images")
    assert message.replace("{tmp}", str(tmp_path)) in app.texts("error")[0]
    assert job_now == []


def test_a_copy_under_way_is_shown_and_can_be_cancelled_and_gone_on_with(
    app: App, dataset: EmbeddedDataset, job_now: list[dict[str, Any]], tmp_path: Path
) -> None:
    arguments = {
        "store": str(dataset.path),
        "version": dataset.version,
        "rows": list(range(36)),
        "link": False,
        "folder": str(tmp_path / "new"),
        "layout": "paths",
        "corrected": False,
    }
    job = jobs.find_job("copy", **arguments)
    job.folder.mkdir(parents=True)
    (job.folder / "job.json").write_text(json.dumps({"kind": "copy", "arguments": arguments}))
    status = {"state": "starting", "started": time.time(), "progress": {"phase": "copy", "done": 9, "total": 36}}
    (job.folder / "status.json").write_text(json.dumps(status))
    opened(app, dataset)
    assert f"36 images to **{tmp_path / 'new'}**" in app.texts("markdown")
    (bar,) = app.test.get("progress")
    assert (bar.proto.value, bar.proto.text) == (25, "Copying the images: 9 of 36")
    app.click("Cancel")
    assert (job.folder / "cancel").exists()
    copy_images(plan_copy(dataset, np.arange(9), tmp_path / "new"))
    (job.folder / "status.json").write_text(json.dumps({"state": "cancelled", "message": "Stopped."}))
    app.run()
    assert "Stopped." in app.texts("info")
    app.click("Go on")
    app.run()
    assert len(job_now) == 1
    assert app.texts("success") == [f"27 images copied, 9 there already: {tmp_path / 'new'}."]


def test_a_data_set_without_a_head_and_one_whose_originals_are_gone(
    app: App, make_dataset: Make, tmp_path: Path
) -> None:
    bare = make_dataset("bare", has_head=False)
    opened(app, bare)
    assert app.test.radio(key="export_what").options == ["All images (36)"]
    bare.source.rename(tmp_path / "moved")
    app.test.text_input(key="copy_folder").set_value(str(tmp_path / "new"))
    app.click("Copy 36 images")
    assert "The originals of bare are no longer at" in app.texts("error")[0]
