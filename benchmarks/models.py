"""What the bundled models cost an image, against the trunk that both stand on.

    python -m benchmarks.models --rounds 7

Pixels are resident; the models take turns, a round each, so that whatever else the machine does meets them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from pvu.models import load_model
from pvu.registry import TRUNK

MODELS = ("hybrid-vit", TRUNK)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.models", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=128, help="a round")
    parser.add_argument("--rounds", type=int, default=7, help="of each model")
    arguments = parser.parse_args()
    models = {name: load_model(name) for name in MODELS}
    size = models[TRUNK].preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 255, (arguments.images, size, size, 3), np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in MODELS}
    for round_number in range(arguments.rounds + 1):
        for name, model in models.items():
            started = time.perf_counter()
            model.encode(pixels)
            if round_number:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
    for name in MODELS:
        ratios = [own / trunk for own, trunk in zip(seconds[name], seconds[TRUNK], strict=True)]
        speed = arguments.images / statistics.median(seconds[name])
        print(
            f"{name:20} {speed:6.1f} images/s, {statistics.median(ratios):.2f} x the time of {TRUNK} "
            f"({min(ratios):.2f} to {max(ratios):.2f} over {arguments.rounds} rounds)"
        )


if __name__ == "__main__":
    main()
