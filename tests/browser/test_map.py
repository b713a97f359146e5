"""The map in a real browser: drawn by WebGL, drawn upon by hand, and coloured anew without losing anything."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pvu.selection import in_polygon
from pvu.store import EmbeddedDataset
from tests.browser.conftest import NewTab, Server, Tab, link

CHART = ".pvu-map .chart"


def drawn(tab: Tab, *, seconds: float = 60) -> dict[str, float]:
    """Where the map is, once it is drawn: x, y, width, height."""
    tab.page.locator(".pvu-map[data-drawn]").wait_for(timeout=1000 * seconds)
    tab.settle()
    box = tab.page.locator(CHART).bounding_box()
    assert box is not None
    return box


def draw_shape(tab: Tab, corners: list[tuple[float, float]]) -> np.ndarray:
    """Draw with the mouse through corners given as shares of the map; returns them in the map's coordinates."""
    box = drawn(tab)
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    before = tab.page.locator(".pvu-map").get_attribute("data-drawn")
    tab.page.mouse.move(*places[0])
    tab.page.mouse.down()
    for x, y in places[1:]:
        tab.page.mouse.move(x, y, steps=5)
    tab.page.mouse.up()
    tab.page.wait_for_function("n => document.querySelector('.pvu-map').dataset.drawn !== n", arg=before)
    tab.settle()
    data = tab.page.evaluate(
        """places => {
            const chart = document.querySelector(".pvu-map .chart"), {xaxis, yaxis} = chart._fullLayout;
            const {left, top} = chart.getBoundingClientRect();
            return places.map(([x, y]) => [xaxis.p2d(x - left - xaxis._offset), yaxis.p2d(y - top - yaxis._offset)]);
        }""",
        places,
    )
    return np.array(data, dtype=np.float64)


def at(tab: Tab, dataset: EmbeddedDataset, row: int) -> tuple[float, float]:
    """Where on the screen an image's point is."""
    x, y = tab.page.evaluate(
        """([x, y]) => {
            const chart = document.querySelector(".pvu-map .chart"), {xaxis, yaxis} = chart._fullLayout;
            const {left, top} = chart.getBoundingClientRect();
            return [left + xaxis._offset + xaxis.d2p(x), top + yaxis._offset + yaxis.d2p(y)];
        }""",
        dataset.coords[row].tolist(),
    )
    return x, y


def loneliest(dataset: EmbeddedDataset) -> int:
    """A point over which no other is drawn."""
    distances = np.linalg.norm(dataset.coords[:, None] - dataset.coords[None], axis=2)
    return int((distances + 1e9 * np.eye(len(dataset))).min(axis=1).argmax())


def colored_pixels(tab: Tab) -> int:
    """Pixels of the chart that are neither white nor grey: what WebGL has drawn."""
    picture = Image.open(io.BytesIO(tab.page.locator(CHART).screenshot())).convert("RGB")
    pixels = np.asarray(picture).astype(int)
    return int((pixels.max(axis=2) - pixels.min(axis=2) > 60).sum())


def choose(tab: Tab, box: str, option: str) -> None:
    tab.page.locator("[data-testid=stSelectbox]").filter(has_text=box).locator("input").click()
    tab.page.get_by_role("option", name=option, exact=True).click()
    tab.settle()


LASSO = [(0.1, 0.1), (0.6, 0.05), (0.65, 0.6), (0.3, 0.9), (0.1, 0.1)]


def test_a_lasso_selects_what_it_surrounds_and_a_new_colour_keeps_it(tab: Tab, demo: EmbeddedDataset) -> None:
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.open(link("map", demo))
    drawn(tab)
    assert tab.headings()[0] == f"All {len(demo)} images"
    full = colored_pixels(tab)
    assert full > 1000
    tab.shoot("4-map")
    corners = draw_shape(tab, LASSO)
    expected = int(in_polygon(demo.coords, corners[:, 0], corners[:, 1]).sum())
    assert 0 < expected < len(demo)
    assert tab.headings()[0] == f"{expected} selected"
    assert colored_pixels(tab) < full  # the others fade
    tab.shoot("5-map-selected")

    points = [url for url in asked if url.endswith("/points")]
    choose(tab, "Colour by", "degradation")
    tab.see("small crop")
    drawn(tab)
    assert tab.headings()[0] == f"{expected} selected"
    assert len([url for url in asked if url.endswith("/points")]) == len(points) == 1  # not sent again
    tab.shoot("6-map-by-column")

    tab.page.evaluate("() => { window.left = document.querySelector('.pvu-map .chart') }")
    tab.menu("Evaluation")
    tab.see("Risk and coverage")
    assert tab.page.evaluate("() => left._fullLayout === undefined")  # its WebGL contexts are given back
    tab.menu("Map")
    drawn(tab)
    assert tab.headings()[0] == f"{expected} selected"
    tab.page.get_by_role("button", name="Clear").click()
    tab.settle()
    assert tab.headings()[0] == f"All {len(demo)} images"


