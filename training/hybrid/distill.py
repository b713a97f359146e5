"""Teach the bundled Vision Transformer from its trunk and from labels.

    python -m training.hybrid.distill training/configs/hybrid_vit.yaml --maps MAPS --out DIR

The trunk is frozen and its maps are read from disk (training.hybrid.maps), so a step costs the transformer alone.
Writes DIR/hybrid-vit.safetensors, the average of the weights, and DIR/distill.json. Stopped at any instant, the same
command goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pvu import hybrid
from pvu.backbones import hash_weights
from pvu.checkpoint import save_tensors
from pvu.hybrid import HybridViT, Trunk, load_own_state, own_state, pooled_input
from pvu.models import load_model
from pvu.registry import TRUNK
from training import shards
from training.command import one_sentence
from training.guards import TrainingError, frozen
from training.hybrid.batches import Pictures
from training.hybrid.config import DistillConfig, load_distill_config
from training.hybrid.mapped import MappedViews, load_maps
from training.hybrid.teacher import Teacher, as_tensor, losses, total

TELL = 20  # steps between two lines of progress
CLIP = 5.0  # norm of the gradient; never reached unless something goes wrong
WEIGHTS = "hybrid-vit.safetensors"


def new_student(config: DistillConfig, teacher: Teacher, network: nn.Module) -> HybridViT:
    """A student whose class token starts as the teacher's first components, so that training begins with a good one.

    Args:
        config: its shape.
        teacher: whose components.
        network: the trunk, which is frozen.
    """
    torch.manual_seed(config.seed)
    student = HybridViT(network, **asdict(config.shape), patch_drop_rate=config.drop_tokens)
    embed, width = student.patch_embed, config.shape.width
    basis = teacher.basis[:, :width]
    with torch.no_grad():
        # Components of unit length, times sqrt(W): each channel of the class token is about one.
        scale = teacher.scale * math.sqrt(width)
        embed.pooled.weight.copy_(basis.T * scale)
        embed.pooled.bias.copy_(-(teacher.centre @ basis) * scale)
        embed.proj.weight.mul_(0.1)  # maps are several times larger than one
    student.requires_grad_(True)
    network.requires_grad_(False)
    return student


def fit_classifier(student: HybridViT, pooled: torch.Tensor, scores: torch.Tensor, *, ridge: float = 1e-3) -> None:
    """Start the classifier as the least-squares fit of the trunk's scores to the class token's start.

    Args:
        student: a new one.
        pooled: (N, 1280) float32, the trunk's representations of whole pictures.
        scores: (N, 1000) float32, its logits.
        ridge: penalty, over the mean variance.
    """
    with torch.no_grad():
        z = student.norm(student.patch_embed.pooled(pooled_input(pooled)))
        centre, middle = z.mean(0), scores.mean(0)
        gram = (z - centre).T @ (z - centre)
        gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
        weight = torch.linalg.solve(gram, (z - centre).T @ (scores - middle)).T
        student.head.weight.copy_(weight)
        student.head.bias.copy_(middle - weight @ centre)


def represent(student: HybridViT, maps: torch.Tensor) -> torch.Tensor:
    """z (B, W) float32 from the tokens' maps (B, 1728, 7, 7), computed in bfloat16."""
    with torch.autocast(maps.device.type, torch.bfloat16):
        return student.from_maps(maps).float()


