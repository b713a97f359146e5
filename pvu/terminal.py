"""What commands share: a progress bar on standard error, Ctrl-C that keeps what is done, checks, and JSON."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvu.errors import PVUError
from pvu.progress import Progress

if TYPE_CHECKING:
    from pvu.store import EmbeddedDataset


def _share(value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1:
        raise typer.BadParameter(f"{value} is not above 0 and at most 1 (0.9 hides the most uncertain tenth).")
    return value


DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="A folder that was embedded, or a store.")]
StoreModelOption = Annotated[
    str | None, typer.Option("--model", help="The model it was embedded with. Default: the newest run's.")
]
KeepOption = Annotated[
    float | None, typer.Option(callback=_share, metavar="SHARE", help="Only this most certain share of the images.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]


class InputError(PVUError):
    """What was typed cannot be carried out."""


class ProgressBar(contextlib.AbstractContextManager["ProgressBar"]):
    """Shows a run's Progress on standard error: a bar over the images; on a terminal the other phases by name."""

    def __init__(self) -> None:
        self._phase = ""
        self._bar: Any = None

    def __call__(self, progress: Progress) -> None:
        if progress.phase != self._phase:
            self.close()
            self._phase = progress.phase
            if not progress.total and sys.stderr.isatty():
                print(f"{progress} ...", file=sys.stderr)
        if progress.total:
            self._draw(progress)

    def _draw(self, progress: Progress) -> None:
        from tqdm import tqdm

        if self._bar is None:
            # In a log, where every redraw is a line, seldom; and never for runs that fail at once.
            interval = 0.2 if sys.stderr.isatty() else 10
            unit = progress.unit.removesuffix("s")
            self._bar = tqdm(total=progress.total, unit=unit, mininterval=interval, delay=0.5, file=sys.stderr)
        if progress.failed:
            self._bar.set_postfix(failed=progress.failed, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __exit__(self, *_: object) -> None:
        self.close()


class Interruptible(contextlib.AbstractContextManager["Interruptible"]):
    """Turns the first Ctrl-C while images are computed or copied into a stop before the next, which keeps what is done.

    At any other moment, and the second time, Ctrl-C interrupts at once: finished shards are on disk by then.

    Args:
        show: gets every Progress.
    """

    def __init__(self, show: Callable[[Progress], None]) -> None:
        self._show = show
        self._computing = False
        self._asked = False
        self._before: Any = None

    def progress(self, progress: Progress) -> None:
        """Show where the run is, and note whether Ctrl-C may wait for the end of a batch."""
        self._computing = progress.phase in ("images", "copy", "thumbnails")
        self._show(progress)

    def should_stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._asked

    def __enter__(self) -> Interruptible:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked or not self._computing:
            raise KeyboardInterrupt
        self._asked = True

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Whatever a library prints while working goes to standard error: standard output is for the result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def plain(value: Any) -> Any:
    """What JSON can hold: NaN and infinity, which it lacks, as null; numpy's numbers as Python's, paths as text."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(value: Any) -> None:
    """One JSON value on standard output."""
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def open_dataset(dataset: str, model: str | None) -> EmbeddedDataset:
    """What DatasetArgument and StoreModelOption name.

    Raises:
        PVUError: if there is no such model, or no such store.
    """
    from pvu.store import EmbeddedDataset

    if model is None:
        return EmbeddedDataset.open(dataset)
    from pvu.registry import resolve

    return EmbeddedDataset.open(dataset, model=resolve(model).name)


def require_folder(out: Path | None) -> None:
    """Fail before the work, not after it, when its result has nowhere to go."""
    if out is not None and not out.resolve().parent.is_dir():
        raise InputError(f"{out} cannot be written: the folder {out.resolve().parent} does not exist.")
    if out is not None and out.is_dir():
        raise InputError(f"{out} cannot be written: it is a folder.")
