"""What the figures of two sets say, in numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pvu.bring import bring
from pvu.shift import compare, two_samples
from pvu.shift_figures import A_COLOR, B_COLOR, percentile_figure, similarity_figure, two_map
from pvu.store import EmbeddedDataset

Pair = tuple[EmbeddedDataset, EmbeddedDataset]


@pytest.fixture
def pair(tmp_path: Path, quick_map: None) -> Pair:
    sets = []
    for name, count in (("<b>a", 30), ("b", 20)):
        np.save(tmp_path / f"{count}.npy", np.random.default_rng(count).normal(size=(count, 6)))
        np.save(tmp_path / f"{count}.u.npy", np.random.default_rng(count).uniform(size=count))
        sets.append(bring(tmp_path / f"{count}.npy", uncertainty=tmp_path / f"{count}.u.npy", name=name, space="one"))
    return sets[0], sets[1]


def test_histograms_are_shares_of_each_set() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 100, 1000), rng.uniform(50, 100, 300)
    figure = percentile_figure(two_samples(a, b), ("<train>", "deployment"))
    first, second = figure.data
    assert [sum(bar.y) for bar in figure.data] == pytest.approx([100, 100])
    # Bars of five percentiles: a twentieth each of A; of B nothing below the middle and a tenth each above.
    np.testing.assert_allclose(first.y, 5, atol=2)
    assert sum(second.y[:10]) == 0
    np.testing.assert_allclose(second.y[10:], 10, atol=5)
    assert (first.name, first.marker.color, second.marker.color) == ("&lt;train&gt;", A_COLOR, B_COLOR)
    assert figure.layout.barmode == "overlay"


def test_the_line_of_what_is_far_is_at_the_fifth_percentile() -> None:
    a, b = np.linspace(0, 1, 101), np.linspace(0.5, 0.6, 10)
    figure = similarity_figure(two_samples(a, b), ("a", "b"))
    assert figure.layout.shapes[0].x0 == pytest.approx(0.05)
    assert [sum(bar.y) for bar in figure.data] == pytest.approx([100, 100])


def test_histograms_of_one_value_are_drawn() -> None:
    same = np.full(5, 0.5)
    assert sum(similarity_figure(two_samples(same, same), ("a", "b")).data[0].y) == pytest.approx(100)


def test_the_map_has_a_trace_a_set_and_a_sample_above_a_limit(pair: Pair) -> None:
    a, b = pair
    shift = compare(a, b)
    first, second = two_map(a, b, shift).data
    np.testing.assert_array_equal(first.x, a.coords[:, 0])
    np.testing.assert_array_equal(second.y, shift.coords[:, 1])
    assert first.name == "&lt;b&gt;a (30)"
    assert [symbol == "x" for symbol in second.marker.symbol] == shift.far.tolist()
    assert {first.type, second.type} == {"scattergl"}
    thin_a, thin_b = two_map(a, b, shift, limit=10).data
    assert len(thin_a.x) == len(thin_b.x) == 10
    np.testing.assert_array_equal(thin_b.x, shift.coords[thin_b.customdata, 0])
    assert list(first.text[:2]) == ["0000000", "0000001"]
