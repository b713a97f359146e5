"""How far a long computation is: one small record that the terminal, the status file and the page all show."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

PHASES = {
    "demo": "Making the demo images",
    "check": "Checking the embeddings",
    "scan": "Looking through the folder",
    "unpack": "Unpacking the images",
    "model": "Loading the model",
    "thumbnails": "Making thumbnails",
    "images": "Computing embeddings and uncertainties",
    "neighbors": "Finding each image's neighbours",
    "map": "Drawing the map",
    "read": "Reading the embeddings",
    "probe": "Finding out which images are hard",
    "fit": "Fitting the head",
    "folds": "Measuring it on images it has not seen",
    "measure": "Comparing",
    "save": "Saving",
    "copy": "Copying the images",
    "report": "Writing the report",
}


@dataclass(frozen=True)
class Progress:
    """A moment of a run.

    Args:
        phase: a key of PHASES.
        done: images (or other units) finished in this phase.
        total: images in this phase; 0 if it cannot be counted.
        per_second: images a second since the phase began; 0 if unknown.
        seconds_left: at that speed; NaN if unknown.
        failed: images that could not be read so far.
        unit: what is counted.
        curve: what has been reached step by step, for a picture: at most some hundred numbers.
    """

    phase: str
    done: int = 0
    total: int = 0
    per_second: float = 0.0
    seconds_left: float = float("nan")
    failed: int = 0
    unit: str = "images"
    curve: tuple[float, ...] = ()

    def __str__(self) -> str:
        text = PHASES.get(self.phase, self.phase)
        if self.total:
            text += f": {self.done:,} of {self.total:,}"
        if self.per_second:
            text += f", {self.per_second:.0f} {self.unit}/s"
        if self.seconds_left == self.seconds_left:
            text += f", {format_seconds(self.seconds_left)} left"
        return text


ProgressCallback = Callable[[Progress], None]


class PhaseTimer:
    """Measures the speed of one phase.

    Args:
        phase: a key of PHASES.
        total: images in it.
        report: gets a Progress at every step.
        already: images of the total that an earlier run has finished; they say nothing about the speed.
        unit: what is counted.
    """

    def __init__(
        self, phase: str, total: int, report: ProgressCallback, *, already: int = 0, unit: str = "images"
    ) -> None:
        self._phase, self._total, self._report, self._already, self._unit = phase, total, report, already, unit
        self._start = time.monotonic()
        self._done, self._failed = already, 0
        report(Progress(phase, already, total, unit=unit))

    def step(self, done: int, failed: int = 0, *, curve: tuple[float, ...] = ()) -> None:
        """Count more images as finished; ``curve`` as in Progress."""
        self._done += done
        self._failed += failed
        speed = (self._done - self._already) / max(time.monotonic() - self._start, 1e-9)
        left = (self._total - self._done) / speed if speed else float("nan")
        self._report(Progress(self._phase, self._done, self._total, speed, left, self._failed, self._unit, curve))


def format_seconds(seconds: float) -> str:
    """ "42 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(count: int, noun: str) -> str:
    """ "1 image", "2,000 images"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