def test_escape_gives_up_the_shape_and_keeps_the_selection(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    draw_shape(tab, LASSO)
    heading = tab.headings()[0]
    assert heading.endswith(" selected")
    box = drawn(tab)
    tab.page.mouse.move(box["x"] + 20, box["y"] + 20)
    tab.page.mouse.down()
    for x, y in ((300, 20), (300, 300), (20, 300)):
        tab.page.mouse.move(box["x"] + x, box["y"] + y, steps=3)
    assert tab.page.locator(".pvu-map .outline polygon").get_attribute("points")
    tab.page.locator(CHART).focus()
    tab.page.keyboard.press("Escape")
    assert not tab.page.locator(".pvu-map .outline polygon").get_attribute("points")
    tab.page.mouse.up()
    tab.settle()
    assert tab.headings()[0] == heading
    tab.page.locator(CHART).focus()
    tab.page.keyboard.press("Escape")  # now it is about the selection
    tab.see(f"All {len(demo)} images")


def test_a_box_and_the_shift_key(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    drawn(tab)
    tab.page.get_by_role("button", name="Box").click()
    corners = draw_shape(tab, [(0.05, 0.05), (0.5, 0.95)])
    left = demo.coords[:, 0] <= corners[:, 0].max()
    low, high = sorted(corners[:, 1])
    inside = left & (demo.coords[:, 0] >= corners[:, 0].min())
    inside &= (demo.coords[:, 1] >= low) & (demo.coords[:, 1] <= high)
    assert tab.headings()[0] == f"{inside.sum()} selected"
    tab.page.keyboard.down("Shift")
    draw_shape(tab, [(0.5, 0.05), (0.98, 0.95)])
    tab.page.keyboard.up("Shift")
    assert int(tab.headings()[0].split()[0]) > inside.sum()


def test_a_thumbnail_appears_under_the_pointer_and_a_click_opens_the_image(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    drawn(tab)
    row = loneliest(demo)
    tab.page.mouse.move(*at(tab, demo, row), steps=4)
    tip = tab.page.locator(".pvu-map .tip")
    tip.locator("img").wait_for()
    assert tip.get_attribute("data-row") == str(row)
    assert f"at least as uncertain as {demo.percentiles[row]:.0f} %" in tip.inner_text()
    assert str(demo.labels[row]) in tip.inner_text()
    tab.page.wait_for_function("document.querySelector('.pvu-map .tip img').naturalWidth > 0")
    tab.shoot("16-map-hover")
    tab.page.mouse.click(*at(tab, demo, row))
    panel = tab.page.get_by_role("dialog")
    panel.wait_for()
    tab.settle()
    panel.get_by_text(str(demo.image_path(row))).first.wait_for()  # Streamlit loads what shows code when it is needed
    neighbours = panel.locator("button.card").evaluate_all("all => all.map(card => Number(card.dataset.row))")
    assert neighbours == demo.neighbors[row][:12].tolist()
    tab.page.wait_for_function("document.querySelector('[role=dialog] img').naturalWidth > 100")
    tab.shoot("17-panel")
    tab.page.keyboard.press("Escape")
    panel.wait_for(state="detached")


def test_a_chosen_picture_is_ringed_on_the_map(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    drawn(tab)
    row = tab.cards()[2]
    tab.page.locator(f'.gallery:visible button.card[data-row="{row}"]').click()
    tab.page.get_by_role("dialog").wait_for()
    tab.settle()
    tab.page.keyboard.press("Escape")
    tab.page.get_by_role("dialog").wait_for(state="detached")
    tab.settle()
    drawn(tab)
    ring = tab.page.evaluate(
        "() => { const ring = document.querySelector('.pvu-map .chart').data[1]; return [ring.x[0], ring.y[0]]; }"
    )
    assert ring == pytest.approx(demo.coords[row].tolist(), abs=1e-2)


def test_why_uncertain_is_drawn_over_the_picture(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    drawn(tab)
    tab.page.locator(".gallery:visible button.card").first.click()
    panel = tab.page.get_by_role("dialog")
    panel.wait_for()
    panel.get_by_text("Why uncertain?").click()
    panel.get_by_text("looked at alone, this part is more uncertain").wait_for(timeout=60_000)
    tab.settle()
    tab.shoot("18-why")
    assert panel.get_by_alt_text("Where the uncertainty comes from").evaluate("image => image.naturalWidth") > 100


def test_the_keyboard_moves_the_map(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    drawn(tab)
    ranges = "() => document.querySelector('.pvu-map .chart').layout.xaxis.range.map(Number)"
    before = tab.page.evaluate(ranges)
    tab.page.locator(CHART).focus()
    tab.page.keyboard.press("+")
    closer = tab.page.evaluate(ranges)
    assert closer[1] - closer[0] == pytest.approx(0.7 * (before[1] - before[0]))
    tab.page.keyboard.press("ArrowRight")
    assert tab.page.evaluate(ranges)[0] > closer[0]
    tab.page.keyboard.press("0")
    tab.page.wait_for_timeout(300)
    assert tab.page.evaluate(ranges) == pytest.approx(before)


def test_a_group_narrows_the_map(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    drawn(tab)
    choose(tab, "Colour by", "group on the map")
    drawn(tab)
    tab.page.get_by_text("Groups on the map").click()
    table = tab.page.get_by_test_id("stDataFrame").first
    table.wait_for()
    tab.settle()
    box = table.bounding_box()
    assert box is not None
    tab.page.mouse.click(box["x"] + 15, box["y"] + 38 + 17)  # the first row's box; the table is a canvas
    tab.see("Only the group")
    tab.settle()
    largest = demo.clusters.table.iloc[0]
    assert tab.headings()[0] == f"Filtered: {largest['size']} images"
    tab.shoot("19-map-group")
    tab.page.get_by_role("button", name="Only the group").click()
    tab.settle()
    assert tab.headings()[0] == f"All {len(demo)} images"


def test_three_hundred_thousand_points(server: Server, new_tab: NewTab) -> None:
    from benchmarks.synthetic import synthetic_store

    dataset = EmbeddedDataset(synthetic_store(server.home, 300_000, dim=8))
    tab = new_tab(server)
    tab.open(link("map", dataset))
    drawn(tab, seconds=120)
    assert tab.headings()[0] == "All 300,000 images"
    assert tab.page.evaluate("() => document.querySelector('.pvu-map .chart').data[0].x.length") == 300_000
    assert colored_pixels(tab) > 1000
    corners = draw_shape(tab, [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7), (0.3, 0.3)])
    expected = int(in_polygon(dataset.coords, corners[:, 0], corners[:, 1]).sum())
    assert 1000 < expected < 300_000
    assert tab.headings()[0] == f"{expected:,} selected"
    tab.shoot("20-map-300000")
    shown = tab.page.evaluate("() => document.querySelector('.pvu-map .chart').data[0].selectedpoints.length")
    assert shown == expected


def test_a_link_restores_the_view(tab: Tab, server: Server, new_tab: NewTab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    drawn(tab)
    choose(tab, "Colour by", "label")
    tab.page.get_by_label("Find in paths").fill("cat/")
    tab.page.keyboard.press("Enter")
    tab.see("Filtered:")
    tab.settle()
    heading = tab.headings()[0]
    other = new_tab(server)
    other.open(tab.page.url.removeprefix(f"{server.url}/"))
    drawn(other)
    assert other.headings()[0] == heading
    assert (
        other.page.locator("[data-testid=stSelectbox]").filter(has_text="Colour by").locator("input").input_value()
        == "label"
    )
