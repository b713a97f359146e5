"""The map page: what the component is given, what a lasso selects, and what stays."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import pytest

from pvu.coloring import map_rows
from pvu.selection import in_polygon
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.pages.conftest import App

Make = Callable[..., EmbeddedDataset]
LASSO = [(-1.0, -1.0), (0.05, -1.0), (0.05, 1.0), (-1.0, 1.0)]


def heading(app: App) -> str:
    return app.texts("subheader")[0]


def inside(dataset: EmbeddedDataset) -> np.ndarray:
    x, y = zip(*LASSO, strict=True)
    return np.flatnonzero(in_polygon(dataset.coords, np.array(x), np.array(y)))


def unpacked(text: str | None, count: int = 36) -> list[int]:
    """The rows of a packed mask, bit by bit."""
    assert text is not None
    data = base64.b64decode(text)
    return [row for row in range(count) if data[row // 8] >> (row % 8) & 1]


def test_without_a_data_set_it_says_where_to_begin(app: App) -> None:
    app.open("map")
    assert app.texts("title") == ["Map"]
    assert app.texts("info") == [
        "No data set is open yet. Once one is, this page shows every image as a point, similar images near each other, "
        "coloured by uncertainty."
    ]
    assert len(app.links()) == 1
    assert app.maps.data == {}


def test_all_images_are_shown_most_uncertain_first(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    assert heading(app) == "All 36 images"
    assert app.map["shown"] is None
    assert app.map["selected"] is None
    assert app.map["rows"] is None  # all rows, in order
    order = np.argsort(-dataset.uncertainty, kind="stable").tolist()
    assert app.galleries.rows("map_gallery_cards") == order[:24]
    app.test.get("pagination")[0].set_value(2).run()
    assert app.checked().galleries.rows("map_gallery_cards") == order[24:]
    app.test.button_group(key="order").set_value("certain first").run()
    assert app.checked().galleries.rows("map_gallery_cards")[0] in (order[-1], order[-25])


def test_a_lasso_selects_what_lies_in_it(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    expected = inside(dataset)
    assert 0 < len(expected) < 36
    app.open("map", dataset=dataset.path.name).draw("lasso", LASSO)
    assert heading(app) == f"{len(expected)} selected"
    assert unpacked(app.map["selected"]) == expected.tolist()
    order = expected[np.argsort(-dataset.uncertainty[expected], kind="stable")].tolist()
    assert app.galleries.rows("map_gallery_cards") == order[:24]


def test_with_shift_a_box_adds_to_what_was_selected(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    first = inside(dataset)
    app.open("map", dataset=dataset.path.name).draw("lasso", LASSO)
    other = dataset.coords[next(row for row in range(36) if row not in first)]
    corner = [tuple(other - 1e-4), tuple(other + 1e-4)]
    app.draw("box", corner, add=True)
    both = set(first.tolist()) | set(np.flatnonzero((np.abs(dataset.coords - other) <= 1e-4).all(axis=1)).tolist())
    assert set(unpacked(app.map["selected"])) == both
    app.draw("box", corner)
    assert set(unpacked(app.map["selected"])) == both - set(first.tolist())


def test_the_selection_survives_another_colour_and_another_page(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    expected = inside(dataset).tolist()
    app.open("map", dataset=dataset.path.name).draw("lasso", LASSO)
    before = app.map
    app.test.selectbox(key="color_by").set_value("label").run()
    app.checked()
    assert app.map["color"]["address"] != before["color"]["address"]
    # Neither the points nor the selection are sent again in another form.
    assert (app.map["points"], app.map["frame"], app.map["version"]) == (
        before["points"],
        before["frame"],
        before["version"],
    )
    assert unpacked(app.map["selected"]) == expected
    app.go("evaluation").go("map")
    assert heading(app) == f"{len(expected)} selected"
    assert unpacked(app.map["selected"]) == expected
    assert app.test.selectbox(key="color_by").value == "label"


def test_clear_selects_nothing(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name).draw("lasso", LASSO)
    app.click("Clear")
    assert heading(app) == "All 36 images"
    assert app.map["selected"] is None
    app.draw("lasso", LASSO)
    assert heading(app) != "All 36 images"
    app.draw("clear")
    assert heading(app) == "All 36 images"


def test_what_is_selected_is_tagged_at_once(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name).draw("lasso", LASSO)
    app.click("Drop")
    assert np.flatnonzero(Tags.of(dataset).values.tag == "drop").tolist() == inside(dataset).tolist()
    app.click("Undo")
    assert Tags.of(dataset).counts["drop"] == 0


def test_what_makes_no_sense_selects_nothing(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    nonsense = (
        {"kind": "lasso", "x": ["a"], "y": [1]},
        {"kind": "?"},
        "x",
        {"kind": "box", "x": [1, None], "y": [0, 1]},
    )
    for shape in nonsense:
        app.maps.does("map", drawn=shape)
        app.run()
        assert heading(app) == "All 36 images"


def test_a_click_on_a_point_opens_the_image_and_rings_it(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    assert app.ringed == []
    app.maps.does("map", clicked=7)
    app.run()
    assert app.galleries.rows("panel_neighbours") == dataset.neighbors[7][:12].tolist()
    app.run()
    assert app.ringed == [7]


def test_a_card_of_the_gallery_is_ringed_on_the_map(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    row = app.galleries.rows("map_gallery_cards")[3]
    app.galleries.click("map_gallery_cards", row)
    app.run()
    assert "panel_neighbours" in app.galleries.shown
    app.run()
    assert app.ringed == [row]


def test_the_filters_narrow_the_map_the_gallery_and_the_lasso(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    middle = np.median(dataset.percentiles)
    app.test.slider(key="range").set_value((0, int(middle))).run()
    app.test.text_input(key="map_find").set_value("/0").run()
    app.checked()
    paths = dataset.images["path"]
    expected = [row for row in range(36) if "/0" in paths[row] and dataset.percentiles[row] <= int(middle)]
    assert 0 < len(expected) < 18
    assert unpacked(app.map["shown"]) == expected
    assert heading(app).startswith(f"Filtered: {len(expected)} ")
    app.draw("lasso", LASSO)
    assert unpacked(app.map["selected"]) == sorted(set(expected) & set(inside(dataset).tolist()))
    app.test.text_input(key="map_find").set_value("DOG").run()
    dogs = [row for row in range(36) if dataset.labels[row] == "dog" and dataset.percentiles[row] <= int(middle)]
    assert unpacked(app.checked().map["shown"]) == dogs
    app.test.text_input(key="map_find").set_value("nothing like it").run()
    app.checked()
    assert app.texts("info")[0].startswith("No image passes the filters.")


def test_without_a_head_there_is_no_uncertainty_to_colour_or_filter_by(app: App, make_dataset: Make) -> None:
    dataset = make_dataset(has_head=False)
    app.open("map", dataset=dataset.path.name)
    assert app.test.selectbox(key="color_by").options[0] == "label"
    assert app.test.slider == [] or "range" not in [slider.key for slider in app.test.slider]
    assert app.map["percentiles"] is None
    assert app.map["size"] is False


def test_uncertain_images_large_and_faint(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    assert app.map["size"] is False
    app.test.toggle(key="sized").set_value(True).run()
    assert app.checked().map["size"] is True


def test_of_too_many_points_a_sample_is_drawn_and_a_lasso_counts_all(
    app: App, make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset()
    monkeypatch.setattr("pvu.coloring.DRAWN_LIMIT", 10)
    app.open("map", dataset=dataset.path.name)
    assert app.map["rows"].endswith("/rows")
    assert any(text.startswith("10 of 36 points are drawn") for text in app.texts("caption"))
    app.draw("lasso", LASSO)
    assert unpacked(app.map["selected"]) == inside(dataset).tolist()
    row = next(row for row in range(36) if row not in map_rows(36))
    app.maps.does("map", clicked=row)  # the image's place is told, for the browser does not have it
    app.run()
    assert app.run().map["ring"] == [[row, *dataset.coords[row].tolist()]]
