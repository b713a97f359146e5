"""A run in a terminal: Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pvu.progress import Progress
from pvu.terminal import Interruptible


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """A shell starts what runs in its background with Ctrl-C ignored; a terminal's program has Python's handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_between_batches_stops_the_run_and_keeps_it() -> None:
    seen: list[Progress] = []
    with Interruptible(seen.append) as run:
        run.progress(Progress("images", 16, 64))
        assert not run.should_stop()
        signal.raise_signal(signal.SIGINT)
        assert run.should_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert len(seen) == 1
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_outside_the_images_interrupts_at_once() -> None:
    with Interruptible(lambda _: None) as run:
        run.progress(Progress("map"))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
