"""Do the review lists find what they promise? Planted cases, found among real photographs; average precision.

    python -m benchmarks.review /data/cifar10_dev /data/flowers17 --photographs /data/imagenet_photos /data/flowers17

*Mislabelled*: in data sets that were embedded before, 3 % of the labels are replaced by another one at random, in
memory. The list's score against u alone (the better of its two directions), and against the share of the 30 nearest
images that carry another label.

*Ambiguous*: blurred copies of 3 % of the photographs are planted among them, in three sets. "As they are": the files'
own pixels. "Mixed sizes": each photograph resized to a random short side, so that its sharpness in pixels varies while
what it shows does not. "Mixed cameras": sizes as before, then grain of random strength and JPEG of random quality, as
cameras add them; the copies are blurred before both. The list's score, u, against the usual blur detector, the variance
of the Laplacian of the grey pixels.

*Duplicates*: copies of photographs, changed in some ways, against the most similar other image.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from scipy.ndimage import laplace
from sklearn.metrics import average_precision_score

from pvu.images import EXTENSIONS, open_rgb, read_bytes
from pvu.mislabelled import OTHER_LABEL, suspicion
from pvu.models import Model, load_model
from pvu.neighbors import normalized
from pvu.review import SAME_PICTURE
from pvu.store import EmbeddedDataset

SHARE = 0.03
SIDES = (96, 128, 192, 256, 384, 512)
GRAIN = (0.0, 2.0, 5.0, 10.0)
QUALITY = (60, 75, 90)
BLURS = (0.015, 0.025, 0.04)
"""Standard deviation of the Gaussian, as a share of the picture's short side."""
Change = Callable[[Image.Image], Image.Image]


def flipped(codes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes with a share of them wrong, each other label as likely, and which they are."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(codes), bool)
    wrong[rng.choice(len(codes), round(SHARE * len(codes)), replace=False)] = True
    labels = codes.max() + 1
    given = codes.copy()
    given[wrong] = (codes[wrong] + rng.integers(1, labels, wrong.sum())) % labels
    return given, wrong


def mislabelled_table(dataset: EmbeddedDataset, seeds: int) -> None:
    """Print the three rankings' average precision over several draws of wrong labels."""
    codes = pd.factorize(pd.Series(dataset.labels))[0]
    rows: dict[str, list[float]] = {"list": [], "neighbour disagreement alone": [], "u alone": []}
    at_cutoff = []
    for seed in range(seeds):
        given, wrong = flipped(codes, seed)
        score = suspicion(dataset.neighbors, dataset.similarities, given, dataset.percentiles).score
        disagreement = (given[dataset.neighbors] != given[:, None]).mean(axis=1)
        u = dataset.uncertainty
        rows["list"].append(average_precision_score(wrong, score))
        rows["neighbour disagreement alone"].append(average_precision_score(wrong, disagreement))
        rows["u alone"].append(max(average_precision_score(wrong, u), average_precision_score(wrong, -u)))
        listed = score >= OTHER_LABEL
        at_cutoff.append((listed.mean(), wrong[listed].mean(), listed[wrong].mean()))
    print(f"{dataset.name}: {len(dataset):,} images, {codes.max() + 1} labels, {SHARE:.0%} wrong, {seeds} draws")
    for name, values in rows.items():
        print(f"  {name:32} {np.mean(values):.3f} +- {np.std(values):.3f}  ({min(values):.3f} to {max(values):.3f})")
    listed, precision, recall = np.mean(at_cutoff, axis=0)
    print(
        f"  at the usual cut-off {OTHER_LABEL}: {listed:.1%} listed, {precision:.0%} of them planted, "
        f"{recall:.0%} found"
    )


def resized(image: Image.Image, side: int) -> Image.Image:
    """To a short side."""
    scale = side / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def blurred(share: float) -> Change:
    """A Gaussian as wide as a share of the short side."""
    return lambda image: image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def recompressed(quality: int) -> Change:
    """Through JPEG."""

    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def camera(rng: np.random.Generator, kind: str) -> Change:
    """What happens to one photograph behind its lens, drawn once: the same for it and its blurred copy."""
    side, grain, quality = int(rng.choice(SIDES)), float(rng.choice(GRAIN)), int(rng.choice(QUALITY))
    noise = int(rng.integers(2**31))

    def change(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image, np.float64)
        pixels = pixels + np.random.default_rng(noise).normal(0, grain, pixels.shape)
        return recompressed(quality)(Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8)))

    if kind == "as they are":
        return lambda image: image
    return (
        (lambda image: resized(image, side)) if kind == "mixed sizes" else (lambda image: change(resized(image, side)))
    )


def sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian of the grey pixels."""
    return float(laplace(np.asarray(image.convert("L"), np.float32)).var())


def measured(model: Model, images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """u and sharpness."""
    parts = [model.encode(images[start : start + 16])[1] for start in range(0, len(images), 16)]
    return np.concatenate(parts), np.array([sharpness(image) for image in images])  # type: ignore[arg-type]


def ambiguous_table(model: Model, photographs: list[Image.Image], seeds: int) -> None:
    """Print how well u and the blur detector find the planted copies."""
    planted = round(SHARE * len(photographs))
    print(
        f"{len(photographs):,} photographs, {planted} blurred copies planted, {seeds} draws: "
        "average precision of u / of the variance of the Laplacian"
    )
    for kind in ("as they are", "mixed sizes", "mixed cameras"):
        rng = np.random.default_rng(0)
        cameras = [camera(rng, kind) for _ in photographs]
        u, sharp = measured(model, [take(image) for take, image in zip(cameras, photographs, strict=True)])
        cells = []
        for blur in BLURS:
            found = []
            for _ in range(seeds):
                chosen = rng.choice(len(photographs), planted, replace=False)
                # For grain and JPEG to follow the blur, it comes first: its width goes with the picture's size.
                copies = [cameras[place](blurred(blur)(photographs[place])) for place in chosen]
                u_copies, sharp_copies = measured(model, copies)
                is_copy = np.arange(len(u) + planted) >= len(u)
                found.append(
                    (
                        average_precision_score(is_copy, np.concatenate([u, u_copies])),
                        average_precision_score(is_copy, -np.concatenate([sharp, sharp_copies])),
                    )
                )
            mean, spread = np.mean(found, axis=0), np.std(found, axis=0)
            cells.append(f"{mean[0]:.3f} +- {spread[0]:.3f} / {mean[1]:.3f} +- {spread[1]:.3f}")
        print(
            f"  {kind:14}" + "".join(f"  blur {b:.1%}: {cell}" for b, cell in zip(BLURS, cells, strict=True)),
            flush=True,
        )


def duplicates_table(model: Model, dataset: EmbeddedDataset, count: int) -> None:
    """Print which changed copies pass the usual threshold, and how many different images do."""
    rows = np.random.default_rng(0).choice(len(dataset), min(count, len(dataset)), replace=False)
    originals = [open_rgb(read_bytes(dataset.image_path(row)))[0] for row in rows]
    changes: dict[str, Change] = {
        "JPEG quality 75": recompressed(75),
        "JPEG quality 40": recompressed(40),
        "enlarged by half": lambda image: resized(image, round(1.5 * min(image.size))),
        "four fifths of the size": lambda image: resized(image, round(0.8 * min(image.size))),
        "half the size": lambda image: resized(image, min(image.size) // 2),
        "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }
    nearest = dataset.similarities[:, 0]
    print(
        f"{dataset.name}: most similar other image, median {np.median(nearest):.3f}, 99th percentile "
        f"{np.quantile(nearest, 0.99):.3f}; {(nearest >= SAME_PICTURE).mean():.1%} of images at or above {SAME_PICTURE}"
    )
    for name, change in changes.items():
        copies = [change(image) for image in originals]
        parts = [model.encode(copies[start : start + 16])[0] for start in range(0, len(copies), 16)]
        alike = (normalized(np.concatenate(parts)) * normalized(dataset.embeddings[rows])).sum(axis=1)
        print(
            f"  {name:24} similarity {np.median(alike):.3f} (5th percentile {np.quantile(alike, 0.05):.3f}), "
            f"{(alike >= SAME_PICTURE).mean():.0%} found",
            flush=True,
        )


def read_photographs(folders: list[Path], count: int) -> list[Image.Image]:
    """So many photographs, as many of each folder."""
    rng = np.random.default_rng(0)
    images = []
    for folder in folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
        chosen = rng.choice(len(paths), min(count // len(folders), len(paths)), replace=False)
        images += [open_rgb(read_bytes(paths[place]))[0] for place in chosen]
    return images


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.review", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="*", help="labelled folders that were embedded, or stores")
    parser.add_argument("--photographs", nargs="*", type=Path, default=[], help="folders for the blurred copies")
    parser.add_argument("--count", type=int, default=600, help="photographs taken of them")
    parser.add_argument("--seeds", type=int, default=10, help="draws of wrong labels")
    parser.add_argument("--draws", type=int, default=3, help="draws of blurred copies")
    parser.add_argument("--copies", type=int, default=100, help="originals for the duplicates")
    arguments = parser.parse_args()
    datasets = [EmbeddedDataset.open(name) for name in arguments.datasets]
    for dataset in datasets:
        mislabelled_table(dataset, arguments.seeds)
    if not arguments.photographs and not arguments.copies:
        return
    model = load_model()
    if arguments.photographs:
        ambiguous_table(model, read_photographs(arguments.photographs, arguments.count), arguments.draws)
    for dataset in datasets if arguments.copies else []:
        duplicates_table(model, dataset, arguments.copies)


if __name__ == "__main__":
    main()
