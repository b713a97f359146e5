"""What the cache is worth: training a head from it, against the three things that could cost more.

    python -m benchmarks.training [--images FOLDER] [--count 64] [--steps 20] [--repeats 3] [--threads 2]

1. Head training at D = 768 as in the paper's recipe for ViT-B (batches of 2,048), from memory-mapped representations:
   gathering, both passes and the optimiser. Against its limit: the five matrix products of a step alone, in the same
   precision and block size. No loop on this machine can be faster.
2. The same step when the task loss is not in the cache, so that a 21,843-way classifier runs on each representation.
   That is how the paper's authors train.
3. A pass over images without a cache: decoding and augmenting in a process a core, the backbone, its classifier, and
   the same step of the head. For every model that works offline, and for vit_base_patch16_224 with random weights.

All are taken in turns, so that whatever else the machine does hits them alike. Prints medians, by the clock and by
processor time (of this process and its workers): the second one hardly minds what else runs. Ratios likewise.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch
from torch.nn import functional as F

from pvu.backbones import timm_preprocessing
from pvu.demo import make_demo
from pvu.images import open_rgb, read_bytes
from pvu.models import Model, load_model
from pvu.registry import REGISTRY, ModelSpec, availability
from pvu.sources import find_images
from training import validation
from training.augment import Augmentation, augment, view_rng
from training.cached import CachedViews
from training.config import TrainConfig, load_config
from training.loop import BLOCK, Trainer
from training.sampling import draw_pairs
from training.shards import FACTS

CONFIG = Path(__file__).parents[1] / "training" / "configs" / "vit_base_in21k.yaml"
CLASSES = 21_843
PAPERS = "vit_base_patch16_224.augreg_in21k"
TASK = 16  # images a decoding task

Times = dict[str, list[np.ndarray]]  # seconds a view of each repeat, by the clock and of processor time


def make_views(dim: int, count: int, folder: Path) -> CachedViews:
    """A cache of random representations (count, dim) in a memory-mapped file; a task loss that can be learned."""
    path, rng = folder / f"z-{dim}.npy", np.random.default_rng(0)
    z = np.lib.format.open_memmap(path, "w+", np.float16, (count, dim))
    for start in range(0, count, 8192):
        z[start : start + 8192] = rng.standard_normal((min(8192, count - start), dim), np.float32)
    z.flush()
    facts = np.zeros(count, FACTS)
    facts["cross_entropy"] = z[:, 0].astype(np.float32) + 0.1 * rng.standard_normal(count)
    facts["correct"] = facts["cross_entropy"] < 0
    held_out, augmented = np.arange(count) < 2000, np.ones(count, np.int16)
    mapped = np.load(path, mmap_mode="r")
    return CachedViews(mapped, facts, np.zeros(count, np.int16), augmented, held_out, np.ones(count, bool), {})


def make_trainer(dim: int, config: TrainConfig, count: int, folder: Path) -> Trainer:
    """A run of the paper's recipe on random representations."""
    views = make_views(dim, count, folder)
    return Trainer(views, config, np.ones(1), validation.prepare(views, ["random"]))


