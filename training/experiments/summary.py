"""What the experiments' results are told with: intervals over seeds and over images, and Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import t

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval.

    Args:
        mean: of the values.
        low: lower end of the interval.
        high: upper end.
        n: how many values (seeds, or images) it comes from.
    """

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def over_seeds(values: Iterable[float]) -> Estimate:
    """Mean of one number a seed, and the 95 % Student t interval of that mean.

    It says what training again would give, on the same images. Differences of two methods belong in here as one
    difference a seed.

    Args:
        values: one finite number a seed.

    Raises:
        ValueError: with fewer than two seeds, or a number that is not finite.
    """
    numbers = np.asarray(list(values), np.float64)
    if len(numbers) < 2 or not np.isfinite(numbers).all():
        raise ValueError(f"An interval over seeds needs at least 2 finite numbers, got {numbers.tolist()}.")
    mean = float(numbers.mean())
    half = float(t.ppf(0.5 + LEVEL / 2, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return Estimate(mean, mean - half, mean + half, len(numbers))


def over_images(
    statistic: Callable[[np.ndarray], float], images: int, *, repeats: int = 1000, seed: int = 0
) -> Estimate:
    """A statistic of a set of images, and its 95 % percentile bootstrap interval (Efron 1979).

    It says what another sample of images would give, with the same head. Resamples for which the statistic is not
    defined (NaN, such as an AUROC of one class) are left out.

    Args:
        statistic: from (n,) int rows, with repeats, to a number.
        images: how many rows there are.
        repeats: resamples.
        seed: of the resamples; two statistics with the same seed see the same ones.

    Raises:
        ValueError: if the statistic is defined for no resample.
    """
    rng = np.random.default_rng(seed)
    found = np.array([statistic(rng.integers(images, size=images)) for _ in range(repeats)])
    found = found[np.isfinite(found)]
    if len(found) == 0:
        raise ValueError(f"The statistic is defined for none of {repeats} resamples of {images} images.")
    low, high = np.quantile(found, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Estimate(statistic(np.arange(images)), float(low), float(high), images)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. Floats and :class:`Estimate` are written with three decimals, everything else as it is.

    Raises:
        ValueError: if a row has not as many cells as the header.
    """
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"A row has {len(row)} cells under {len(header)} titles: {row}.")
        lines.append(" | ".join(_cell(value) for value in row))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.3f}" if np.isfinite(value) else "-"
    if isinstance(value, Estimate):
        return f"{value:.3f}"
    return str(value)
