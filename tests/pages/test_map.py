"""The map page: what is drawn, what a lasso selects, and what stays."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pvu.selection import in_polygon
from pvu.store import EmbeddedDataset
from tests.pages.conftest import App

Make = Callable[..., EmbeddedDataset]
LASSO = [(-1.0, -1.0), (0.05, -1.0), (0.05, 1.0), (-1.0, 1.0)]


def heading(app: App) -> str:
    return app.texts("subheader")[0]


def inside(dataset: EmbeddedDataset) -> np.ndarray:
    x, y = zip(*LASSO, strict=True)
    return np.flatnonzero(in_polygon(dataset.coords, np.array(x), np.array(y)))


def drawn(app: App) -> dict[str, Any]:
    """The data trace that the browser gets."""
    (chart,) = app.charts()
    return json.loads(chart.spec)["data"][0]


def integers(data: Any) -> list[int]:
    """An array of integers as plotly writes it."""
    return np.frombuffer(base64.b64decode(data["bdata"]), np.dtype(data["dtype"])).tolist()


def rows_drawn(app: App) -> list[int]:
    return integers(drawn(app)["customdata"])


def test_without_a_data_set_it_says_where_to_begin(app: App) -> None:
    app.open("map")
    assert app.texts("title") == ["Map"]
    assert app.texts("info") == [
        "No data set is open yet. Once one is, this page shows every image as a point, similar images near each other, "
        "coloured by uncertainty."
    ]
    assert len(app.links()) == 1
    assert app.charts() == []


def test_all_images_are_shown_most_uncertain_first(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    assert heading(app) == "All 36 images"
    assert rows_drawn(app) == list(range(36))
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
    app.open("map", dataset=dataset.path.name).select(lasso=LASSO)
    assert heading(app) == f"{len(expected)} selected"
    order = expected[np.argsort(-dataset.uncertainty[expected], kind="stable")].tolist()
    assert app.galleries.rows("map_gallery_cards") == order[:24]


def test_the_selection_survives_another_colour_and_another_page(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    expected = inside(dataset)
    app.open("map", dataset=dataset.path.name).select(lasso=LASSO)
    before = app.chart_id()
    app.test.selectbox(key="color_by").set_value("label").run()
    app.checked()
    assert app.chart_id() != before
    assert integers(drawn(app)["selectedpoints"]) == expected.tolist()
    app.go("evaluation").go("map")
    assert heading(app) == f"{len(expected)} selected"
    assert integers(drawn(app)["selectedpoints"]) == expected.tolist()
    assert app.test.selectbox(key="color_by").value == "label"


def test_the_chart_stays_the_same_while_it_is_drawn_on(app: App, make_dataset: Make) -> None:
    # Another figure would be another chart to Streamlit, and the lasso would vanish under the user's hand.
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    before = app.charts()[0].spec, app.chart_id()
    app.select(lasso=LASSO)
    assert (app.charts()[0].spec, app.chart_id()) == before
    app.run()
    assert (app.charts()[0].spec, app.chart_id()) == before


def test_clear_selects_nothing_and_draws_a_new_chart(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name).select(lasso=LASSO)
    before = app.chart_id()
    app.click("Clear")
    assert heading(app) == "All 36 images"
    assert app.chart_id() != before
    assert drawn(app).get("selectedpoints") is None


def test_a_click_on_a_point_selects_it(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name).select(clicked=[7])
    assert heading(app) == "1 selected"
    assert app.galleries.rows("map_gallery_cards") == [7]


def test_a_click_on_a_card_searches_with_it(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    row = app.galleries.rows("map_gallery_cards")[5]
    app.galleries.click("map_gallery_cards", row)
    app.run()
    assert app.texts("title") == ["Search by image"]
    assert app.test.query_params["query"] == str(row)


def test_the_range_hides_points_from_the_chart_the_gallery_and_the_lasso(app: App, make_dataset: Make) -> None:
    dataset = make_dataset()
    app.open("map", dataset=dataset.path.name)
    app.test.slider(key="range").set_value((60, 100)).run()
    app.checked()
    shown = np.flatnonzero(dataset.percentiles >= 60)
    assert heading(app) == f"All {len(shown)} images"
    assert rows_drawn(app) == shown.tolist()
    app.select(lasso=LASSO)
    both = np.intersect1d(shown, inside(dataset))
    assert heading(app) == f"{len(both)} selected"
    assert sorted(app.galleries.rows("map_gallery_cards")) == both.tolist()


def test_a_range_without_images_says_so(app: App, make_dataset: Make) -> None:
    dataset = make_dataset("few", (), count=3)
    app.open("map", dataset=dataset.path.name)
    app.test.slider(key="range").set_value((10, 20)).run()
    app.checked()
    assert app.texts("info") == ["No image lies in this range. Widen the uncertainty filter above."]
    assert heading(app) == "All 0 images"


def test_columns_of_a_table_are_colours(app: App, make_dataset: Make) -> None:
    table = "path,label,camera,light\n" + "".join(f"{n:02d}.png,{'ab'[n % 2]},cam{n % 3},{n / 7}\n" for n in range(9))
    dataset = make_dataset("table", (), count=9, table=table)
    app.open("map", dataset=dataset.path.name)
    box = app.test.selectbox(key="color_by")
    assert box.options == ["uncertainty", "label", "camera", "light", "width (pixels)", "height (pixels)"]
    for name in ("label", "camera", "light", "width"):
        app.test.selectbox(key="color_by").set_value(name).run()
        app.checked()
        assert rows_drawn(app) == list(range(9))


def test_a_colour_that_the_next_data_set_lacks_is_forgotten(app: App, make_dataset: Make) -> None:
    first, second = make_dataset("first"), make_dataset("second", (), count=6)
    app.open("map", dataset=first.path.name)
    app.test.selectbox(key="color_by").set_value("label").run()
    app.checked().test.sidebar.selectbox[0].set_value(str(second.path)).run()
    app.checked()
    assert app.test.selectbox(key="color_by").value == "uncertainty"
    assert heading(app) == "All 6 images"


def test_a_selection_belongs_to_its_data_set(app: App, make_dataset: Make) -> None:
    first, second = make_dataset("first"), make_dataset("second")
    app.open("map", dataset=first.path.name).select(lasso=LASSO)
    app.test.sidebar.selectbox[0].set_value(str(second.path)).run()
    assert heading(app.checked()) == "All 36 images"
    app.test.sidebar.selectbox[0].set_value(str(first.path)).run()
    assert heading(app.checked()) == f"{len(inside(first))} selected"


def test_without_a_head_there_is_no_uncertainty_to_choose(app: App, make_dataset: Make) -> None:
    dataset = make_dataset(has_head=False)
    app.open("map", dataset=dataset.path.name)
    assert app.test.selectbox(key="color_by").options == ["label", "width (pixels)", "height (pixels)"]
    assert list(app.test.slider) == []
    assert heading(app) == "All 36 images"
    assert "percentile" not in app.galleries.shown["map_gallery_cards"][0]


def test_one_image(app: App, make_dataset: Make) -> None:
    dataset = make_dataset("single", (), count=1)
    app.open("map", dataset=dataset.path.name)
    assert heading(app) == "All 1 image"


@pytest.mark.parametrize("page", ["map", "retrieval", "evaluation"])
def test_a_store_that_is_deleted_while_it_is_open(app: App, make_dataset: Make, page: str) -> None:
    dataset = make_dataset()
    app.open(page, dataset=dataset.path.name)
    (dataset.path / "manifest.json").unlink()
    app.run()
    assert "There is no store at" in app.texts("error")[0]
    assert app.texts("info")[0].startswith("No data set is open yet.")