def products(trainer: Trainer) -> Callable[[], None]:
    """The matrix products of a step and nothing else: two forward, three backward (z needs no gradient)."""
    dim, hidden = trainer.views.z.shape[1], trainer.config.hidden
    z, h, g = (torch.randn(BLOCK, width).to(trainer.precision) for width in (dim, hidden, hidden))
    first, second = (torch.randn(hidden, width).to(trainer.precision) for width in (dim, hidden))

    def step() -> None:
        for _ in range(trainer.config.batch // BLOCK):
            F.linear(z, first)
            F.linear(h, second)
            g.T @ h  # the second layer's weights
            g @ second  # what goes back to the first layer
            g.T @ z  # its weights

    return step


def classify(trainer: Trainer, classifier: torch.Tensor, labels: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """The task loss of a batch, computed and not read: cross-entropy of the classifier's logits, (B,) float32."""
    parts = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=trainer.precision == torch.bfloat16):
        for z, label in zip(
            torch.split(torch.from_numpy(trainer.views.z[rows]).float(), BLOCK), torch.split(labels, BLOCK), strict=True
        ):
            parts.append(F.cross_entropy(F.linear(z, classifier), label, reduction="none"))
    return torch.cat(parts)


def now() -> np.ndarray:
    """Seconds by the clock and of processor time, with that of workers that have ended."""
    own, workers = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    used = own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime
    return np.array([time.perf_counter(), used])


def per_view(step: Callable[[], object], views: int, steps: int) -> np.ndarray:
    """Seconds a view of some steps in a row, as :func:`now` counts."""
    start = now()
    for _ in range(steps):
        step()
    return (now() - start) / (views * steps)


def measure_steps(trainer: Trainer, steps: int, repeats: int) -> Times:
    """Seconds a view of the bare products, the step, and the step with a classifier."""
    draws = draw_pairs(trainer.rows, trainer.views, trainer.weights, trainer.config)
    bare, size = products(trainer), trainer.config.batch
    generator = torch.Generator().manual_seed(0)
    classifier = torch.randn(CLASSES, trainer.views.z.shape[1], generator=generator) * 0.02
    labels = torch.randint(CLASSES, (size,), generator=generator)

    def with_classifier() -> None:
        rows = next(draws)
        loss = classify(trainer, classifier, labels, rows)
        trainer.goal[rows] = loss.float().numpy()
        trainer.step(rows)

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "matrix products alone": (bare, steps),
        "step from the cache": (lambda: trainer.step(next(draws)), steps),
        "step with the classifier": (with_classifier, max(1, steps // 10)),
    }
    found: Times = {name: [] for name in ways}
    for round_ in range(repeats + 1):  # the first does not count
        for name, (step, count) in ways.items():
            seconds = per_view(step, size, count if round_ else 1)
            found[name] += [seconds] if round_ else []
    return found


def make_view(task: tuple[Path, int]) -> np.ndarray:
    """One augmented view (size, size, 3) uint8 of an image file."""
    path, size = task
    image, _ = open_rgb(read_bytes(path))
    return augment(image, size, Augmentation(), view_rng(0, 1, path.name)).pixels


def uncached(model: Model, paths: Sequence[Path], trainer: Trainer) -> np.ndarray:
    """Seconds a view of a pass over images: decoding, augmentation, backbone, classifier, and a step of the head."""
    tasks = [(path, model.preprocessing.size) for path in paths]
    start = now()
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        parts: list[torch.Tensor] = []
        waiting: list[np.ndarray] = []
        for pixels in pool.imap(make_view, tasks, chunksize=TASK):
            waiting.append(pixels)
            if len(waiting) == 4 * TASK or len(parts) * 4 * TASK + len(waiting) == len(paths):
                parts.append(model.represent(torch.from_numpy(np.stack(waiting))))
                waiting = []
        pool.close()
        pool.join()
    z = torch.cat(parts)
    goal = F.cross_entropy(model.logits(z), torch.zeros(len(z), dtype=torch.long), reduction="none")
    trainer.accumulate(z, goal)
    trainer.state.optimizer.step()
    return (now() - start) / len(paths)


def measure_pass(model: Model, paths: Sequence[Path], trainer: Trainer, steps: int, repeats: int) -> Times:
    """Seconds a view of a pass without and with the cache."""
    draws = draw_pairs(trainer.rows, trainer.views, trainer.weights, trainer.config)
    found: Times = {"pass over the images": [], "step from the cache": []}
    trainer.step(next(draws))
    for _ in range(repeats):
        found["pass over the images"].append(uncached(model, paths, trainer))
        found["step from the cache"].append(per_view(lambda: trainer.step(next(draws)), trainer.config.batch, steps))
    return found


def choose(folder: Path | None, count: int) -> list[Path]:
    """Image files, evenly spread over a folder; None takes the demo's."""
    source = (folder or make_demo()).expanduser().resolve()
    files = find_images(source)
    good = files.loc[files["error"].isna(), "path"].tolist()
    return [source / good[index] for index in np.linspace(0, len(good) - 1, count).astype(int)]


def models() -> list[Model]:
    """Every model of the registry that works offline, and the paper's ViT-B with random weights."""
    found = [load_model(name) for name, spec in REGISTRY.items() if spec.source != "hub" and availability(spec)[0]]
    torch.manual_seed(0)
    backbone = timm.create_model(PAPERS, pretrained=False)
    spec = ModelSpec("vit_base_patch16_224 (random weights)", PAPERS, "hub")
    return [*found, Model(spec, backbone, None, timm_preprocessing(backbone))]


def report(title: str, found: Times, ratios: Sequence[tuple[str, str]]) -> None:
    """Print medians, and ratios of time (slower : quicker), by the clock and by processor time."""
    print(f"\n{title}")
    for name, seconds in found.items():
        clock, processor = (1 / np.median(seconds, axis=0)).tolist()
        print(f"  {name:30}{clock:12,.1f} views/s {processor:12,.1f} views per core-second")
    for slow, quick in ratios:
        each = np.array(found[slow]) / np.array(found[quick])
        clock, processor = np.median(each, axis=0).tolist()
        every = ", ".join(f"{ratio:,.1f}" for ratio in each[:, 1])
        print(f"  {slow} : {quick}  =  {clock:,.1f} by the clock, {processor:,.1f} by processor time ({every})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of images; default: the demo's")
    parser.add_argument("--count", type=int, default=64, help="images of an uncached pass; 0 leaves the third part out")
    parser.add_argument("--steps", type=int, default=20, help="steps of 2,048 views a measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"], help="of the products")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--views", type=int, default=100_000, help="size of the cache")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = replace(load_config(CONFIG).train, window=0, precision=arguments.precision)
    paths = choose(arguments.images, arguments.count) if arguments.count else []
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(768, config, arguments.views, Path(folder))
        precision = str(trainer.precision).removeprefix("torch.")
        print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {precision}, load {os.getloadavg()[0]:.1f}")
        steps = measure_steps(trainer, arguments.steps, arguments.repeats)
        against = ("step with the classifier", "step from the cache")
        report("D = 768, batches of 2,048", steps, [("step from the cache", "matrix products alone"), against])
        for model in models() if arguments.count else []:
            trainer = make_trainer(model.dim, config, arguments.views, Path(folder))
            found = measure_pass(model, paths, trainer, arguments.steps, arguments.repeats)
            title = f"{model.name}, D = {model.dim}, {model.preprocessing.size} pixels, {len(paths)} images"
            report(title, found, [("pass over the images", "step from the cache")])


if __name__ == "__main__":
    main()
