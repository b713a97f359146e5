"""Compute once what the bundled Vision Transformer is taught with: the trunk's maps of augmented views.

    python -m training.hybrid.maps training/configs/hybrid_vit.yaml --data DATA --out MAPS

As training.cache, but it keeps the maps that become tokens (75 kB a view) in place of a representation. Stopped at any
instant, the same command goes on and repeats at most one shard. One folder of arrays a shard:

    middle.npy    (n, 112, 14, 14) float16, of the trunk's fifth stage
    last.npy      (n, 320, 7, 7) float16, of its seventh
    pooled.npy    (n, 1280) float16, the trunk's own representation
    stats.npy     (n, 1568) float16, pvu.hybrid.stage_statistics, which the head takes
    changes.npy   (n, 4) float32: decoded (1 or 0), share of the area, degradation, its strength
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from pvu.fast import fold_network, one_core_each
from pvu.hybrid import MIDDLE, Trunk, stage_statistics
from pvu.models import Model, load_model
from pvu.registry import TRUNK
from training import shards
from training.cache import Progress, decoded_shards, identity, sole_run
from training.command import one_sentence
from training.config import CacheConfig
from training.data import IMAGENET_1K, list_images
from training.hybrid.config import load_distill_config
from training.hybrid.mapped import has_maps
from training.ranks import Ranks

ARRAYS = ("middle", "last", "pooled", "stats")


def build_maps(config: CacheConfig, model: Model, data: Path, out: Path, *, workers: int = 2) -> int:
    """Fill a folder of maps, or go on with one.

    Args:
        config: which pictures, and which views of them.
        model: the trunk, an EfficientNet-Lite0.
        data: the folder that holds the sources.
        out: the folder of the maps; made if absent.
        workers: decoding processes beside the trunk; 0 decodes in this process.

    Returns:
        How many shards were computed by this call.

    Raises:
        CacheError: if the folder holds maps of another trunk, configuration or set of images, or another run fills it.
        SourceError: if a source is missing, empty or unclear.
    """
    images = {source.name: list_images(data, source, classes=IMAGENET_1K) for source in config.sources}
    with sole_run(out, Ranks()):
        shards.open_cache(out, {"kind": "maps", **identity(config, model, images)})
        for name, listed in images.items():
            shards.write_images(out, name, [[image.key, image.label, image.label_name] for image in listed])
        todo = [shard for shard in shards.plan_of(config, images) if not has_maps(out, shard)]
        trunk = Trunk(fold_network(model.backbone, model.precision))  # type: ignore[arg-type]
        progress = Progress(sum(shard.stop - shard.start for shard in todo))
        for shard, (pixels, changes) in decoded_shards(todo, images, config, model.preprocessing, workers):
            shards.write_arrays(out, shard, {**maps_of(trunk, model, pixels), "changes": changes})
            progress.step(shard)
    return len(todo)


def maps_of(trunk: Trunk, model: Model, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The maps of (n, size, size, 3) uint8 pixels, an array each of ``ARRAYS``."""

    def compute(batch: torch.Tensor) -> list[np.ndarray]:
        with torch.inference_mode():
            maps = list(trunk.stages(model.normalised(batch)))
            pooled = trunk.final(maps[-1]).mean((2, 3))
            return [
                array.half().contiguous().cpu().numpy()
                for array in (maps[MIDDLE], maps[-1], pooled, stage_statistics(maps))
            ]

    parts = one_core_each().map(compute, torch.split(torch.from_numpy(pixels), model.batch_size))
    return dict(zip(ARRAYS, (np.concatenate(column) for column in zip(*parts, strict=True)), strict=True))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="training.hybrid.maps", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="the YAML configuration")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sources")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the maps")
    parser.add_argument("--workers", type=int, default=2, help="decoding processes beside the trunk")
    arguments = parser.parse_args()
    with one_sentence():
        config = load_distill_config(arguments.config)
        build_maps(config.cache, load_model(TRUNK), arguments.data, arguments.out, workers=arguments.workers)


if __name__ == "__main__":
    main()
