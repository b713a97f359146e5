"""Does "why uncertain?" point at the right place, and is it quick?

    python -m benchmarks.explain [--images FOLDER ...] [--count 8] [--photographs 18]

Pictures with a known bad part: a half or a quarter of each photograph is blurred, made noisy, or covered. A map has a
hit where its bad half (quarter) has a higher mean than the other half (than each other quarter): by chance 1 of 2 (1 of
4).
Three maps of the same model in turns: the crops that the app shows (``Explanation.heat``), large covers
(``Explanation.covered``), and the usual occlusion map, 7 x 7 small patches in the picture's mean colour. Also: is the
clearest crop outside the bad half; does ``spread`` tell pictures with a bad half from whole ones; and the time against
2 seconds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from pvu.demo import PHOTOGRAPHS, photograph
from pvu.explain import STANDS_OUT, Explanation, explain
from pvu.images import open_rgb, read_bytes
from pvu.metrics import auroc
from pvu.models import Model, load_model
from pvu.sources import find_images

LIMIT = 2.0
SIDE = 320
PATCHES = 7
HALVES = {"left": (0, 0, 1, 2), "right": (1, 0, 2, 2), "upper": (0, 0, 2, 1), "lower": (0, 1, 2, 2)}
QUARTERS = {f"{y}{x}": (x, y, x + 1, y + 1) for y in (0, 1) for x in (0, 1)}
"""Left, top, right, bottom in halves of the side."""
CASES = [("half", kind) for kind in ("blur", "noise", "cover")] + [("quarter", kind) for kind in ("blur", "cover")]


def square(picture: Image.Image) -> Image.Image:
    """The middle square, so that the model's input and the picture have the same halves."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def spoil(picture: Image.Image, kind: str, part: tuple[int, ...], rng: np.random.Generator) -> Image.Image:
    """Make a part of a square picture worse, from clearly to strongly."""
    left, top, right, bottom = (edge * picture.width // 2 for edge in part)
    strength = rng.uniform(0.3, 0.9)
    if kind == "blur":
        bad = picture.filter(ImageFilter.GaussianBlur(strength * picture.width / 27))
        bad = bad.crop((left, top, right, bottom))
    elif kind == "noise":
        pixels = np.asarray(picture.crop((left, top, right, bottom)), np.float32)
        noisy = pixels + rng.normal(0, 100 * strength, pixels.shape)
        bad = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    else:
        colour = tuple(int(value) for value in rng.integers(40, 201) + rng.integers(-25, 26, 3))
        bad = Image.new("RGB", (right - left, bottom - top), colour)
    spoiled = picture.copy()
    spoiled.paste(bad, (left, top))
    return spoiled


def hit(heat: np.ndarray, part: tuple[int, ...]) -> bool:
    """Whether a map (g, g), g even, is higher in the bad part than elsewhere."""
    half = len(heat) // 2
    quarters = heat.reshape(2, half, 2, half).mean(axis=(1, 3))
    left, top, right, bottom = part
    bad = np.zeros((2, 2), bool)
    bad[top:bottom, left:right] = True
    if bad.sum() == 1:
        return bool(quarters[bad].item() > quarters[~bad].max())
    return bool(quarters[bad].mean() > quarters[~bad].mean())


def small_patches(picture: Image.Image, model: Model) -> np.ndarray:
    """The usual occlusion map: the less u with a patch covered, the higher. (14, 14), so that halves are even."""
    pixels = model.preprocessing.apply(picture)
    edges = np.linspace(0, len(pixels), PATCHES + 1).round().astype(int)
    batch = [pixels]
    for top, bottom in itertools.pairwise(edges):
        for left, right in itertools.pairwise(edges):
            covered = pixels.copy()
            covered[top:bottom, left:right] = pixels.mean(axis=(0, 1))
            batch.append(covered)
    _, u = model.encode(np.stack(batch))
    assert u is not None
    return np.kron((u[0] - u[1:]).reshape(PATCHES, PATCHES), np.ones((2, 2)))


def pictures(folders: list[Path], count: int, photographs: int) -> Iterator[Image.Image]:
    for name in list(PHOTOGRAPHS)[:photographs]:
        yield square(photograph(name))
    for folder in folders:
        files = find_images(folder)
        good = files.loc[files["error"].isna(), "path"].tolist()
        for index in np.linspace(0, len(good) - 1, min(count, len(good))).astype(int):
            yield square(open_rgb(read_bytes(folder / good[index]))[0])


def outside(explanation: Explanation, part: tuple[int, ...]) -> bool:
    """Whether the middle of the clearest crop is not in the bad part."""
    left, top, right, bottom = explanation.crop.box
    x, y = (left + right) / SIDE, (top + bottom) / SIDE
    return not (part[0] <= x <= part[2] and part[1] <= y <= part[3])


def measure(source: Iterator[Image.Image], model: Model) -> dict[str, dict[str, list[float]]]:
    """Hits by map and case, and what else is printed."""
    rng = np.random.default_rng(0)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for picture in source:
        found["spread"]["whole"].append(explain(picture, model).spread)
        for shape, kind in CASES:
            parts = list((HALVES if shape == "half" else QUARTERS).values())
            part = parts[rng.integers(len(parts))]
            spoiled = spoil(picture, kind, part, rng)
            wall, cpu = time.monotonic(), time.process_time()
            explanation = explain(spoiled, model)
            found["seconds"]["wall"].append(time.monotonic() - wall)
            found["seconds"]["cpu"].append(time.process_time() - cpu)
            case = f"{shape}, {kind}"
            found["crops (shown)"][case].append(hit(explanation.heat, part))
            found["large covers"][case].append(hit(-explanation.covered, part))
            found["small patches"][case].append(hit(small_patches(spoiled, model), part))
            found["clearest crop outside"][case].append(outside(explanation, part))
            found["spread"][shape].append(explanation.spread)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="folders of more photographs")
    parser.add_argument("--count", type=int, default=8, help="pictures of each folder")
    parser.add_argument("--photographs", type=int, default=len(PHOTOGRAPHS), help="of the demo's")
    arguments = parser.parse_args()
    model = load_model()
    explain(square(photograph("cat")), model)  # the first call of a model is slower
    found = measure(pictures(arguments.images, arguments.count, arguments.photographs), model)
    seconds = found.pop("seconds")
    spread = found.pop("spread")
    print(
        f"{len(spread['whole'])} photographs, {model.name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )
    print(f"{'':22}" + "".join(f"{shape}, {kind}".rjust(16) for shape, kind in CASES))
    for name, cases in found.items():
        print(f"{name:22}" + "".join(f"{sum(hits):.0f} of {len(hits)}".rjust(16) for hits in cases.values()))
    for name, values in spread.items():
        above = sum(value >= STANDS_OUT for value in values)
        print(f"spread, {name:8} median {statistics.median(values):.2f}, {above} of {len(values)} stand out")
    spoiled = np.repeat([True, False], [len(spread["half"]), len(spread["whole"])])
    separated = auroc(spoiled, np.array(spread["half"] + spread["whole"]))
    print(f"AUROC of the spread, bad halves against whole photographs: {separated:.3f}")
    wall, cpu = seconds["wall"], seconds["cpu"]
    print(f"Seconds: median {statistics.median(wall):.2f}, worst {max(wall):.2f}; limit {LIMIT}")
    # What other work on the machine takes is not in it: with two cores free, half of it is the wait.
    print(f"CPU seconds, all cores together: median {statistics.median(cpu):.2f}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
