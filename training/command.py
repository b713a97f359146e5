"""What the training commands have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pvu.errors import PVUError


@contextmanager
def one_sentence() -> Iterator[None]:
    """Bad input ends the program with exit code 2 and one sentence on standard error, not with a traceback."""
    try:
        yield
    except (PVUError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
