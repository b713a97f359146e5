from __future__ import annotations

import pytest
import torch

from pvu.errors import PVUError
from training.ranks import Ranks, launched


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with launched() as ranks:
        assert ranks == Ranks(0, 1, 0)
        ranks.wait()
        assert ranks.share([1, 2, 3]) == [1, 2, 3]
    assert not torch.distributed.is_initialized()


def test_everything_is_done_once() -> None:
    things = list(range(11))
    shares = [Ranks(rank, 3).share(things) for rank in range(3)]
    assert sorted(thing for share in shares for thing in share) == things
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_each_process_of_a_machine_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [Ranks(8 + local, 16, local).device() for local in range(5)] == [
        *("cuda:0", "cuda:1", "cuda:2", "cuda:3"),
        "cuda:0",  # more processes than GPUs
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Ranks(1, 2, 1).device() is None


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="environment variable"), launched():
        pass


def test_a_process_ends_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> None:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "barrier", closed)
    Ranks(0, 1).wait()
    with pytest.raises(PVUError, match="Process 1 ends, since another has"):
        Ranks(1, 2).wait()
