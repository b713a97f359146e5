"""What is downloaded, copied and reported in a real browser is what the page says."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pvu.store import EmbeddedDataset
from tests.browser.conftest import Server, Tab, link, playwright


def radio(tab: Tab, name: str) -> None:
    tab.page.locator("[data-testid=stRadio] label").filter(has_text=name).first.click()
    tab.settle()


def go_to(tab: Tab, name: str) -> None:
    tab.page.get_by_role("tab", name=name).click()
    tab.settle()


def downloaded(tab: Tab, button: str) -> tuple[str, bytes]:
    with tab.page.expect_download() as waiting:
        tab.page.get_by_role("button", name=button).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


@pytest.fixture
def uncertain(tab: Tab, demo: EmbeddedDataset) -> np.ndarray:
    """The export page, with the most uncertain tenth chosen: their rows."""
    tab.open(link("export", demo))
    radio(tab, "The most uncertain")
    rows = np.sort(np.argsort(demo.uncertainty, kind="stable")[-round(len(demo) / 10) :])
    tab.see(f"{len(rows)} of {len(demo)} images")
    return rows


def test_tables_and_embeddings_are_those_of_the_chosen_images(
    tab: Tab, demo: EmbeddedDataset, uncertain: np.ndarray
) -> None:
    tab.shoot("export-table")
    paths = [str(demo.image_path(int(row))) for row in uncertain]
    name, data = downloaded(tab, "Download CSV")
    table = pd.read_csv(io.BytesIO(data))
    assert name == "demo.csv"
    assert table["path"].tolist() == paths
    assert table["uncertainty"].to_numpy() == pytest.approx(demo.uncertainty[uncertain])
    tab.page.get_by_text("List of paths").click()
    tab.settle()
    assert downloaded(tab, "Download List")[1].decode().splitlines() == paths
    go_to(tab, "Embeddings")
    name, data = downloaded(tab, "Download embeddings")
    assert name == "demo-embeddings.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        vectors = np.load(io.BytesIO(archive.read("demo.npy")))
        assert pd.read_parquet(io.BytesIO(archive.read("demo.parquet")))["path"].tolist() == paths
    np.testing.assert_array_equal(vectors, np.asarray(demo.embeddings)[uncertain])


def test_images_are_copied_to_a_new_folder(
    tab: Tab, server: Server, demo: EmbeddedDataset, uncertain: np.ndarray
) -> None:
    new = server.root / "uncertain"
    go_to(tab, "Images, to a new folder")
    tab.page.get_by_role("textbox", name="New folder").fill(str(new))
    tab.page.keyboard.press("Tab")
    tab.settle()
    tab.page.get_by_role("button", name=f"Copy {len(uncertain)} images").click()
    tab.see(f"{len(uncertain)} images copied", seconds=60)
    tab.settle()
    tab.shoot("export-copied")
    copied = {path.relative_to(new).as_posix(): _hash(path) for path in new.rglob("*.jpg")}
    originals = [demo.image_path(int(row)) for row in uncertain]
    assert copied == {path.relative_to(demo.source).as_posix(): _hash(path) for path in originals}


def test_the_report_opens_from_a_file_alone(
    tab: Tab, browser: playwright.Browser, demo: EmbeddedDataset, tmp_path: Path
) -> None:
    tab.open(link("export", demo))
    go_to(tab, "Report")
    tab.page.get_by_role("button", name="Write the report").click()
    tab.page.get_by_role("button", name="Download the report").wait_for(timeout=60_000)
    _, data = downloaded(tab, "Download the report")
    (tmp_path / "demo.html").write_bytes(data)
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 1000})
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else wrong.append(request.url),
    )
    page.goto((tmp_path / "demo.html").as_uri())
    page.locator(".js-plotly-plot .gl-canvas").first.wait_for()
    assert page.locator("h2").all_inner_texts() == [
        *("The map", "The two ends", "What the labels say", "To review"),
        "A search, with and without the uncertain images",
    ]
    assert page.locator("img").evaluate_all("all => all.every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator(".js-plotly-plot").count() == 4
    page.screenshot(path=tab.shots / "report.png")
    context.close()
    assert wrong == []


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
