"""What a person reads while a long computation runs."""

from __future__ import annotations

import math

import pytest

from pvu.progress import PHASES, PhaseTimer, Progress, format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (41.6, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_progress_in_words() -> None:
    assert str(Progress("scan")) == PHASES["scan"]
    assert str(Progress("images", 1500, 12000)) == f"{PHASES['images']}: 1,500 of 12,000"
    assert str(Progress("images", 1, 2, 30.4, 61.0)) == f"{PHASES['images']}: 1 of 2, 30 images/s, 1 min 1 s left"
    assert str(Progress("something else")) == "something else"


def test_the_timer_measures_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("pvu.progress.time.monotonic", lambda: now)
    seen: list[Progress] = []
    timer = PhaseTimer("images", 40, seen.append)
    assert (seen[0].done, seen[0].total, seen[0].per_second) == (0, 40, 0)
    assert math.isnan(seen[0].seconds_left)
    now = 102.0
    timer.step(10, 1)
    now = 108.0
    timer.step(30, 2)
    assert [(p.done, p.failed, p.per_second, p.seconds_left) for p in seen[1:]] == [(10, 1, 5, 6), (40, 3, 5, 0)]


def test_a_step_in_no_time_does_not_divide_by_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pvu.progress.time.monotonic", lambda: 0.0)
    seen: list[Progress] = []
    timer = PhaseTimer("images", 2, seen.append)
    timer.step(0)
    timer.step(1)
    assert all(math.isfinite(progress.per_second) for progress in seen)
