"""The retrieval page: a query, two columns, and what the slider changes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from pvu.images import Preprocessing, read_bytes
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, picture
from tests.pages.conftest import App

Make = Callable[..., EmbeddedDataset]


class PictureEncoder(FakeEncoder):
    """Takes pictures too, as the real model does."""

    def encode(self, images: Sequence[Image.Image] | np.ndarray, /) -> tuple[np.ndarray, np.ndarray | None]:
        if not isinstance(images, np.ndarray):
            images = np.stack([Preprocessing(size=32).apply(image) for image in images])
        return super().encode(images)


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> PictureEncoder:
    encoder = PictureEncoder()
    monkeypatch.setattr("pvu.models.load_model", lambda _: encoder)
    return encoder


def open_query(app: App, dataset: EmbeddedDataset, row: int) -> App:
    app.open(dataset=dataset.path.name)
    app.test.session_state["query_row"] = row
    return app.go("retrieval")


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def upload(app: App, name: str, data: bytes) -> App:
    app.test.file_uploader(key="picture").set_value((name, data, "image/png"))
    app.galleries.shown.clear()
    app.test.run()
    return app.checked()


def test_without_a_data_set_it_says_where_to_begin(app: App) -> None:
    app.open("retrieval")
    assert app.texts("title") == ["Search by image"]
    assert app.texts("info")[0].startswith(
        "No data set is open yet. Once one is, this page shows the images most similar"
    )
    assert len(app.links()) == 1


def test_without_a_query_there_are_pictures_to_choose_from(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    first = app.galleries.rows("pick")
    assert len(set(first)) == 16
    assert "all" not in app.galleries.shown
    app.click("Others")
    assert app.galleries.rows("pick") != first
    app.test.selectbox(key="pick_order").set_value("most uncertain").run()
    app.checked()
    app.test.text_input(key="find").set_value("DOG").run()
    app.checked()
    assert {dataset.labels[row] for row in app.galleries.rows("pick")} == {"dog"}
    app.test.text_input(key="find").set_value("*no* such").run()
    assert app.checked().texts("info") == ["No path or label holds “*no* such”."]


def test_a_chosen_picture_is_searched_with(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    row = app.galleries.rows("pick")[3]
    app.galleries.click("pick", row)
    app.run()
    assert app.test.query_params["query"] == str(row)
    assert app.texts("subheader")[0] == dataset.labels[row]
    assert app.galleries.rows("all") == dataset.search(row, 12)["row"].tolist()
    assert row not in app.galleries.rows("all") + app.galleries.rows("filtered")


def test_originals_outside_the_allowed_folders_are_not_read(
    app: App, make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset()
    read: list[object] = []
    monkeypatch.setattr("pvu.ui.querying.read_bytes", lambda path: read.append(path) or read_bytes(path))
    monkeypatch.setenv("PVU_ROOTS", str(dataset.source / "elsewhere"))
    open_query(app, dataset, 2)
    assert read == []
    monkeypatch.setenv("PVU_ROOTS", str(dataset.source))
    open_query(app, dataset, 3)
    assert read == [dataset.image_path(3)]


def test_the_slider_decides_what_is_hidden(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    row = int(np.argsort(dataset.uncertainty)[3])
    open_query(app, dataset, row)
    app.test.slider(key="hide").set_value(0).run()
    app.checked()
    assert app.galleries.rows("all") == app.galleries.rows("filtered")
    assert app.galleries.marks("all") == app.galleries.marks("filtered") == []
    assert any("Nothing is hidden yet: move the slider." in text for text in app.texts("caption"))
    app.test.slider(key="hide").set_value(50).run()
    app.checked()
    limit = dataset.threshold(0.5)
    everything = dataset.search(row, 12)["row"].tolist()
    filtered = dataset.search(row, 12, max_uncertainty=limit)["row"].tolist()
    assert everything != filtered
    assert app.galleries.rows("all") == everything
    assert app.galleries.rows("filtered") == filtered
    assert app.galleries.marks("all") == [other for other in everything if dataset.uncertainty[other] > limit]
    assert app.galleries.marks("filtered") == [other for other in filtered if other not in everything]
    assert "Without the most uncertain 50 %" in app.texts("subheader")
    same = np.mean([dataset.labels[other] == dataset.labels[row] for other in everything])
    assert f"Precision@12: **{100 * same:.0f} %**" in app.texts("markdown")
    app.test.slider(key="k").set_value(4).run()
    assert app.checked().galleries.rows("all") == everything[:4]


def test_the_choice_stays_over_a_visit_to_another_page(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    open_query(app, dataset, 5)
    app.test.slider(key="hide").set_value(40).run()
    app.go("evaluation").go("retrieval")
    assert app.test.slider(key="hide").value == 40
    assert app.test.query_params["query"] == "5"


def test_an_uncertain_query_is_warned_about(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    order = np.argsort(dataset.uncertainty)
    open_query(app, dataset, int(order[-1]))
    assert "**100 %** of the data set" in "".join(app.texts("markdown"))
    assert app.texts("warning") == ["The picture is itself uncertain, so its results may be of little use."]


def test_a_certain_query_is_not_warned_about(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    open_query(app, dataset, int(np.argsort(dataset.uncertainty)[0]))
    assert app.texts("warning") == []


@pytest.mark.parametrize("query", ["36", "-1", "²", "9" * 5000, "two", "", "1.5"])
def test_a_link_to_a_row_that_does_not_exist_offers_a_choice(app: App, make_dataset: Make, query: str) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    app.test.query_params["query"] = query
    app.run()
    assert app.texts("title") == ["Search by image"]
    assert "all" not in app.galleries.shown
    assert len(app.galleries.rows("pick")) == 16


def test_a_link_to_a_row_opens_it(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    app.test.query_params["query"] = "7"
    app.run()
    assert app.galleries.rows("all") == dataset.search(7, 12)["row"].tolist()


def test_another_data_set_leaves_the_query_behind(app: App, make_dataset: Make) -> None:
    first, second = make_dataset("first"), make_dataset("second")
    open_query(app, first, 7)
    app.test.sidebar.selectbox[0].set_value(str(second.path)).run()
    app.checked()
    assert app.texts("title") == ["Search by image"]
    assert "query" not in app.test.query_params
    assert app.test.session_state["pvu_store"] == str(second.path)


def test_a_new_picture_is_searched_with(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    copy = Image.open(dataset.image_path(4))
    upload(app, "mine.png", png(copy))
    assert app.texts("subheader")[0] == "mine.png"
    assert app.galleries.rows("all")[0] == 4
    assert app.galleries.shown["all"][0]["similarity"] == "1.00"
    assert "query" not in app.test.query_params
    assert not any("Precision" in text for text in app.texts("markdown"))
    app.galleries.click("all", 4)
    app.run()
    assert app.texts("subheader")[0] == dataset.labels[4]
    assert 4 not in app.galleries.rows("all")


@pytest.mark.parametrize("data", [b"", b"not a picture", png(picture(1))[:200]])
def test_a_broken_picture_is_one_sentence(app: App, make_dataset: Make, data: bytes) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    upload(app, "mine.png", data)
    (error,) = app.texts("error")
    assert error.startswith("mine.png: ")
    assert len(app.galleries.rows("pick")) == 16
    app.run()
    assert app.texts("error") == []


def test_weights_that_have_changed_are_said(app: App, make_dataset: Make, model: PictureEncoder) -> None:
    dataset = make_dataset()
    model.fingerprint = "another"
    app.open("retrieval", dataset=dataset.path.name)
    upload(app, "mine.png", png(picture(1)))
    (error,) = app.texts("error")
    assert "The weights of fake have changed since pets was embedded" in error
    app.galleries.click("pick", app.galleries.rows("pick")[0])  # images of the set need no model
    app.run()
    assert len(app.galleries.rows("all")) == 12


def test_an_original_that_has_moved_is_shown_as_its_thumbnail(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    dataset.image_path(3).unlink()
    open_query(app, dataset, 3)
    assert len(app.galleries.rows("all")) == 12


def test_without_a_head_both_sides_are_the_same_and_say_why(app: App, make_dataset: Make) -> None:
    dataset = make_dataset(has_head=False)
    open_query(app, dataset, 3)
    assert app.test.slider(key="hide").disabled
    assert app.galleries.rows("all") == app.galleries.rows("filtered")
    assert any("This model has no uncertainty head" in text for text in app.texts("caption"))
    assert app.charts() == []


def test_without_labels_the_whole_set_says_why_not(app: App, make_dataset: Make) -> None:
    dataset = make_dataset("plain", (), count=20)
    open_query(app, dataset, 3)
    assert "plain has no labels" in app.texts("info")[0]
    assert app.texts("subheader")[0] == "03.png"
    assert not any("Precision" in text for text in app.texts("markdown"))
    assert {card["same"] for card in app.galleries.shown["all"]} == {None}


def test_one_image_finds_nothing_and_says_nothing_false(app: App, make_dataset: Make) -> None:
    dataset = make_dataset("single", (), count=1)
    open_query(app, dataset, 0)
    assert app.galleries.rows("all") == app.galleries.rows("filtered") == []


def test_cards_are_text_and_data_never_html(app: App, make_dataset: Make) -> None:
    table = "path,label\n" + "".join(f"{n:02d}.png,<img src=x onerror=alert({n % 2})>\n" for n in range(9))
    dataset = make_dataset("odd", (), count=9, table=table)
    open_query(app, dataset, 3)
    card = app.galleries.shown["all"][0]
    assert card["label"].startswith("<img")  # the component writes it with textContent
    assert card["src"].startswith("data:image/jpeg;base64,")
    assert app.test.subheader[0].value.startswith("\\<img")
