"""How much of the bare model's speed is left when the whole pipeline runs, and how a plain loader compares.

    python -m benchmarks.pipeline --images FOLDER [--count 512] [--repeats 3]

Three ways over the same images, taken in turns so that whatever else the machine does hits all of them alike:

a. pvu.embed into a fresh store: decoding in worker processes, the model, shards on disk. Once for the images alone, as
   the report's images_per_second, and once for the whole call with neighbours, map and saving.
b. The bare model: ``model.encode`` on decoded pixels that are in memory already, all cores. No pipeline can be faster.
c. The loop that people write: timm's model and transform in float32, torchvision's ImageFolder as the data set, a
   DataLoader with one worker a core and batches of 64. It writes nothing.

Prints medians and the ratios a/b and a/c. Ratios hold on a machine that is busy with other things, as long as that load
is steady; images a second do not.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pvu.decoding import decode_all
from pvu.demo import make_demo
from pvu.images import DecodedImage
from pvu.models import Model, load_model
from pvu.pipeline import embed_with_report
from pvu.registry import DEFAULT, REGISTRY
from pvu.sources import find_images


class Plain(Dataset[torch.Tensor]):
    """Image files through a transform: what torchvision's ImageFolder does, for a list of paths."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths = paths
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def choose(source: Path, count: int, folder: Path) -> list[Path]:
    """Link ``count`` images, evenly spread over the source, into an empty folder. Returns the links."""
    files = find_images(source)
    good = files.loc[files["error"].isna(), "path"].tolist()
    picked = [good[index] for index in np.linspace(0, len(good) - 1, min(count, len(good))).astype(int)]
    links = []
    for number, path in enumerate(picked):
        links.append(folder / f"{number:06d}{Path(path).suffix}")
        links[-1].hardlink_to(source / path) if _same_disk(source, folder) else _copy(source / path, links[-1])
    return links


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def pipeline(folder: Path, count: int, model: Model, workers: int | None) -> tuple[float, float]:
    """Images a second of decoding, encoding and shards; and of the whole call."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["PVU_HOME"] = home
        report = embed_with_report(folder, model=model, workers=workers)
        assert len(report.dataset) == count, f"{len(report.dataset.failed)} images could not be read"
        return report.images_per_second, count / report.seconds


def bare(pixels: np.ndarray, model: Model) -> float:
    """Images a second of the model alone, on pixels in memory, in batches of the pipeline's size."""
    start = time.monotonic()
    for offset in range(0, len(pixels), 256):
        model.encode(pixels[offset : offset + 256])
    return len(pixels) / (time.monotonic() - start)


def plain_loop(paths: Sequence[Path], backbone: torch.nn.Module, workers: int) -> float:
    """Images a second of a DataLoader and a float32 model, from nothing running to the last representation."""
    config = timm.data.resolve_data_config({}, model=backbone)
    transform = timm.data.create_transform(**config, is_training=False)
    device = next(backbone.parameters()).device
    start = time.monotonic()
    loader = DataLoader(Plain(paths, transform), batch_size=64, num_workers=workers)
    with torch.inference_mode():
        for batch in loader:
            backbone.forward_head(backbone.forward_features(batch.to(device)), pre_logits=True)  # type: ignore[operator]
    return len(paths) / (time.monotonic() - start)


def decoded(paths: Sequence[Path], model: Model) -> np.ndarray:
    """The images as the pipeline's workers hand them over: (N, size, size, 3) uint8."""
    outcomes = itertools.chain.from_iterable(decode_all(paths, model.preprocessing, workers=os.cpu_count() or 1))
    return np.stack([outcome.pixels for outcome in outcomes if isinstance(outcome, DecodedImage)])


def measure(source: Path, count: int, repeats: int, workers: int | None) -> dict[str, list[float]]:
    """Images a second of every way, ``repeats`` times each, in turns after one round that does not count."""
    speeds: dict[str, list[float]] = {"pipeline": [], "whole call": [], "bare model": [], "plain loop": []}
    model = load_model()
    plain = load_model(precision="float32").backbone
    with tempfile.TemporaryDirectory() as folder:
        paths = choose(source, count, Path(folder))
        pixels = decoded(paths, model)
        bare(pixels[:64], model)
        for _ in range(repeats):
            for name, speed in zip(speeds, _round(Path(folder), paths, pixels, model, plain, workers), strict=True):
                speeds[name].append(speed)
    return speeds


def _round(
    folder: Path, paths: list[Path], pixels: np.ndarray, model: Model, plain: torch.nn.Module, workers: int | None
) -> tuple[float, float, float, float]:
    images, whole = pipeline(folder, len(paths), model, workers)
    return images, whole, bare(pixels, model), plain_loop(paths, plain, os.cpu_count() or 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of images; default: the demo's")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, help="the pipeline's decoding processes; default: its own")
    arguments = parser.parse_args()
    source = (arguments.images or make_demo()).expanduser().resolve()
    print(f"{source}, {os.cpu_count()} cores, {REGISTRY[DEFAULT].architecture}, {torch.get_num_threads()} threads")
    speeds = measure(source, arguments.count, arguments.repeats, arguments.workers)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"{name:12}{medians[name]:8.1f} images/s   ({', '.join(f'{value:.1f}' for value in values)})")
    for peer in ("bare model", "plain loop"):
        ratios = [own / other for own, other in zip(speeds["pipeline"], speeds[peer], strict=True)]
        print(f"pipeline / {peer}: {statistics.median(ratios):.2f}   ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
