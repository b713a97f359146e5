"""The README's pictures: embeds the demo set in an empty home, drives the app in Chromium, and writes docs/*.png.

    python -m scripts.screenshots                    # or: make screenshots
    python -m scripts.screenshots --only map review  # some of them, into docs/
    python -m scripts.screenshots --out FOLDER

Takes a minute or two. Needs what the browser tests need: a Chromium and Playwright. Set PVU_CHROMIUM to the browser's
path if it is not found.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import playwright.sync_api as playwright
from PIL import Image

from pvu.store import EmbeddedDataset
from tests.browser.conftest import FLAGS, Tab, chromium, link, serve

ROOT = Path(__file__).parents[1]
WIDTH = 1400
LIMIT = 300_000
"""Bytes a picture may have: it is cloned with the repository for ever."""
_LASSO = [(0.34, 0.3), (0.6, 0.26), (0.68, 0.5), (0.52, 0.66), (0.34, 0.56), (0.34, 0.3)]

Shot = Callable[[Tab, EmbeddedDataset], None]


def home(tab: Tab, _: EmbeddedDataset) -> None:
    tab.open()
    tab.see("Unfamiliar is not uncertain")


def overview(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("", demo))
    tab.see("The most certain and the most uncertain")


def umap(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    tab.page.locator(".pvu-map[data-drawn]").wait_for()
    tab.settle()
    box = tab.page.locator(".pvu-map .chart").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in _LASSO]
    tab.page.mouse.move(*places[0])
    tab.page.mouse.down()
    for x, y in places[1:]:
        tab.page.mouse.move(x, y, steps=8)
    tab.page.mouse.up()
    tab.see("selected")


def panel(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("map", demo))
    tab.page.get_by_role("textbox", name="Find in paths and labels").fill("rocket/18_occlusion")
    tab.page.keyboard.press("Enter")
    tab.see("1 image")
    tab.settle()
    tab.page.locator(".gallery:visible button.card").first.click()
    dialog = tab.page.get_by_role("dialog")
    dialog.wait_for()
    tab.settle()
    dialog.get_by_text("Why uncertain?").click()
    tab.settle()


def retrieval(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("retrieval", demo, query=telling_query(demo)))
    tab.see("Without the most uncertain")


def review(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("review", demo))
    tab.page.get_by_role("radio", name="Likely mislabelled").click()
    tab.settle()
    tab.cards()


def evaluation(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("evaluation", demo))
    tab.see("Risk and coverage")


def training(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("train", demo))
    tab.page.get_by_role("button", name="Fit a head").click()
    tab.page.locator("[data-testid=stProgress]").wait_for()
    tab.page.locator("[data-testid=stProgress]").wait_for(state="detached", timeout=240_000)
    tab.settle()


def export(tab: Tab, demo: EmbeddedDataset) -> None:
    tab.open(link("export", demo))
    tab.cards()


# What is shown, and how high the window is.
SHOTS: dict[str, tuple[Shot, int]] = {
    "home": (home, 900),
    "overview": (overview, 1000),
    "map": (umap, 1000),
    "panel": (panel, 1000),
    "retrieval": (retrieval, 1250),
    "review": (review, 1000),
    "evaluation": (evaluation, 1000),
    "training": (training, 1000),
    "export": (export, 900),
}


def telling_query(demo: EmbeddedDataset) -> int:
    """A clear image whose search the default filter improves most."""
    from pvu.report import choose_query

    row = choose_query(demo)
    assert row is not None
    return row


def quantized(png: bytes, limit: int = LIMIT) -> bytes:
    """A picture in as many colours as fit into the limit, of 256 at the most."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colors in (256, 128, 64, 32):
        buffer = io.BytesIO()
        # The few pixels of a bright colour count as much as the many white ones: the map's points are few.
        small = picture.quantize(colors, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        small.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= limit:
            break
    return buffer.getvalue()


def shoot(out: Path, names: list[str]) -> None:
    """Write some of SHOTS to a folder."""
    base = Path(tempfile.gettempdir()) / "pvu-screenshots"  # it is seen in the pictures
    shutil.rmtree(base, ignore_errors=True)
    (base / "pictures").mkdir(parents=True)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
        with serve(base / "home", base / "pictures") as server:
            if "home" in names:  # before there is anything in it
                _shoot_one(browser, server.url, "home", out, None)
            environment = {**os.environ, "PVU_HOME": str(server.home)}
            subprocess.run([sys.executable, "-m", "pvu", "demo"], check=True, cwd=ROOT, env=environment)
            (store,) = (path.parent for path in server.home.glob("stores/demo-*/manifest.json"))
            for name in names:
                if name != "home":
                    _shoot_one(browser, server.url, name, out, EmbeddedDataset(store))
        browser.close()
    shutil.rmtree(base)


def _shoot_one(browser: playwright.Browser, url: str, name: str, out: Path, demo: EmbeddedDataset | None) -> None:
    show, height = SHOTS[name]
    context = browser.new_context(viewport={"width": WIDTH, "height": height})
    tab = Tab(context.new_page(), url, out)
    tab.page.set_default_timeout(60_000)
    show(tab, demo)  # type: ignore[arg-type]  # the home page alone needs none
    tab.settle()
    tab.page.mouse.move(WIDTH - 2, 2)  # where it hovers over nothing
    tab.page.wait_for_timeout(1500)
    data = quantized(tab.page.screenshot())
    (out / f"{name}.png").write_bytes(data)
    print(f"{out / name}.png: {len(data) / 1000:.0f} kB")
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where to write")
    parser.add_argument("--only", nargs="+", choices=list(SHOTS), default=list(SHOTS), help="which")
    arguments = parser.parse_args()
    if chromium() is None:
        sys.exit("No Chromium found: install the package chromium, or set PVU_CHROMIUM to its path.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    shoot(arguments.out, arguments.only)


if __name__ == "__main__":
    main()
