"""Two data sets on one map, and embeddings of one's own, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pvu.bring import bring
from pvu.shift import compare
from pvu.store import EmbeddedDataset
from tests.browser.conftest import Server, Tab
from tests.fakes import write_pictures

Pair = tuple[EmbeddedDataset, EmbeddedDataset]
NewTab = Callable[..., Tab]


def save(folder: Path, name: str, digits: list[int], rows: slice) -> dict[str, Path | str]:
    """Pictures of some handwritten digits as embeddings: u is how little ink there is."""
    pictures, labels = load_digits(return_X_y=True)
    chosen = np.flatnonzero(np.isin(labels, digits))[rows]
    np.save(folder / f"{name}.npy", pictures[chosen])
    np.save(folder / f"{name}.u.npy", 1 / pictures[chosen].sum(axis=1))
    (folder / f"{name}.csv").write_text("label\n" + "".join(f"digit {label}\n" for label in labels[chosen]))
    return {"uncertainty": folder / f"{name}.u.npy", "table": folder / f"{name}.csv", "name": name, "space": "digits"}


@pytest.fixture(scope="module")
def pair(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two sets in the server's home: A has the digits 0 to 4, B the digits 3 to 6."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVU_HOME", str(server.home))
        a = bring(folder / "small.npy", **save(folder, "small", [0, 1, 2, 3, 4], slice(0, 150)))
        b = bring(folder / "large.npy", **save(folder, "large", [3, 4, 5, 6], slice(0, 100)))
    yield a, b
    for dataset in (a, b):
        shutil.rmtree(dataset.path)


def test_a_second_set_on_the_map(server: Server, new_tab: NewTab, pair: Pair) -> None:
    a, b = pair
    tab = new_tab(server)
    tab.open(f"compare?dataset={a.path.name}")
    tab.shoot("compare-empty")
    tab.page.get_by_role("combobox", name="Compare with").click()
    tab.page.get_by_role("option").filter(has_text="large").click()
    tab.see("Both on one map")
    tab.settle()
    shift = compare(a, b)
    assert f"other={b.path.name}" in tab.page.url
    # Each set is a trace of its own, with every image of it.
    chart = tab.page.locator(".js-plotly-plot").first
    chart.wait_for()
    assert chart.evaluate("plot => plot._fullData.map(trace => trace.x.length)") == [150, 100]
    assert tab.cards(0) == shift.farthest[:24].tolist()
    tab.shoot("compare")
    far = int(shift.farthest[0])
    tab.page.locator(f".gallery:visible >> nth=0 >> button.card[data-row='{far}']").click()
    tab.see("Nearest in small")
    tab.settle()
    assert tab.cards(1) == shift.neighbors[far, :12].tolist()
    tab.shoot("compare-nearest")
    # The link shows the same to somebody else.
    other = new_tab(server)
    other.open(tab.page.url.removeprefix(f"{server.url}/"))
    other.see("Both on one map")
    assert other.cards(0) == shift.farthest[:24].tolist()


def test_embeddings_are_brought_by_the_form(server: Server, new_tab: NewTab) -> None:
    folder = server.root / "brought"
    names = [f"{index:02d}.png" for index in range(30)]
    write_pictures(folder / "pictures", names)
    np.save(folder / "mine.npy", np.random.default_rng(0).normal(size=(30, 8)))
    (folder / "mine.csv").write_text("path,u\n" + "".join(f"{name},{row}\n" for row, name in enumerate(names)))
    tab = new_tab(server)
    tab.open()
    tab.page.get_by_role("tab", name="Embeddings of your own").click()
    tab.page.get_by_role("textbox", name="Embeddings", exact=True).fill(str(folder / "mine.npy"))
    tab.page.get_by_role("textbox", name="Table (optional)", exact=True).fill(str(folder / "mine.csv"))
    tab.page.get_by_role("textbox", name="Folder of the images (optional)", exact=True).fill(str(folder / "pictures"))
    tab.shoot("bring-form")
    tab.page.get_by_role("button", name="Make the data set").click()
    tab.see("The most certain and the most uncertain", seconds=90)
    tab.settle()
    assert tab.headings(1) == ["mine"]
    assert tab.cards(0) == list(range(12))
    assert tab.cards(1) == list(range(29, 17, -1))
    tab.shoot("brought")
    store = tab.page.url.split("dataset=")[1].split("&")[0]
    shutil.rmtree(server.home / "stores" / store)
