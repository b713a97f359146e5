"""Retrieval in a real browser: the clipboard, links that restore a view, pages, lists to take away, and Back."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pvu.store import EmbeddedDataset
from tests.browser.conftest import NewTab, Server, Tab, link

PASTE = """data => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([bytes], "image.png", { type: "image/png" }));
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, composed: true }));
}"""


def paste(tab: Tab, data: bytes) -> None:
    """What Ctrl+V does with a picture on the clipboard."""
    tab.page.evaluate(PASTE, base64.b64encode(data).decode())


def png(path: Path) -> bytes:
    buffer = io.BytesIO()
    Image.open(path).save(buffer, "PNG")
    return buffer.getvalue()


def slide(tab: Tab, label: str, presses: int) -> None:
    """Move a slider by so many steps to the right."""
    slider = (
        tab.page.locator("[data-testid=stSlider]")
        .filter(has_text=label)
        .locator("input[type=range],[role=slider]")
        .first
    )
    slider.focus()
    for _ in range(presses):
        tab.page.keyboard.press("ArrowRight")
    tab.settle()


def test_a_picture_is_pasted_and_searched_with(tab: Tab, demo: EmbeddedDataset) -> None:
    row = int(np.argsort(demo.uncertainty)[20])
    tab.open(link("retrieval", demo))
    tab.page.get_by_role("tab", name="A new picture").click()
    tab.page.get_by_role("button", name="Paste a picture").wait_for()
    tab.shoot("retrieval-paste")
    paste(tab, png(demo.image_path(row)))
    tab.see("pasted picture", seconds=60)
    tab.see("Without the most uncertain 10 %")
    tab.settle()
    assert tab.cards(0)[0] == row
    assert "query=" not in tab.page.url
    tab.shoot("retrieval-pasted")
    paste(tab, b"no picture")
    tab.see("pasted picture: not an image, or a damaged header")
    assert tab.cards(0)[0] == row


def test_a_link_restores_the_view_in_another_browser(
    tab: Tab, server: Server, new_tab: NewTab, demo: EmbeddedDataset
) -> None:
    tab.open(link("retrieval", demo, query=40))
    slide(tab, "Hide the most uncertain", 4)
    tab.see("Without the most uncertain 30 %")
    slide(tab, "Similarity at least", 25)
    tab.page.get_by_role("combobox", name="Only images with").click()
    tab.page.get_by_role("option", name="degradation").click()
    tab.page.keyboard.press("Escape")
    tab.page.get_by_role("combobox", name="degradation is").click()
    tab.page.get_by_role("option", name="blur").first.click()
    tab.settle()
    tab.see("All images that meet the conditions")
    shown = tab.cards(0), tab.cards(1)
    tab.shoot("retrieval-conditions")
    chosen = {demo.images["degradation"].iloc[row] for row in shown[0] + shown[1]}
    assert len(chosen) == 1
    other = new_tab(server)
    other.open(tab.page.url.removeprefix(f"{tab.url}/"))
    other.see("Without the most uncertain 30 %")
    other.settle()
    assert (other.cards(0), other.cards(1)) == shown
    assert other.page.url == tab.page.url
    assert other.alerts() == []


def test_pages_and_the_list_to_take_away(tab: Tab, demo: EmbeddedDataset, tmp_path: Path) -> None:
    everything = demo.search(40, 480)
    filtered = demo.search(40, 480, max_uncertainty=demo.threshold(0.9))
    tab.open(link("retrieval", demo, query=40))
    tab.see("Without the most uncertain 10 %")
    tab.page.get_by_label("Next page").or_(tab.page.get_by_role("button", name="2", exact=True)).first.click()
    tab.page.wait_for_url(re.compile("page=2"))
    tab.settle()
    assert tab.cards(0) == everything["row"][12:24].tolist()
    assert tab.cards(1) == filtered["row"][12:24].tolist()
    tab.shoot("retrieval-page-2")
    with tab.page.expect_download() as waiting:
        tab.page.get_by_role("button", name=f"Download {len(filtered)} results as CSV").click()
    waiting.value.save_as(tmp_path / "taken.csv")
    taken = pd.read_csv(tmp_path / "taken.csv")
    assert taken["path"].tolist() == [str(demo.image_path(row)) for row in filtered["row"]]
    assert np.allclose(taken["similarity"], filtered["similarity"])
    assert np.allclose(taken["uncertainty"], filtered["uncertainty"])
    assert taken["risk"].between(0, 1).all()


def test_one_press_of_back_for_one_step(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("retrieval", demo, query=40))
    tab.see("Without the most uncertain 10 %")
    first = tab.page.url
    slide(tab, "Hide the most uncertain", 1)
    second = tab.page.url
    assert "at=15" in second  # replaces the entry, so that Back does not go through every setting
    tab.page.locator(".gallery:visible button.card").first.click()
    tab.page.get_by_role("button", name="Search with it").click()
    tab.page.wait_for_url(re.compile("query=(?!40&)"))
    tab.settle()
    third = tab.page.url
    tab.menu("Evaluation")
    tab.menu("Map")
    for expected in (link("evaluation", demo), third.removeprefix(f"{tab.url}/"), second.removeprefix(f"{tab.url}/")):
        tab.page.go_back()
        tab.settle()
        assert tab.page.url == f"{tab.url}/{expected}"
    tab.see("Without the most uncertain 15 %")
    assert first != second
    assert tab.cards(0) == demo.search(40, 12)["row"].tolist()
