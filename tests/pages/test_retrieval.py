"""The retrieval page: a query, two columns, and what the slider changes."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from pvu.errors import BadImageError
from pvu.images import Preprocessing
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.ui.pasting import LIMIT, checked
from pvu.ui.searching import DEPTH
from tests.fakes import FakeEncoder, picture
from tests.pages.conftest import App, Galleries, _Component

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
    return upload_all(app, [(name, data)])


def upload_all(app: App, files: list[tuple[str, bytes]]) -> App:
    app.test.file_uploader(key="picture").set_value([(name, data, "image/png") for name, data in files])
    app.galleries.data.clear()
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


def test_the_query_is_shown_by_its_address_never_by_its_path(app: App, make_dataset: Make) -> None:
    dataset = make_dataset("odd", (), count=9, table='path,label\n03.png,"<b>"\n')
    open_query(app, dataset, 3)
    (shown,) = [element.proto.body for element in app.test.get("html") if "<img" in element.proto.body]
    assert re.fullmatch(r'<img src="/pvu/[\w-]+/image/3" alt="03.png" style="[^"<>]*">', shown)


def test_the_slider_decides_what_is_hidden(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    row = int(np.argsort(dataset.uncertainty)[3])
    open_query(app, dataset, row)
    app.test.slider(key="hide").set_value(0).run()
    app.checked()
    assert app.galleries.rows("all") == app.galleries.rows("filtered")
    assert app.galleries.marks("all") == app.galleries.marks("filtered") == []
    assert any("Nothing is hidden yet: move the slider, so both" in text for text in app.texts("caption"))
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
    follow(app, dataset, query=query)
    assert app.texts("title") == ["Search by image"]
    assert "all" not in app.galleries.shown
    assert len(app.galleries.rows("pick")) == 16


def test_a_link_to_a_row_opens_it(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    follow(app, dataset, query="7")
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
    app.click("Search with it")  # in the image panel
    assert app.texts("subheader")[0] == dataset.labels[4]
    assert 4 not in app.galleries.rows("all")
    assert app.test.query_params["query"] in ("4", ["4"])


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
    assert "The weights or the head of fake have changed since pets was embedded" in error
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
    assert app.galleries.data["all"]["thumbs"].startswith("/pvu/")
    assert app.test.subheader[0].value.startswith("\\<img")


def captions(app: App) -> str:
    return " ".join(app.texts("caption"))


def link(app: App) -> dict[str, str]:
    """What the address says beside the data set."""
    params = {name: value[0] if isinstance(value, list) else value for name, value in app.test.query_params.items()}
    return {name: value for name, value in params.items() if name != "dataset"}


def follow(app: App, dataset: EmbeddedDataset, **params: str) -> App:
    """Open a link of the retrieval page as a new visitor."""
    for name, value in params.items():
        app.test.query_params[name] = value
    return app.open("retrieval", dataset=dataset.path.name)


def test_several_ticked_images_are_searched_with_together(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    rows = app.galleries.rows("pick")[:3]
    app.galleries.pick("pick", rows)
    app.run()
    app.click("Search with the 3 images ticked")
    assert app.texts("subheader")[0] == "3 images together"
    assert app.galleries.rows("query") == rows
    assert app.galleries.rows("all") == dataset.search(rows, 12)["row"].tolist()
    assert not set(rows) & set(app.galleries.rows("all"))
    assert link(app)["query"] == ",".join(map(str, rows))
    highest = dataset.percentile(dataset.uncertainty[rows].max())
    assert f"The most uncertain of them is at least as uncertain as **{highest:.0f} %**" in " ".join(
        app.texts("markdown")
    )
    assert "Its risk is not known." in captions(app)
    app.galleries.click("query", rows[1])
    app.run()
    assert link(app)["query"] == str(rows[1])


def test_the_selection_on_the_map_is_searched_with_together(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    app.test.session_state[f"selection:{dataset.version}"] = np.array([2, 30])
    app.run()
    app.click("Search with the 2 images selected on the map")
    assert app.galleries.rows("all") == dataset.search([2, 30], 12)["row"].tolist()
    app.test.session_state[f"selection:{dataset.version}"] = np.arange(51)
    app.run()
    (button,) = [button for button in app.test.button if "selected on the map" in button.label]
    assert button.disabled


def test_several_uploads_are_searched_with_together(app: App, make_dataset: Make, model: PictureEncoder) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    images = [Image.open(dataset.image_path(row)) for row in (4, 20)]
    upload_all(app, [("one.png", png(images[0])), ("broken.png", b"no"), ("two.png", png(images[1]))])
    assert [text.split(":")[0] for text in app.texts("error")] == ["broken.png"]
    assert app.texts("subheader")[0] == "2 images together"
    vectors = [model.encode([image])[0][0] for image in images]
    assert app.galleries.rows("all") == dataset.search(vectors, 12)["row"].tolist()
    assert "query" not in link(app)
    app.run()
    assert app.texts("error") == []
    assert app.texts("subheader")[0] == "2 images together"  # and not taken for new ones again


class Paste:
    """Stands in for the browser's clipboard: the next run hears of what a test has pasted."""

    data: dict[str, object] | None = None
    said: object = None

    def __call__(self, *, data: dict[str, object], **_: object) -> dict[str, object]:
        self.data = data
        said, self.said = self.said, None
        return {"pasted": said}


