from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from training.experiments.summary import Estimate, markdown_table, over_images, over_seeds


def test_interval_over_seeds_is_the_textbook_one() -> None:
    values = [0.60, 0.62, 0.61, 0.65, 0.59]
    found = over_seeds(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.n == 5


def test_interval_over_seeds_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [over_seeds(rng.normal(3, 2, 5)) for _ in range(2000)]
    covered = np.mean([estimate.low <= 3 <= estimate.high for estimate in found])
    assert covered == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, float("nan")]])
def test_interval_over_seeds_refuses_what_has_no_spread(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least 2 finite numbers"):
        over_seeds(values)


def test_bootstrap_of_a_mean_agrees_with_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = over_images(lambda rows: float(values[rows].mean()), 400)
    assert found.mean == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)


def test_bootstrap_leaves_out_undefined_resamples_and_refuses_if_all_are() -> None:
    found = over_images(lambda rows: float("nan") if rows[0] % 2 else 1.0, 10)
    assert (found.low, found.high) == (1.0, 1.0)
    with pytest.raises(ValueError, match="defined for none"):
        over_images(lambda rows: float("nan"), 10)


def test_table_is_markdown() -> None:
    table = markdown_table(["set", "R@1"], [["cub", 0.61249], ["cars", Estimate(0.5, 0.4, 0.6, 5)], ["x", np.nan]])
    assert table.splitlines() == [
        "| set | R@1 |",
        "| --- | --- |",
        "| cub | 0.612 |",
        "| cars | 0.500 [0.400, 0.600] |",
        "| x | - |",
    ]
    with pytest.raises(ValueError, match="1 cells under 2 titles"):
        markdown_table(["a", "b"], [["only one"]])
