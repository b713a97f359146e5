"""The first page: choosing images and a model, running, and what came out."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pvu import jobs
from pvu.catalog import find_stores, store_lock
from pvu.paths import home
from pvu.progress import Progress
from pvu.registry import DEFAULT
from pvu.store import EmbeddedDataset
from tests.fakes import picture, write_pictures
from tests.pages.conftest import App

Make = Callable[..., EmbeddedDataset]


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path))


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return buffer.getvalue()


def give_folder(app: App, path: object, table: object = "") -> App:
    app.test.text_input(key="folder_path").set_value(str(path))
    app.test.text_input(key="table_path").set_value(str(table))
    return app.click("Start")


def test_a_new_user_is_offered_a_demo_a_folder_and_an_upload(app: App) -> None:
    app.open()
    assert app.texts("title") == ["Which of your images are uncertain?"]
    tabs = ["A folder on this computer", "Upload", "Embeddings of your own"]
    assert [tab.label.split(": ")[1] for tab in app.test.tabs] == tabs
    (picture,) = [element for element in app.test.get("html") if "pvu-explainer" in element.proto.body]
    assert picture.proto.body.count("<img") == 5
    assert "Open again" not in app.texts("subheader")
    assert app.test.selectbox(key="model").value == DEFAULT
    assert "Try the demo" in [button.label for button in app.test.button]
    assert [box.label for box in app.test.sidebar.selectbox] == []
    assert app.texts("error") == []


def test_a_folder_becomes_an_overview(app: App, job_now: list[dict[str, Any]], photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"no")
    give_folder(app.open(), photos)
    app.run()
    assert job_now == [{"source": str(photos), "model": DEFAULT, "table": None}]
    assert app.texts("title") == ["photos"]
    assert {metric.label: metric.value for metric in app.test.metric} == {
        "Images": "12",
        "Left out": "1",
        "Labels": "3",
    }
    assert "broken.png" in app.test.dataframe[0].value["File"].tolist()
    dataset = EmbeddedDataset(find_stores()[0])
    order = dataset.uncertainty.argsort(kind="stable").tolist()
    assert app.galleries.rows("certain") == order
    assert app.galleries.rows("uncertain") == order[::-1]
    assert len(app.charts()) == 1
    assert app.test.query_params["dataset"] == dataset.path.name
    assert app.test.sidebar.selectbox[0].options == ["photos · 12 images"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "Give the path of a folder."),
        ("{tmp}/absent", "There is no folder at {tmp}/absent. Check the path."),
        ("/etc", "/etc is outside the folders that this app may read ({tmp}). To allow more, start it with PVU_ROOTS."),
        ("{tmp}/../../../../../../../../etc", "is outside the folders that this app may read"),
        ("{tmp}/link", "{tmp}/link is outside the folders that this app may read"),
        ("{tmp}/" + "x" * 5000, "cannot be read"),
        ("~nobody-of-this-name/pictures", "cannot be read"),
        ("{tmp}/zero\0byte", "cannot be read"),
    ],
)
def test_a_wrong_path_is_one_sentence(
    app: App, job_now: list[dict[str, Any]], tmp_path: Path, path: str, message: str
) -> None:
    (tmp_path / "link").symlink_to("/etc")
    give_folder(app.open(), path.replace("{tmp}", str(tmp_path)))
    (error,) = app.texts("error")
    assert message.replace("{tmp}", str(tmp_path)) in error
    assert job_now == []
    assert not (home() / "jobs").exists()


def test_a_wrong_table_is_one_sentence(app: App, job_now: list[dict[str, Any]], photos: Path) -> None:
    give_folder(app.open(), photos, "/etc/passwd")
    assert "outside the folders" in app.texts("error")[0]
    give_folder(app, photos, photos / "absent.csv")
    assert app.texts("error") == [f"There is no CSV at {photos / 'absent.csv'}. Check the path."]
    assert job_now == []


def test_a_table_is_passed_on(app: App, job_now: list[dict[str, Any]], photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("path,label\ncat/0.png,a\ndog/0.png,b\n")
    give_folder(app.open(), photos, tmp_path / "mine.csv")
    app.run()
    assert job_now[0]["table"] == str(tmp_path / "mine.csv")
    assert {metric.label: metric.value for metric in app.test.metric}["Labels"] == "2"


@pytest.mark.usefixtures("job_now")
def test_a_folder_without_images_says_what_was_found(app: App, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    give_folder(app.open(), tmp_path / "empty")
    app.run()
    (error,) = app.texts("error")
    assert error.startswith(f"Found 0 images in {tmp_path / 'empty'}. Supported extensions:")
    app.click("Choose other images")
    app.run()
    assert app.texts("title") == ["Which of your images are uncertain?"]


def test_names_are_text_never_markdown(app: App, job_now: list[dict[str, Any]], tmp_path: Path) -> None:
    name = "![x](http:example.org) $a$ *b*"
    write_pictures(tmp_path / name, ["1.png", "2.png", "3.png"])
    give_folder(app.open(), tmp_path / name)
    app.run()
    assert app.texts("title") == [name]
    assert "![" not in app.test.title[0].value
    assert "![" not in "".join(caption.value for caption in app.test.caption)
    assert len(job_now) == 1


def test_an_uploaded_folder_is_kept_under_pvu_home(app: App, job_now: list[dict[str, Any]]) -> None:
    app.open()
    files = [(f"trip/{label}/{i}.png", png(i), "image/png") for label in ("cat", "dog") for i in range(3)]
    app.test.file_uploader(key="upload_folder").set_value(files)
    app.run().click("Start with 6 files")
    app.run()
    source = Path(job_now[0]["source"])
    assert source.is_relative_to(home() / "sources")
    assert {metric.label: metric.value for metric in app.test.metric} == {"Images": "6", "Left out": "0", "Labels": "2"}


def upload_zip(app: App, data: bytes, name: str = "pictures.zip") -> App:
    app.open()
    app.test.button_group(key="upload_kind").set_value(".zip").run()
    app.test.file_uploader(key="upload_zip").set_value((name, data, "application/zip"))
    app.run()
    app.test.button(key="start_zip").click().run()
    return app.checked()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_an_uploaded_zip(app: App, job_now: list[dict[str, Any]]) -> None:
    upload_zip(app, zipped(**{f"{label}/{i}.png": png(i) for label in "ab" for i in range(3)}))
    app.run()
    assert Path(job_now[0]["source"]).is_relative_to(home() / "sources")
    assert app.test.metric[0].value == "6"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zipped(**{"../../evil.png": b"x"}), "leads outside its folder. Nothing was written."),
        (zipped(**{"/etc/cron.d/evil": b"x"}), "leads outside its folder. Nothing was written."),
        (zipped(**{"bomb.png": bytes(50_000_000)}), "times when unpacked. Nothing was written."),
        (zipped(), "pictures holds no files."),
        (b"PK\3\4 and then nothing", "pictures is not a .zip that can be read"),
    ],
)
def test_a_hostile_zip_writes_nothing(
    app: App, job_now: list[dict[str, Any]], tmp_path: Path, data: bytes, message: str
) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    upload_zip(app, data)
    (error,) = app.texts("error")
    assert message in error
    assert job_now == []
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_an_uploaded_name_that_climbs_writes_nothing(app: App, job_now: list[dict[str, Any]], tmp_path: Path) -> None:
    app.open()
    app.test.file_uploader(key="upload_folder").set_value([("a/../../../evil.png", png(), "image/png")])
    app.run().click("Start with 1 file")
    assert "leads outside its folder. Nothing was written." in app.texts("error")[0]
    assert job_now == []
    assert list(tmp_path.rglob("*.png")) == []


def other_model(app: App, name: str) -> App:
    app.open()
    app.test.selectbox(key="model").set_value("another timm model …").run()
    app.test.text_input(key="other_model").set_value(name).run()
    return app.checked()


def test_a_model_that_does_not_exist_starts_nothing(app: App) -> None:
    other_model(app, "resnet1.5")
    assert "There is no model named 'resnet1.5'." in app.texts("error")[0]
    assert [tab.label for tab in app.test.tabs] == []


def test_weights_outside_the_roots_are_not_read(app: App) -> None:
    other_model(app, "resnet18@/etc/passwd")
    assert "/etc/passwd is outside the folders that this app may read" in app.texts("error")[0]


def test_a_model_of_the_hub_says_what_it_needs(app: App) -> None:
    other_model(app, "resnet10t.c3_in1k")
    assert any("downloaded from the Hugging Face hub on first use" in text for text in app.texts("caption"))
    assert any("It has no uncertainty head yet." in text for text in app.texts("caption"))
    assert len(app.test.tabs) == 3


def test_a_link_opens_a_data_set(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    make_dataset("newer")
    app.open(dataset=dataset.path.name)
    assert app.texts("title") == ["pets"]


def test_back_to_another_data_set_opens_it_and_forgets_the_rows(app: App, make_dataset: Make) -> None:
    first, second = make_dataset("first"), make_dataset("second")
    app.open("map", dataset=first.path.name)
    app.test.sidebar.selectbox[0].set_value(str(second.path)).run()
    app.maps.does("map", clicked=7)
    assert app.run().map["version"] == second.version
    assert app.run().ringed == [7]
    app.test.query_params["dataset"] = first.path.name  # as the browser's button does
    assert app.run().map["version"] == first.version
    assert app.ringed == []


def test_a_link_to_an_unknown_data_set_says_so_and_offers_the_beginning(app: App) -> None:
    app.open(dataset="../../somewhere")
    assert "is not on this computer" in app.texts("warning")[0]
    assert app.texts("title") == ["Which of your images are uncertain?"]
    assert "dataset" not in app.test.query_params


def test_another_data_set_is_one_choice_away(app: App, make_dataset: Make) -> None:
    first, second = make_dataset("first"), make_dataset("second", ("x", "y"))
    app.open(dataset=first.path.name)
    box = app.test.sidebar.selectbox[0]
    assert box.options == ["second · 24 images", "first · 36 images"]
    box.set_value(str(second.path)).run()
    app.checked()
    assert app.texts("title") == ["second"]
    assert app.test.query_params["dataset"] == second.path.name
    app.click("Other images …")
    assert app.texts("title") == ["Which of your images are uncertain?"]
    assert app.test.sidebar.selectbox[0].value is None


def test_the_model_is_named_where_one_folder_was_embedded_with_two(app: App, make_dataset: Make) -> None:
    make_dataset()
    manifest = find_stores()[0] / "manifest.json"
    twin = manifest.parent.with_name("twin")
    manifest.parent.rename(twin)
    text = (twin / "manifest.json").read_text().replace('"fake"', '"other"')
    (twin / "manifest.json").write_text(text)
    make_dataset()
    assert sorted(app.open().test.sidebar.selectbox[0].options) == [
        "pets · 36 images · fake",
        "pets · 36 images · other",
    ]


def test_a_damaged_store_is_said_in_a_sentence(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    (dataset.path / "embeddings.npy").write_bytes(b"no")
    app.open(dataset=dataset.path.name)
    (error,) = app.texts("error")
    assert "is damaged" in error
    assert "Delete it and embed the folder again." in error
    assert app.texts("title") == ["Which of your images are uncertain?"]


def test_a_model_without_a_head_says_what_is_missing(app: App, make_dataset: Make) -> None:
    dataset = make_dataset(has_head=False)
    app.open(dataset=dataset.path.name)
    assert "The model fake has no uncertainty head" in app.texts("warning")[0]
    assert app.charts() == []
    assert app.galleries.shown == {}
    assert len(app.links()) == 6
    assert "train" in app.links()


def test_data_sets_of_one_image_and_of_equal_images(app: App, tmp_path: Path, make_dataset: Make) -> None:
    single = make_dataset("single", (), count=1)
    app.open(dataset=single.path.name)
    assert app.galleries.rows("few") == [0]
    assert app.texts("subheader") == ["Your images, the most uncertain first"]
    for number in range(5):
        (tmp_path / "equal").mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), "grey").save(tmp_path / "equal" / f"{number}.png")
    equal = make_dataset("equal", (), count=5)
    app.run().test.sidebar.selectbox[0].set_value(str(equal.path)).run()
    app.checked()
    assert app.texts("title") == ["equal"]


def test_a_click_on_an_image_opens_it(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open(dataset=dataset.path.name)
    row = app.galleries.rows("uncertain")[2]
    app.galleries.click("uncertain", row)
    app.run()
    assert app.test.session_state["pvu_panel"] == row
    assert app.texts("title") == ["pets"]


def running(source: str = "/data/cats", **status: Any) -> jobs.Job:
    """A job that another browser tab has started."""
    arguments = {"source": source, "model": DEFAULT, "table": None}
    job = jobs.find_job("embed", **arguments)
    job.folder.mkdir(parents=True)
    (job.folder / "job.json").write_text(json.dumps({"kind": "embed", "arguments": arguments}))
    (job.folder / "status.json").write_text(json.dumps({"state": "starting", "started": time.time(), **status}))
    return job


def test_a_run_that_is_under_way_is_found_again_and_can_be_cancelled(app: App, job_now: list[dict[str, Any]]) -> None:
    progress = Progress("images", 250, 1000, 25.0, 30.0, 3)
    job = running(progress=vars(progress))
    app.open()
    assert app.texts("title") == ["Looking at your images"]
    assert f"**cats** with {DEFAULT}" in app.texts("markdown")
    (bar,) = app.test.get("progress")
    assert bar.proto.value == 12 + 70 // 4
    assert bar.proto.text == "Computing embeddings and uncertainties: 250 of 1,000, 25 images/s, 30 s left"
    assert "3 files could not be read so far; they will be listed." in app.texts("caption")
    app.click("Cancel")
    assert (job.folder / "cancel").exists()
    assert "Stopping after this batch …" in app.texts("caption")
    assert app.test.button(key="embed:cancel").disabled
    assert job_now == []


@pytest.mark.parametrize("phase", ["scan", "model", "images", "neighbors", "map", "save"])
def test_every_phase_has_its_place_on_the_bar(app: App, phase: str) -> None:
    running(progress=vars(Progress(phase)))
    app.open()
    (bar,) = app.test.get("progress")
    assert 0 <= bar.proto.value <= 100


def test_a_cancelled_run_goes_on(app: App, job_now: list[dict[str, Any]], photos: Path) -> None:
    job = running(str(photos))
    app.open()
    (job.folder / "status.json").write_text(json.dumps({"state": "cancelled", "message": "Kept: 5 of 12 images."}))
    app.run()
    assert app.texts("info") == ["Kept: 5 of 12 images."]
    app.click("Go on")
    app.run()
    assert len(job_now) == 1
    assert app.texts("title") == ["photos"]


def test_what_was_embedded_before_is_one_click_away(app: App, make_dataset: Make) -> None:
    for name in ("a", "b", "c", "d", "e", "f", "*g*"):
        make_dataset(name, ("x", "y"), count=2)
    app.open()
    titles = [text for text in app.texts("markdown") if text.startswith("**")]
    assert titles[:6] == ["***g***", *(f"**{name}**" for name in "fedcb")]
    assert "1 more in the box “Open data set” in the menu." in app.texts("caption")
    assert any("4 images · fake · today" in text for text in app.texts("caption"))
    assert "What uncertainty means here" in app.texts("subheader")
    opener = [button for button in app.test.button if button.label == "Open"][2]
    opener.click().run()
    app.checked()
    assert app.texts("title") == ["e"]


def test_a_store_is_deleted_and_the_images_stay(app: App, make_dataset: Make) -> None:
    kept, gone = make_dataset("kept"), make_dataset("gone")
    app.open()
    app.test.button(key=f"delete:{gone.path.name}").click().run()
    app.checked()
    assert find_stores() == [kept.path]
    assert not gone.path.exists()
    assert gone.image_path(0).is_file()
    with store_lock(kept.path):
        app.test.button(key=f"delete:{kept.path.name}").click().run()
    assert "A run is working on" in app.checked().texts("error")[0]
    assert kept.path.is_dir()


def test_a_run_stopped_before_the_reload_goes_on_or_is_forgotten(
    app: App, job_now: list[dict[str, Any]], photos: Path
) -> None:
    goes_on = running(str(photos), state="cancelled", message="Kept: 5 of 12 images.")
    forgotten = running("/data/dogs", state="cancelled", message="Kept: 1 of 9 images.")
    running("/data/wrong", state="failed", message="Found 0 images.")
    app.open()
    assert {"Kept: 5 of 12 images.", "Kept: 1 of 9 images."} < set(app.texts("caption"))
    assert "Found 0 images." not in app.texts("caption")
    app.test.button(key=f"forget:{forgotten.folder.name}").click().run()
    app.checked()
    assert not forgotten.folder.exists()
    app.test.button(key=f"go_on:{goes_on.folder.name}").click().run()
    app.checked().run()
    assert [asked["source"] for asked in job_now] == [str(photos)]
    assert app.texts("title") == ["photos"]
