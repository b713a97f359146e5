"""What a person does with the app, from the first click to the last column, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pvu.analysis import evaluate
from pvu.jobs import DEMO
from pvu.store import EmbeddedDataset
from tests.browser.conftest import NewTab, Server, Tab, link, serve, stores
from tests.fakes import write_pictures


def test_the_overview_shows_both_ends(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("", demo))
    order = np.argsort(demo.uncertainty, kind="stable")
    assert tab.cards(0) == order[:12].tolist()
    assert tab.cards(1) == order[::-1][:12].tolist()
    pictures = tab.page.locator(".gallery:visible").first.locator("img")
    pictures.first.wait_for()
    assert all(pictures.evaluate_all("all => all.map(image => image.complete && image.naturalWidth > 0)"))
    tab.page.reload()
    tab.see("The most certain and the most uncertain")
    assert tab.headings(1) == [DEMO]


def telling_query(tab: Tab, demo: EmbeddedDataset) -> int:
    """A card of the page whose results change when the uncertain half is hidden."""
    limit = demo.threshold(0.5)
    for row in tab.cards():
        everything = demo.search(row, 12)
        if 2 <= (everything["uncertainty"] > limit).sum() <= 10:
            return row
    pytest.fail("no image on the page has certain and uncertain neighbours")


def marked(tab: Tab, tone: str) -> list[int]:
    cards = tab.page.locator(f".gallery:visible button.card.{tone}")
    return [int(row) for row in cards.evaluate_all("all => all.map(card => card.dataset.row)")]


def test_a_search_with_and_without_the_uncertain_half(server: Server, new_tab: NewTab, demo: EmbeddedDataset) -> None:
    tab = new_tab(server, height=1500)
    tab.open(link("retrieval", demo))
    tab.shoot("7-retrieval-choose")
    row = telling_query(tab, demo)
    tab.page.locator(f'.gallery:visible button.card[data-row="{row}"]').first.click()
    tab.see("Without the most uncertain 10 %")
    tab.settle()
    assert f"query={row}" in tab.page.url
    tab.shoot("8-retrieval-10")
    slider = tab.page.locator("[data-testid=stSlider]").first.locator("input[type=range],[role=slider]").first
    slider.focus()
    for _ in range(8):
        tab.page.keyboard.press("ArrowRight")
    tab.see("Without the most uncertain 50 %")
    tab.settle()
    limit = demo.threshold(0.5)
    everything = demo.search(row, 12)["row"].tolist()
    filtered = demo.search(row, 12, max_uncertainty=limit)["row"].tolist()
    left, right = tab.cards(0), tab.cards(1)
    assert left == everything
    assert right == filtered
    assert left != right
    assert marked(tab, "removed") == [other for other in everything if demo.uncertainty[other] > limit]
    assert marked(tab, "added") == [other for other in filtered if other not in everything]
    tab.page.get_by_text("Precision@12").nth(1).wait_for(timeout=30_000)
    assert tab.page.get_by_text("Precision@12").count() == 2
    tab.shoot("9-retrieval-50")
    tab.page.reload()
    tab.see("Without the most uncertain 50 %")
    assert tab.cards(0) == everything


def test_a_new_picture_is_searched_with(tab: Tab, demo: EmbeddedDataset, tmp_path: Path) -> None:
    row = int(np.argsort(demo.uncertainty)[20])
    picture = tmp_path / "mine.png"
    Image.open(demo.image_path(row)).save(picture)
    tab.open(link("retrieval", demo))
    tab.page.get_by_role("tab", name="A new picture").click()
    tab.page.locator("input[type=file]").first.set_input_files(picture)
    tab.see("Without the most uncertain 10 %", seconds=60)
    tab.settle()
    assert tab.headings()[0] == "mine.png"
    assert tab.page.locator(".gallery:visible button.card[data-row]").first.get_attribute("data-row") == str(row)
    tab.shoot("10-retrieval-new-picture")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    tab.page.locator("input[type=file]").first.set_input_files(tmp_path / "broken.png")
    tab.see("broken.png: ")
    assert len(tab.alerts()) == 1
    tab.shoot("11-retrieval-broken-picture")


def test_the_evaluation_shows_the_numbers_of_the_library(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("evaluation", demo))
    tab.see("Keeping the most certain")
    tab.settle()
    tab.page.locator(".js-plotly-plot").nth(2).wait_for(timeout=60_000)  # charts are drawn after their page has settled
    values = tab.page.locator("[data-testid=stMetricValue]").all_inner_texts()
    expected = evaluate(demo)
    assert values[0] == f"{expected.recall_at_1:.3f}"
    assert values[1] == f"{expected.r_auroc:.3f}"
    assert tab.page.locator(".js-plotly-plot").count() == 3
    tab.shoot("12-evaluation")


def test_cards_are_reached_and_pressed_by_keyboard(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("retrieval", demo, query=40))
    tab.page.get_by_text("Search by image").click()
    focused = """() => {
        let element = document.activeElement;
        while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
        return element?.classList.contains("card") ? element.dataset.row : null;
    }"""
    for _ in range(40):
        tab.page.keyboard.press("Tab")
        row = tab.page.evaluate(focused)
        if row is not None:
            break
    assert int(row) == tab.cards(0)[0]
    assert tab.page.get_by_role("button", name=str(demo.images["path"].iloc[int(row)])).count() >= 1
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("button", name="Search with it").click()
    tab.page.wait_for_url(re.compile(f"query={row}&"))
    tab.settle()
    assert int(row) not in tab.cards(0)


def test_the_first_request_to_a_new_server_may_be_any_page(
    server: Server, new_tab: NewTab, demo: EmbeddedDataset
) -> None:
    with serve(server.home, server.root) as fresh:
        tab = new_tab(fresh)
        tab.open(link("map", demo))
        assert tab.headings(1) == ["Map"]
        menu = tab.page.locator("[data-testid=stSidebarNavLink]").all_inner_texts()
        assert [entry.split("\n")[-1] for entry in menu][:4] == ["Data set", "Map", "Retrieval", "Review"]
        chart = tab.page.locator(".pvu-map[data-drawn] .chart")
        chart.wait_for(timeout=60_000)
        assert chart.evaluate("node => node.clientWidth") > 400  # the wide layout is there as well
        tab.page.context.close()


def test_pages_without_a_data_set_lead_to_the_first(tab: Tab) -> None:
    for page in ("map", "retrieval", "evaluation"):
        tab.open(page)
        assert "No data set is open yet." in tab.alerts()[0]
    tab.shoot("13-no-data-set")
    tab.page.get_by_text("Choose images, or try the demo").click()
    tab.see("Which of your images are uncertain?")


def start_folder(tab: Tab, path: Path | str) -> None:
    tab.open()
    tab.page.get_by_role("tab", name="A folder on this computer").click()
    tab.page.get_by_role("textbox", name="Folder, or a file with images").fill(str(path))
    tab.page.get_by_role("button", name="Start", exact=True).click()


def test_a_folder_that_may_not_be_read_is_one_sentence(tab: Tab, server: Server) -> None:
    start_folder(tab, "/etc")
    tab.see("is outside the folders that this app may read")
    assert len(tab.alerts()) == 1
    tab.shoot("14-refused")
    assert "Traceback" not in tab.page.content()


def test_a_cancelled_run_says_what_it_keeps_and_goes_on(tab: Tab, server: Server) -> None:
    names = [f"{'ab'[number % 2]}/{number:03d}.jpg" for number in range(320)]
    write_pictures(server.root / "many", names, size=(320, 240))
    start_folder(tab, server.root / "many")
    tab.see("images/s", seconds=120)
    tab.page.get_by_role("button", name="Cancel").click()
    tab.see("They are kept: start again to go on from there.", seconds=60)
    (message,) = tab.alerts()
    kept, total = (int(number) for number in re.search(r"after (\d+) of (\d+) images", message).groups())  # type: ignore[union-attr]
    assert 0 < kept < total == 320
    tab.shoot("15-cancelled")
    tab.page.get_by_role("button", name="Go on").click()
    tab.see("The most certain and the most uncertain", seconds=150)
    assert tab.headings(1) == ["many"]
    assert tab.page.locator("[data-testid=stMetricValue]").first.inner_text() == "320"
    (dataset,) = stores(server, "many")
    assert len(dataset) == 320