class Distillation:
    """A run: what is taught, who is taught, and how far it is.

    Args:
        config: how.
        views: the trunk's maps.
        network: the trunk, an EfficientNet-Lite0 with its weights.

    Raises:
        ValueError: if there are too few pictures for a batch.
    """

    def __init__(self, config: DistillConfig, views: MappedViews, network: nn.Module) -> None:
        self.config, self.views, self.network = config, views, network
        pooled = as_tensor(views.pooled[views.usable & (views.pass_index == 0)])
        self.teacher = Teacher(pooled, config.whiten)
        self.pictures = Pictures.of(views, self.teacher, config)
        self.student = new_student(config, self.teacher, network)
        with torch.no_grad():
            fit_classifier(self.student, pooled, network.classifier(pooled))  # type: ignore[operator]
        self.average = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.student.train()
        network.eval()  # its batch norms are frozen too
        self.optimizer = torch.optim.AdamW(self._groups(), lr=config.lr, betas=(0.9, 0.98), fused=True)
        self.step = 0
        self.sums: dict[str, float] = {}  # of the losses since the last line of progress
        self.history: list[dict[str, float]] = []

    def _groups(self) -> list[dict[str, Any]]:
        own = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        matrices, rest = [p for p in own if p.ndim > 1], [p for p in own if p.ndim <= 1]
        return [{"params": matrices, "weight_decay": self.config.weight_decay}, {"params": rest, "weight_decay": 0.0}]

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray, torch.Tensor]]:
        """Rows, pictures and maps of each step's batch from here on; the next is read while the last is used."""
        trunk = Trunk(self.network)  # type: ignore[arg-type]

        def read(step: int) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
            rows, pictures = self.pictures.draw(self.config, step)
            return rows, pictures, self.views.maps(rows, trunk)

        with ThreadPoolExecutor(1) as reader:
            following = reader.submit(read, self.step)
            for step in range(self.step, self.config.steps):
                current = following.result()
                following = reader.submit(read, step + 1)
                yield current

    def learn(self, rows: np.ndarray, pictures: np.ndarray, maps: torch.Tensor) -> dict[str, float]:
        """One step on a batch of :meth:`batches`: its losses.

        Raises:
            TrainingError: if one is not finite.
        """
        config, views = self.config, self.views
        if self.step >= (1 - config.all_tokens) * config.steps:
            self.student.patch_drop = nn.Identity()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, config)
        with torch.no_grad():
            own = self.teacher(as_tensor(views.pooled[rows]))
            target = F.normalize(config.whole * self.pictures.targets[pictures] + (1 - config.whole) * own, dim=1)
            pooled = as_tensor(views.pooled[self.pictures.whole[pictures]])
            trunk_scores = self.network.classifier(pooled)  # type: ignore[operator]
        z = represent(self.student, maps)
        labels = torch.from_numpy(views.label[rows])
        parts = losses(z, self.student.head(z), target, trunk_scores, labels, config.temperature)
        self._update(total(parts, config))
        return {name: float(value.detach()) for name, value in parts.items()}

    def _update(self, loss: torch.Tensor) -> None:
        if not torch.isfinite(loss):
            raise TrainingError(f"The loss of step {self.step + 1} is {float(loss.detach())}. Lower lr.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), CLIP)
        self.optimizer.step()
        self.step += 1
        decay = min(self.config.ema, self.step / (self.step + 9))  # at first, what is averaged is new every time
        with torch.no_grad():
            for kept, current in zip(self.average.parameters(), self.student.parameters(), strict=True):
                if current.requires_grad:
                    kept.lerp_(current, 1 - decay)

    def save(self, path: Path) -> None:
        """Write a checkpoint to a temporary name and rename it."""
        partial = path.with_name(f"{path.name}.partial")
        saved = {
            "config": self._identity(),
            "student": own_state(self.student),
            "average": own_state(self.average),
            "optimizer": self.optimizer.state_dict(),
            "generator": torch.get_rng_state(),
            "step": self.step,
            "sums": self.sums,
            "history": self.history,
        }
        torch.save(saved, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one.

        Raises:
            TrainingError: if it is of another configuration, or was trained on other maps.
        """
        if not path.is_file():
            return
        saved = torch.load(path, weights_only=True)
        if saved["config"] != self._identity():
            raise TrainingError(
                f"{path} is of another configuration or of other maps. Give another folder, or delete it to start anew."
            )
        load_own_state(self.student, saved["student"])
        load_own_state(self.average, saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["generator"])
        self.step, self.sums, self.history = saved["step"], saved["sums"], saved["history"]

    def _identity(self) -> str:
        made_from = {name: self.views.manifest.get(name) for name in ("backbone", "images")}
        return json.dumps([asdict(self.config), made_from])


def train(config: DistillConfig, views: MappedViews, network: nn.Module, out: Path) -> Distillation:
    """Train a student, or go on with one.

    Args:
        config: how.
        views: the trunk's maps.
        network: the trunk, an EfficientNet-Lite0 with its weights.
        out: the folder of the checkpoint; made if absent.

    Raises:
        TrainingError: if a loss is not finite, the trunk changes, or ``out`` holds another run.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = Distillation(config, views, network)
    run.resume(out / "checkpoint.pt")
    began, first = time.monotonic(), run.step
    with frozen(network, "the trunk"):
        for batch in run.batches():
            for name, value in run.learn(*batch).items():
                run.sums[name] = run.sums.get(name, 0.0) + value / TELL
            if run.step % TELL == 0:
                _tell(run, (time.monotonic() - began) / (run.step - first))
            if run.step % config.checkpoint_every == 0 or run.step == config.steps:
                run.save(out / "checkpoint.pt")
    return run


def learning_rate(step: int, config: DistillConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = config.warmup * config.steps
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(config.steps - warmup, 1)))


def _tell(run: Distillation, seconds: float) -> None:
    means, run.sums = run.sums, {}
    run.history.append({"step": run.step, **{name: round(value, 4) for name, value in means.items()}})
    numbers = " ".join(f"{name} {value:.4f}" for name, value in means.items())
    speed, left = run.config.batch / seconds, (run.config.steps - run.step) * seconds
    print(f"{run.step}/{run.config.steps}: {numbers}, {speed:.0f} views/s, {left:.0f} s left", flush=True)


def save_student(run: Distillation, out: Path, command: str) -> None:
    """Write what ships: the averaged weights in float16 with what they were made from, and the history."""
    shards.write_json(out / "distill.json", run.history)
    header = {
        "shape": asdict(run.config.shape),
        "trunk": TRUNK,
        "trunk_hash": hash_weights(run.network),
        "config": json.loads(json.dumps(asdict(run.config))),
        "command": command,
    }
    save_tensors(own_state(run.average), out / WEIGHTS, hybrid.FORMAT, header, torch.float16)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="training.hybrid.distill", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="the YAML configuration")
    parser.add_argument("--maps", type=Path, required=True, help="the folder that training.hybrid.maps made")
    parser.add_argument("--out", type=Path, required=True, help="where the model goes")
    arguments = parser.parse_args()
    with one_sentence():
        config = load_distill_config(arguments.config)
        views = load_maps(arguments.maps, config.cache)
        network = load_model(TRUNK, precision="float32").backbone
        run = train(config, views, network, arguments.out)
        save_student(run, arguments.out, f"training.hybrid.distill {arguments.config.name} --maps MAPS --out DIR")


if __name__ == "__main__":
    main()
