"""The image panel: what it says of an image, and what can be done from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.fakes import FakeEncoder
from tests.pages.conftest import App

Make = Callable[..., EmbeddedDataset]


def opened(app: App, dataset: EmbeddedDataset, row: int) -> App:
    """The map page, with the panel open on an image."""
    app.open("map", dataset=dataset.path.name)
    app.maps.does("map", clicked=row)
    return app.run()


def metrics(app: App) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.test.metric}


def test_it_says_what_is_known_of_the_image(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    opened(app, dataset, 7)
    assert dataset.labels[7] in app.texts("subheader")
    assert str(dataset.image_path(7)) in [code.value for code in app.test.code]
    assert metrics(app) == {"Uncertainty here": f"{dataset.percentiles[7]:.0f} %"}  # the fake head has no reference
    assert app.galleries.rows("panel_neighbours") == dataset.neighbors[7][:12].tolist()
    shown = app.galleries.shown["panel_neighbours"][0]
    assert shown["similarity"] == f"{dataset.similarities[7, 0]:.2f}"
    assert shown["same"] == (dataset.labels[dataset.neighbors[7, 0]] == dataset.labels[7])


def test_with_reference_pictures_both_percentiles_are_said(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    quantiles = np.linspace(0, 2 * float(dataset.uncertainty.max()), 101)
    manifest = dataset.path / "manifest.json"
    text = manifest.read_text().rstrip()
    manifest.write_text(text.removesuffix("}") + f', "reference_quantiles": {quantiles.tolist()}}}')
    row = int(dataset.uncertainty.argmax())
    opened(app, EmbeddedDataset(dataset.path), row)
    assert metrics(app) == {"Uncertainty here": "100 %", "Against the reference": "50 %"}


def test_a_neighbour_is_opened_in_its_turn(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    opened(app, dataset, 7)
    other = int(dataset.neighbors[7, 3])
    app.galleries.click("panel_neighbours", other)
    app.run()
    assert str(dataset.image_path(other)) in [code.value for code in app.test.code]
    assert app.ringed == [other]
    app.click("Back to the image before")
    assert str(dataset.image_path(7)) in [code.value for code in app.test.code]
    assert not [button for button in app.test.button if button.label == "Back to the image before"]


def test_a_tag_is_saved_at_once_and_taken_off_again(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    opened(app, dataset, 7)
    for wanted in ("drop", "keep", None):
        key = f"panel_tag:7:{Tags.of(dataset).version}"
        app.test.button_group(key=key).set_value(wanted).run()
        app.checked()
        assert Tags.of(dataset).values.tag[7] == wanted


def test_fix_label_asks_for_the_right_one(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    opened(app, dataset, 7)
    app.test.button_group(key=f"panel_tag:7:{Tags.of(dataset).version}").set_value("fix label").run()
    app.checked()
    assert Tags.of(dataset).values.tag[7] is None  # not before the label is known
    box = app.test.selectbox(key="panel_label:7")
    assert box.options == ["cat", "dog", "owl"]
    box.set_value("owl").run()
    app.checked()
    assert (Tags.of(dataset).values.tag[7], Tags.of(dataset).values.label[7]) == ("fix label", "owl")


def test_search_with_it_leads_to_the_retrieval_page(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    opened(app, dataset, 7)
    app.click("Search with it")
    assert app.texts("title") == ["Search by image"]
    assert "panel_neighbours" not in app.galleries.shown
    assert dataset.labels[7] in app.texts("subheader")


def test_show_on_map_closes_the_panel_and_rings_the_image(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    opened(app, dataset, 7)
    app.click("Show on map")
    assert app.texts("title") == ["Map"]
    assert app.ringed == [7]
    assert "panel_neighbours" not in app.galleries.shown


def test_an_image_of_another_data_set_is_not_shown(app: App, make_dataset: Make) -> None:
    first, second = make_dataset(), make_dataset("few", ("cat",), count=3)
    opened(app, first, 2)
    app.galleries.data.clear()
    app.test.sidebar.selectbox[0].set_value(str(second.path)).run()
    app.checked()
    assert "panel_neighbours" not in app.galleries.shown


def test_without_a_head_nothing_is_said_of_uncertainty(app: App, make_dataset: Make) -> None:
    opened(app, make_dataset(has_head=False), 7)
    assert metrics(app) == {}
    assert not [toggle for toggle in app.test.toggle if toggle.label == "Why uncertain?"]


def test_why_uncertain_says_what_is_missing(app: App, make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    opened(app, dataset, 7)
    monkeypatch.setenv("PVU_ROOTS", str(dataset.path))
    (toggle,) = [toggle for toggle in app.test.toggle if toggle.label == "Why uncertain?"]
    toggle.set_value(True).run()
    app.checked()
    assert any("is outside the folders that this app may read" in text for text in app.texts("info"))


def test_why_uncertain_shows_the_explanation(app: App, make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    monkeypatch.setenv("PVU_ROOTS", str(dataset.source))
    monkeypatch.setattr("pvu.models.load_model", lambda _: _fake_model())
    opened(app, dataset, 7)
    (toggle,) = [toggle for toggle in app.test.toggle if toggle.label == "Why uncertain?"]
    toggle.set_value(True).run()
    app.checked()
    from pvu.explain import explain
    from pvu.images import open_rgb, read_bytes

    image, _ = open_rgb(read_bytes(dataset.image_path(7)), at_least=900)
    assert explain(image, _fake_model()).sentence in app.texts("markdown")


def _fake_model() -> object:
    return FakeEncoder()


def test_another_page_closes_the_panel(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    opened(app, dataset, 7)
    assert "panel_neighbours" in app.galleries.shown
    app.go("evaluation")
    assert "panel_neighbours" not in app.galleries.shown
    app.go("map")
    assert "panel_neighbours" not in app.galleries.shown
    assert app.map["ring"][0][0] == 7  # where it was is still shown


def test_a_folder_that_was_embedded_anew_forgets_the_rows(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    opened(app, dataset, 7)
    dataset.image_path(0).unlink()
    again = embed(dataset.source, model=FakeEncoder(), workers=0)
    assert again.path == dataset.path
    app.run()
    assert "panel_neighbours" not in app.galleries.shown
    assert app.map["ring"] == []
