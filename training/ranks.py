"""One job, several processes: which of them does what, as torchrun's environment says.

python -m torch.distributed.run --nproc-per-node 8 -m training.cache ...
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from pvu.errors import PVUError

T = TypeVar("T")
# Ranks wait for the slowest, however long it takes: one that dies closes its connections, which ends the wait at once.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Ranks:
    """This process among its like.

    Args:
        rank: its number, from 0.
        size: how many there are.
        local: its number on this machine, from 0.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    def share(self, things: Sequence[T]) -> Sequence[T]:
        """This process's part of what all do together: every ``size``-th thing."""
        return things[self.rank :: self.size]

    def wait(self) -> None:
        """Return when every process has come this far.

        Raises:
            PVUError: if one of them has ended instead.
        """
        if self.size > 1:
            try:
                distributed.barrier()
            except RuntimeError as error:  # its connection is closed
                raise PVUError(f"Process {self.rank} ends, since another has. See that one's message.") from error

    def device(self) -> str | None:
        """The GPU of this process; None where there is none. With more processes than GPUs, some share one."""
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return f"cuda:{self.local % count}" if count else None


@contextmanager
def launched() -> Iterator[Ranks]:
    """This process among those that torchrun started, connected; alone where it did not.

    Raises:
        ValueError: if the environment is only partly there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    ranks = Ranks(int(os.environ.get("RANK", "0")), size, int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()
