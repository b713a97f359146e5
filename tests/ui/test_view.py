"""The view as a link's parameters, there and back, without an app."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvu.conditions import Condition
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.ui.view import View, read_view, stamp
from tests.fakes import FakeEncoder


@pytest.fixture
def dataset(photos: Path, quick_map: None) -> EmbeddedDataset:
    return embed(photos, model=FakeEncoder(), workers=0)


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (View(), {}),
        (View(rows=(3,)), {"query": "3"}),
        (View(rows=(3, 1), page=2), {"query": "3,1", "page": "2"}),
        (View(hide=0), {"filter": "percentile", "at": "0"}),
        (View(hide_by="u"), {"filter": "u"}),
        (View(hide_by="risk"), {"filter": "risk", "at": "5"}),
        (View(hide_by="risk", alpha=0.1, k=48), {"filter": "risk", "at": "10", "k": "48"}),
        (View(similarity=0.29), {"similarity": "0.29"}),
        (View(where=(Condition("label", values=("cat",)),)), {"where": '{"label":["cat"]}'}),
    ],
)
def test_there_and_back(dataset: EmbeddedDataset, view: View, said: dict[str, str]) -> None:
    expected = said | ({"of": stamp(dataset)} if view.rows else {})
    assert view.params(dataset) == expected
    assert read_view(expected, dataset) == (view, [])


def test_the_largest_and_the_smallest_u_survive_rounding(dataset: EmbeddedDataset) -> None:
    for limit in (float(dataset.uncertainty.min()), float(dataset.uncertainty.max())):
        params = View(hide_by="u", max_u=limit).params(dataset)
        view, problems = read_view(params, dataset)
        assert problems == []
        assert view.max_u == pytest.approx(limit, rel=1e-5)


def test_each_thing_that_cannot_be_followed_has_its_sentence(dataset: EmbeddedDataset) -> None:
    params = {"query": "12", "filter": "u", "at": "-1", "k": "3", "similarity": "nan", "where": "?", "page": "1_0"}
    view, problems = read_view(params, dataset)
    assert view == View()
    assert len(problems) == 6
    assert all(problem.endswith(".") and len(problem) < 160 for problem in problems)


@pytest.mark.parametrize("at", ["5", "0.05"])
def test_without_uncertainties_there_is_no_filter(photos: Path, quick_map: None, at: str) -> None:
    dataset = embed(photos, model=FakeEncoder(has_head=False, fingerprint="no head"), workers=0)
    view, problems = read_view({"filter": "u", "at": at}, dataset)
    assert (view, problems) == (View(), ["The link filters by uncertainty, and there is none in this data set."])


@pytest.mark.parametrize("text", ["٣", "²", "1_1", " ", "1" * 5000, "0x1", "1.0", "-0.5", "+-1"])
def test_only_plain_digits_name_a_row(dataset: EmbeddedDataset, text: str) -> None:
    view, (problem,) = read_view({"query": text}, dataset)
    assert view.rows == ()
    assert problem.startswith("The link names an image “")
    assert len(problem) < 120
