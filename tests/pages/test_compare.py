"""The page that compares two data sets, without a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pvu.pipeline import embed
from pvu.shift import compare
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, write_pictures
from tests.pages.conftest import App, Galleries

Make = Callable[..., EmbeddedDataset]


def choices(app: App) -> list[str]:
    (box,) = [box for box in app.test.selectbox if box.label == "Compare with"]
    return list(box.options)


def traces(app: App, chart: int) -> list[dict[str, Any]]:
    return list(json.loads(app.charts()[chart].spec)["data"])


@pytest.fixture
def pair(make_dataset: Make) -> tuple[EmbeddedDataset, EmbeddedDataset]:
    return make_dataset("pets"), make_dataset("birds", ("owl", "wren"), count=10)


def test_without_a_data_set_it_says_where_to_begin(app: App) -> None:
    app.open("compare")
    assert any("differs from it, on the same map" in text for text in app.texts("info"))
    assert app.links() == [""]  # the first page


def test_without_a_second_one_it_says_what_to_add(app: App, make_dataset: Make) -> None:
    app.open("compare", dataset=make_dataset().path.name)
    assert app.texts("info")[0].startswith("There is no second data set to compare pets with. Add one with fake")
    assert app.links() == [""]  # the first page
    assert app.charts() == []


def test_a_choice_shows_both(app: App, pair: tuple[EmbeddedDataset, EmbeddedDataset], galleries: Galleries) -> None:
    pets, birds = pair
    app.open("compare", dataset=pets.path.name)
    assert choices(app) == ["birds · 20 images"]
    assert app.charts() == []
    app.test.selectbox[0].select_index(0)  # of the page; the sidebar's comes after it
    app.run()
    assert app.test.query_params["other"] == birds.path.name
    shift = compare(pets, birds)
    assert galleries.rows("farthest_cards") == shift.farthest.tolist()
    assert [metric.label for metric in app.test.metric] == ["Uncertain", "Far away", "Mixed", "Clusters missed"]
    assert app.test.metric[1].value == f"{100 * shift.far_share:.0f} %"
    assert all(metric.help for metric in app.test.metric)
    assert [len(traces(app, chart)) for chart in range(3)] == [2, 2, 2]
    assert [trace["name"] for trace in traces(app, 0)] == ["pets (36)", "birds (20)"]


def test_a_link_restores_it_and_a_click_shows_the_nearest(
    app: App, pair: tuple[EmbeddedDataset, EmbeddedDataset], galleries: Galleries
) -> None:
    pets, birds = pair
    app.open("compare", dataset=pets.path.name, other=birds.path.name)
    row = galleries.rows("farthest_cards")[2]
    galleries.click("farthest_cards", row)
    app.run()
    # The nearest by hand: the cosines with every image of the other set.
    z, query = np.asarray(pets.embeddings, np.float64), np.asarray(birds.embeddings[row], np.float64)
    cosines = z @ query / np.linalg.norm(z, axis=1) / np.linalg.norm(query)
    nearest = galleries.rows("nearest_cards")
    assert nearest == np.argsort(-cosines, kind="stable")[: len(nearest)].tolist()
    galleries.click("nearest_cards", nearest[0])
    app.run()
    app.run()  # the panel opens in the run after the click
    assert app.test.session_state["pvu_panel"] == nearest[0]


def test_the_choice_is_kept_over_other_pages(app: App, pair: tuple[EmbeddedDataset, EmbeddedDataset]) -> None:
    pets, birds = pair
    app.open("compare", dataset=pets.path.name, other=birds.path.name)
    app.go("evaluation")
    app.go("compare")
    assert len(app.charts()) == 3
    assert app.test.query_params["other"] == birds.path.name


def test_sets_that_do_not_fit_are_listed_with_the_reason(app: App, make_dataset: Make, tmp_path: Path) -> None:
    pets = make_dataset("pets")
    write_pictures(tmp_path / "$old$", ["1.png", "2.png"])
    old = embed(tmp_path / "$old$", model=FakeEncoder(name="other", fingerprint="other"), workers=0)
    app.open("compare", dataset=pets.path.name)
    (listed,) = [text for text in app.texts("markdown") if "$old$" in text]
    assert "was embedded with other, pets with fake: embed both with one model." in listed
    app.open("compare", dataset=pets.path.name, other=old.path.name)
    assert app.charts() == []


def test_a_link_to_a_set_that_is_not_there_is_said(app: App, pair: tuple[EmbeddedDataset, EmbeddedDataset]) -> None:
    app.open("compare", dataset=pair[0].path.name, other="gone")
    assert app.texts("warning")[0].startswith("The second data set that this link names is not on this computer")
    assert choices(app) == ["birds · 20 images"]


def test_without_uncertainties_the_rest_is_shown(app: App, make_dataset: Make) -> None:
    first, second = make_dataset("pets", has_head=False), make_dataset("birds", ("owl",), has_head=False)
    app.open("compare", dataset=first.path.name, other=second.path.name)
    assert [metric.label for metric in app.test.metric] == ["Far away", "Mixed", "Clusters missed"]
    assert "One of the two has no uncertainties." in app.texts("info")
    assert len(app.charts()) == 2


def test_once_the_other_is_opened_itself_there_is_no_complaint(
    app: App, pair: tuple[EmbeddedDataset, EmbeddedDataset]
) -> None:
    pets, birds = pair
    app.open("compare", dataset=pets.path.name, other=birds.path.name)
    app.test.sidebar.selectbox[0].set_value(str(birds.path)).run()
    app.checked()
    assert app.test.query_params["dataset"] == birds.path.name
    assert app.texts("warning") == []
    assert choices(app) == ["pets · 36 images"]