@pytest.fixture
def paste(monkeypatch: pytest.MonkeyPatch) -> Paste:
    recorder = Paste()
    monkeypatch.setattr("pvu.ui.pasting._component", recorder)
    return recorder


def test_a_pasted_picture_is_searched_with(app: App, make_dataset: Make, paste: Paste, model: PictureEncoder) -> None:
    dataset = make_dataset()
    app.open("retrieval", dataset=dataset.path.name)
    assert paste.data == {"limit": LIMIT}
    paste.said = {"data": base64.b64encode(png(Image.open(dataset.image_path(9)))).decode()}
    app.run()
    assert app.texts("subheader")[0] == "pasted picture"
    assert app.galleries.rows("all")[0] == 9
    paste.said = {"data": base64.b64encode(b"no picture").decode()}
    app.run()
    assert app.texts("error") == ["pasted picture: not an image, or a damaged header"]
    assert app.galleries.rows("all")[0] == 9  # the query before is still there


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("text", "the clipboard gave no picture"),
        ({}, "the clipboard gave no picture"),
        ({"data": 3}, "the clipboard gave no picture"),
        ({"data": "not base64!"}, "did not arrive whole"),
        ({"data": "ü"}, "did not arrive whole"),
        ({"data": "A" * (LIMIT // 3 * 4 + 8)}, "too large to paste: at most 15 MB"),
    ],
)
def test_what_is_pasted_is_checked_like_an_upload(said: object, message: str) -> None:
    with pytest.raises(BadImageError, match=message):
        checked(said)


def test_pasted_bytes_arrive_as_they_were() -> None:
    data = bytes(range(256)) * 3
    assert checked({"data": base64.b64encode(data).decode()}) == data
    assert checked({"data": base64.b64encode(b"x" * LIMIT).decode()}) == b"x" * LIMIT


def test_the_largest_u_is_a_filter_too(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    open_query(app, dataset, 3)
    app.test.segmented_control(key="hide_by").set_value("u").run()
    limit = app.checked().test.slider(key="max_u").value
    assert limit == pytest.approx(dataset.threshold(0.9))
    middle = float(np.median(dataset.uncertainty))
    app.test.slider(key="max_u").set_value(middle).run()
    app.checked()
    assert app.galleries.rows("filtered") == dataset.search(3, 12, max_uncertainty=middle)["row"].tolist()
    assert f"With u up to {middle:.3f}" in app.texts("subheader")
    said = link(app)
    assert (said["filter"], float(said["at"])) == ("u", pytest.approx(middle, rel=1e-5))
    app.test.segmented_control(key="hide_by").set_value("percentile").run()
    assert app.checked().test.slider(key="hide").value == 10


def labelled(make_dataset: Make, count: int = 240) -> EmbeddedDataset:
    """Pictures of which the uncertain ones have labels at random."""
    names = "".join(f"{number:02d}.png,{'abc'[number % 3]}\n" for number in range(count))
    return make_dataset("risky", (), count=count, table="path,label\n" + names)


def test_the_risk_is_a_filter_where_it_is_proved(app: App, make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = labelled(make_dataset)
    kept = np.arange(len(dataset)) % 4 != 1
    reasons = {0.05: "Not for 5 %.", 0.1: None, 0.2: None}
    monkeypatch.setattr("pvu.risk.Risk.why_not", lambda _, alpha: reasons[alpha])
    monkeypatch.setattr("pvu.risk.Risk.keeps", lambda _, alpha: kept)
    open_query(app, dataset, 3)
    assert any(
        text.startswith("Risk that the most similar image has another label: **") for text in app.texts("markdown")
    )
    app.test.segmented_control(key="hide_by").set_value("risk").run()
    assert "Not for 5 %." in captions(app.checked())
    assert app.galleries.rows("all") == app.galleries.rows("filtered")
    app.test.segmented_control(key="alpha").set_value(0.1).run()
    app.checked()
    assert "Where at most 10 % are wrong" in app.texts("subheader")
    assert "Keeps 75 % of the images." in captions(app)
    assert app.galleries.rows("filtered") == dataset.search(3, 12, allowed=kept)["row"].tolist()
    assert {card["mark"] for card in app.galleries.shown["all"]} == {"", "too risky"}
    assert (link(app)["filter"], link(app)["at"]) == ("risk", "10")


def test_without_enough_labels_the_risk_is_grey_and_says_why(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    open_query(app, dataset, 3)
    app.test.segmented_control(key="hide_by").set_value("risk").run()
    app.checked()
    assert app.test.segmented_control(key="alpha").disabled
    assert "pets has 36 labelled images, and a risk is learned from at least 100." in captions(app)
    assert app.galleries.rows("all") == app.galleries.rows("filtered")


TABLE = "path,label,camera,year\n" + "".join(
    f"{number:02d}.png,{'cat' if number % 2 else 'dog'},{'left' if number % 3 else ''},{2000 + number}\n"
    for number in range(40)
)


def test_what_can_be_chosen_is_written_as_the_table_has_it(app: App, make_dataset: Make) -> None:
    table = "path,label,taken_by\n" + "".join(
        f"{number:02d}.png,{'wild_*cat*' if number % 2 else 'dog'},a:b\n" for number in range(12)
    )
    open_query(app, make_dataset("marked", (), count=12, table=table), 3)
    assert "taken_by" in app.test.multiselect(key="where_columns").options
    app.test.multiselect(key="where_columns").set_value(["label", "taken_by"]).run()
    app.checked()
    assert app.test.multiselect(key="where:label").options == ["dog", "wild_*cat*"]
    assert app.test.multiselect(key="where:taken_by").options == ["a:b"]


def test_conditions_on_columns_hold_on_both_sides(app: App, make_dataset: Make) -> None:
    dataset = make_dataset("columns", (), count=40, table=TABLE)
    open_query(app, dataset, 3)
    app.test.multiselect(key="where_columns").set_value(["camera", "year", "path"]).run()
    assert link(app.checked()).keys() == {"query", "of"}  # nothing is narrowed yet
    app.test.multiselect(key="where:camera").set_value(["left"]).run()
    app.test.slider(key="where:year").set_value((2005, 2030)).run()
    app.test.text_input(key="where:path").set_value("1").run()
    app.checked()
    images = dataset.images
    allowed = (
        (images["camera"] == "left") & images["year"].between(2005, 2030) & images["path"].str.contains("1")
    ).to_numpy()
    assert 3 < allowed.sum() < 13
    limit = dataset.threshold(0.9)
    assert app.galleries.rows("all") == dataset.search(3, 12, allowed=allowed)["row"].tolist()
    both = dataset.search(3, 12, allowed=allowed, max_uncertainty=limit)["row"].tolist()
    assert app.galleries.rows("filtered") == both
    assert "All images that meet the conditions" in app.texts("subheader")
    assert json.loads(link(app)["where"]) == {"camera": ["left"], "year": [2005, 2030], "path": "1"}
    app.test.text_input(key="where:path").set_value("nowhere").run()
    assert app.checked().galleries.rows("all") == []
    assert "No image meets the conditions." in captions(app)
    app.test.multiselect(key="where_columns").set_value(["camera"]).run()
    app.test.multiselect(key="where:camera").set_value(["(none)"]).run()
    assert (
        app.checked().galleries.rows("all")
        == dataset.search(3, 12, allowed=images["camera"].isna().to_numpy())["row"].tolist()
    )
    assert json.loads(link(app)["where"]) == {"camera": [None]}


def test_a_smallest_similarity_holds_on_both_sides(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    open_query(app, dataset, 3)
    similarity = dataset.search(3, 12)["similarity"]
    limit = round(float(similarity[5]) - 0.005, 2)
    app.test.slider(key="similarity").set_value(limit).run()
    app.checked()
    assert app.galleries.rows("all") == dataset.search(3, 40, min_similarity=limit)["row"].tolist()[:12]
    assert link(app)["similarity"] == f"{limit:.2f}"
    app.test.slider(key="similarity").set_value(1.0).run()
    assert "No image is as similar as 1.00." in captions(app.checked())


def test_both_columns_page_beyond_k(app: App, make_dataset: Make) -> None:
    dataset = make_dataset(count=30)
    open_query(app, dataset, 3)
    everything = dataset.search(3, DEPTH)["row"].tolist()
    filtered = dataset.search(3, DEPTH, max_uncertainty=dataset.threshold(0.9))["row"].tolist()
    assert (len(everything), len(filtered)) == (89, 80)
    (pages,) = app.test.get("pagination")
    pages.set_value(3).run()
    app.checked()
    assert app.galleries.rows("all") == everything[24:36]
    assert app.galleries.rows("filtered") == filtered[24:36]
    assert app.galleries.marks("filtered") == [row for row in filtered[24:36] if row not in everything[:36]]
    assert link(app)["page"] == "3"
    app.test.slider(key="k").set_value(16).run()  # another setting begins at the first page
    assert app.checked().galleries.rows("all") == everything[:16]
    assert "page" not in link(app)


def test_a_link_restores_the_view(app: App, make_dataset: Make, galleries: Galleries, maps: _Component) -> None:
    dataset = make_dataset("columns", (), count=40, table=TABLE)
    open_query(app, dataset, 5)
    app.test.segmented_control(key="hide_by").set_value("u").run()
    app.test.slider(key="max_u").set_value(float(np.quantile(dataset.uncertainty, 0.7))).run()
    app.test.slider(key="k").set_value(4).run()
    app.test.slider(key="similarity").set_value(0.05).run()
    app.test.multiselect(key="where_columns").set_value(["label", "year"]).run()
    app.test.multiselect(key="where:label").set_value(["cat"]).run()
    app.test.slider(key="where:year").set_value((2002, 2039)).run()
    app.test.get("pagination")[0].set_value(2).run()
    said, before = link(app.checked()), dict(app.galleries.shown)
    assert said.keys() == {"query", "of", "filter", "at", "k", "similarity", "where", "page"}
    other = follow(App(galleries, maps), dataset, **said)
    assert other.texts("warning") == []
    assert link(other) == said
    for side in ("all", "filtered"):
        assert other.galleries.rows(side) == [card["row"] for card in before[side]]
    assert before["all"] != before["filtered"]
    other.go("evaluation").go("retrieval")  # and a visit to another page does not lose it
    assert link(other) == said


BAD = {
    "query": ("36", "The link names an image “36”; expected a whole number from 0 to 35."),
    "filter": ("blue", "The link filters by blue; possible are percentile, u, risk."),
    "k": ("100000", "The link names a number of results “100000”; expected a whole number from 4 to 48."),
    "similarity": ("2", "The link names a similarity “2”; expected a number from 0 to 1."),
    "where": ('{"colour":["red"]}', "The link filters by colour, but pets has no such column."),
    "page": ("0", "The link names a page “0”; expected a whole number from 1 to 10000."),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_link_cannot_mean_is_one_sentence_and_the_rest_is_shown(app: App, make_dataset: Make, name: str) -> None:
    dataset = make_dataset()
    value, sentence = BAD[name]
    follow(app, dataset, **{"query": "7", name: value})
    assert app.texts("warning")[0] == sentence
    if name != "query":
        assert app.galleries.rows("all") == dataset.search(7, 12)["row"].tolist()
    assert name not in link(app) or name == "query"
    app.run()
    assert sentence not in app.texts("warning")


@pytest.mark.parametrize(
    ("kind", "at", "sentence"),
    [
        ("percentile", "95", "The link names a share to hide “95”"),
        ("percentile", "nan", "The link names a share to hide “nan”"),
        ("u", "1e9", "The link names a u “1e9”"),
        ("u", "inf", "The link names a u “inf”"),
        ("risk", "7", "The link asks for a risk of 7 %; possible are 5, 10, 20 %."),
        ("risk", "-1", "The link names a risk “-1”"),
    ],
)
def test_a_filter_out_of_range_is_one_sentence(app: App, make_dataset: Make, kind: str, at: str, sentence: str) -> None:
    follow(app, make_dataset(), query="7", filter=kind, at=at)
    assert app.texts("warning")[0].startswith(sentence)
    assert "Without the most uncertain 10 %" in app.texts("subheader")


def test_a_page_beyond_the_last_is_said_once(app: App, make_dataset: Make) -> None:
    follow(app, make_dataset(), query="7", page="99")
    assert "There is no page 99, the last is 3." in captions(app)
    assert link(app)["page"] == "3"
    assert "There is no page" not in captions(app.run())


def test_several_rows_in_a_link(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    follow(app, dataset, query="7,9,7")
    assert app.galleries.rows("all") == dataset.search([7, 9], 12)["row"].tolist()


def test_too_many_rows_in_a_link_are_said(app: App, make_dataset: Make) -> None:
    follow(app, make_dataset(), query=",".join(["1"] * 51))
    assert app.texts("warning") == ["The link searches with 51 images; at most 50 are possible."]


def test_a_link_older_than_the_store_is_said(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    follow(app, dataset, query="7", of="00000000")
    assert app.texts("warning")[0].startswith("This link was made before pets was embedded anew")
    assert "all" not in app.galleries.shown


def test_a_set_embedded_anew_leaves_the_query_behind(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    open_query(app, dataset, 7)
    app.test.slider(key="hide").set_value(40).run()
    (dataset.source / "aardvark").mkdir()
    picture(99).save(dataset.source / "aardvark" / "0.png")
    again = embed(dataset.source, model=FakeEncoder(), workers=0)
    assert (again.path, len(again)) == (dataset.path, 37)
    app.run()
    assert "all" not in app.galleries.shown
    assert "query" not in link(app)
    app.galleries.click("pick", app.galleries.rows("pick")[0])
    app.run()
    assert app.test.slider(key="hide").value == 40  # what is no matter of rows stays


def test_brought_embeddings_take_no_new_picture(app: App, make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    monkeypatch.setattr(EmbeddedDataset, "has_encoder", False)
    app.open("retrieval", dataset=dataset.path.name)
    assert app.texts("info") == [
        "The embeddings of pets were brought, not made here, so no new picture can be compared with them. Search with "
        "images of the set."
    ]
    assert app.test.get("file_uploader") == []


def test_the_model_is_named(app: App, make_dataset: Make) -> None:
    app.open("retrieval", dataset=make_dataset().path.name)
    assert app.texts("caption")[0] == "pets · 36 images · fake"


def test_back_brings_the_view_before_and_a_late_address_does_not(
    app: App, make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_query(app, make_dataset(), 7)
    first = link(app)
    app.test.slider(key="hide").set_value(40).run()
    app.test.session_state["query_row"] = 9
    second = link(app.run())
    assert (second["query"], second["at"]) == ("9", "40")

    def arrive() -> App:
        for name in second:
            del app.test.query_params[name]
        for name, value in first.items():
            app.test.query_params[name] = value
        return app.run()

    arrive()  # what a browser sends that has not heard of the last run yet
    assert link(app) == second
    with monkeypatch.context() as patch:
        patch.setattr("pvu.ui.linking._came_back", lambda: True)
        arrive()
        assert link(app) == first
    assert app.test.slider(key="hide").value == 10
