"""The head's cache for the bundled Vision Transformer, from the maps that it was trained on: no picture is read again.

    python -m training.hybrid.cache training/configs/hybrid_vit_head.yaml --data DATA --maps MAPS --out CACHE

The result is that of training.cache, some four times as fast. Which views there are is the business of both
configurations: their augmentation, seed and shard size must be the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from pvu.backbones import hash_weights
from pvu.errors import ModelError
from pvu.fast import one_core_each
from pvu.hybrid import HybridViT
from pvu.models import Model, load_model
from training import shards
from training.cache import Encoded, build_cache
from training.command import one_sentence
from training.config import CacheConfig, load_config
from training.hybrid.distill import represent
from training.hybrid.mapped import open_maps, read_maps
from training.shards import Shard

BATCH = 64  # views a core at a time: 35 MB of maps


def cache_from_maps(config: CacheConfig, model: Model, data: Path, maps: Path, out: Path) -> int:
    """Fill a cache, or go on with one.

    Args:
        config: what it holds.
        model: a hybrid Vision Transformer.
        data: the folder that holds the sources: their images are listed, not read.
        maps: what :mod:`training.hybrid.maps` made.
        out: the cache's folder.

    Returns:
        How many shards were computed by this call.

    Raises:
        ModelError: if the model is no hybrid Vision Transformer.
        CacheError: if the maps lack a shard, or were made from another trunk, other images or another configuration.
    """
    student = model.backbone
    if not isinstance(student, HybridViT):
        raise ModelError(
            f"{model.name} is no hybrid Vision Transformer, so maps are of no use to it. Use training.cache."
        )
    manifest = open_maps(maps, config)
    trunk = {"backbone": hash_weights(student.patch_embed.backbone.network)}
    shards.check(maps, manifest, trunk)

    def encoded(todo: Sequence[Shard]) -> Iterator[Encoded]:
        # The cache has its images in its manifest by now.
        made_of = shards.read_manifest(out, f"There is no cache at {out}.")
        for shard in todo:
            shards.check(
                maps,
                {shard.source: manifest["images"].get(shard.source)},
                {shard.source: made_of["images"][shard.source]},
            )
            arrays = read_maps(maps, shard)
            z = _represent(student, arrays["middle"], arrays["last"])
            statistics = torch.from_numpy(np.array(arrays["stats"], np.float32))
            features = torch.cat([z, statistics], dim=1) if config.statistics else z
            yield shard, features, np.asarray(arrays["changes"])

    return build_cache(config, model, data, out, encoded=encoded)


def _represent(student: HybridViT, middle: np.ndarray, last: np.ndarray) -> torch.Tensor:
    def compute(start: int) -> torch.Tensor:
        parts = (torch.from_numpy(np.array(array[start : start + BATCH])).float() for array in (middle, last))
        with torch.inference_mode():
            return represent(student, student.patch_embed.backbone.join(*parts))

    return torch.cat(list(one_core_each().map(compute, range(0, len(middle), BATCH))))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="training.hybrid.cache", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="the head's YAML configuration")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sources")
    parser.add_argument("--maps", type=Path, required=True, help="the folder that training.hybrid.maps made")
    parser.add_argument("--out", type=Path, required=True, help="the cache's folder")
    parser.add_argument("--model", help="another model than the configuration's: hybrid-vit@FILE")
    arguments = parser.parse_args()
    with one_sentence():
        config = load_config(arguments.config)
        model = load_model(arguments.model or config.model, device="cpu")
        cache_from_maps(config.cache, model, arguments.data, arguments.maps, arguments.out)


if __name__ == "__main__":
    main()
