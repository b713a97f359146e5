"""Everything that changes while a head is trained, and its file: a run that was killed goes on from it bit for bit."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pvu.errors import CheckpointError
from pvu.head import UncertaintyHead
from pvu.shards import atomic_write

FORMAT = "pvu.training/1"


@dataclass
class TrainingState:
    """A moment of a run. There is no state of a random generator: draws depend on seed and step (training.sampling).

    Args:
        head: being trained.
        average: the running average of its weights; ``head`` itself where there is none.
        optimizer: its state.
        best: the best epoch's head so far, on plain z.
        best_epoch: which one that is, from 1; 0 before the first.
        step: steps that are done.
        loss: sum over the steps of the epoch under way.
        seconds: spent in that epoch.
        history: each finished epoch's numbers.
    """

    head: UncertaintyHead
    average: UncertaintyHead
    optimizer: torch.optim.Optimizer
    best: UncertaintyHead
    best_epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def _heads(self) -> dict[str, UncertaintyHead]:
        heads = {"head": self.head, "best": self.best}
        return heads if self.average is self.head else heads | {"average": self.average}

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write everything to one safetensors file, or leave the old one: nothing in between.

        Args:
            path: the file.
            identity: JSON-able facts of the run; another one will not go on from this file.
        """
        tensors = {
            f"{kind}.{name}": value for kind, head in self._heads().items() for name, value in head.state_dict().items()
        }
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        numbers = {"best_epoch": self.best_epoch, "step": self.step, "loss": self.loss, "seconds": self.seconds}
        header = {"format": FORMAT, "identity": identity, **numbers, "history": self.history}
        content = save({name: value.contiguous() for name, value in tensors.items()}, {"pvu": json.dumps(header)})
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda file: file.write(content))

    def load(self, path: Path, identity: dict[str, Any]) -> bool:
        """Go on from a file.

        Returns:
            Whether there was one.

        Raises:
            CheckpointError: if it is damaged, or of another run, naming what differs.
        """
        if not path.is_file():
            return False
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("pvu", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            raise CheckpointError(f"Cannot read the checkpoint {path}: {error}. Delete it to start again.") from error
        _require_same(path, header, identity)
        for kind, head in self._heads().items():
            head.load_state_dict(_under(tensors, f"{kind}."))
        groups = self.optimizer.state_dict()["param_groups"]
        parameters = range(sum(len(group["params"]) for group in groups))
        slots = {index: _under(tensors, f"optimizer.{index}.") for index in parameters}
        state = {index: values for index, values in slots.items() if values}
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.best_epoch, self.step = header["best_epoch"], header["step"]
        self.loss, self.seconds = header["loss"], header["seconds"]
        self.history[:] = header["history"]
        return True


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _require_same(path: Path, header: dict[str, Any], identity: dict[str, Any]) -> None:
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of a training run. Give another folder, or delete it.")
    found, expected = header["identity"], json.loads(json.dumps(identity))
    differing = [name for name in expected if found.get(name) != expected[name]]
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"{path} is the checkpoint of a run with another {name} ({found.get(name)!r}, expected "
            f"{expected[name]!r}). Give another --out, or delete it to start again."
        )
