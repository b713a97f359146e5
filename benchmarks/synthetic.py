"""Stores as large as a benchmark wants, made without a model: clustered embeddings, labels, u, and tiny pictures.

    python -m benchmarks.synthetic HOME --count 50000

Everything that the app reads is there and hangs together: images of one cluster lie together in the embeddings and on
the map, the neighbours are the true ones within blocks of 512 images of a cluster, a few images are duplicates, a few
carry another cluster's label, and u grows with the distance from the cluster's centre.
"""

from __future__ import annotations

import argparse
import colorsys
import datetime
import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pvu.catalog import MANIFEST, SCHEMA
from pvu.clusters import find_clusters

NEIGHBORS = 30
BLOCK = 512
MISLABELLED = 0.03
DUPLICATES = 0.01
VAL = 0.1
VARIANTS = 8
"""Different thumbnails of a label; all images share them, since to encode one for each would take minutes."""


def synthetic_store(
    home: Path,
    count: int,
    *,
    labels: int = 100,
    dim: int = 384,
    seed: int = 0,
    model: str = "synthetic",
    fingerprint: str = "synthetic",
    originals: bool = False,
) -> Path:
    """Write a store of made-up images, or find the one that is there.

    Args:
        home: the PVU_HOME to put it in.
        count: images, at least 2.
        labels: how many; a cluster each.
        dim: of the embeddings.
        seed: of everything random.
        model: name of the model that the store says it was made with.
        fingerprint: that model's, where queries are to be encoded with it.
        originals: whether to write original files too: hard links of a few small pictures.

    Returns:
        The store, ``home/stores/synthetic-COUNT``. Its folder of images is ``home/synthetic-COUNT``.
    """
    source = home / f"synthetic-{count}"
    path = home / "stores" / source.name
    wanted = {"count": count, "labels": labels, "dim": dim, "seed": seed, "fingerprint": fingerprint}
    if (path / MANIFEST).is_file() and json.loads((path / MANIFEST).read_text()).get("synthetic") == wanted:
        return path
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    source.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    clusters, names, paths = _places(count, labels, rng)
    vectors, distances = _embeddings(clusters, labels, dim, rng)
    hashes = _duplicates(vectors, rng)
    np.save(path / "embeddings.npy", vectors)
    indices, similarities = _neighbors(vectors, clusters)
    np.savez(path / "neighbors.npz", indices=indices, similarities=similarities)
    coords = _map(clusters, labels, rng)
    np.save(path / "umap.npy", coords)
    np.save(path / "clusters.npy", find_clusters(coords))
    pictures = [_picture(label, labels, variant) for label in range(labels) for variant in range(VARIANTS)]
    u = (0.3 * distances / distances.mean() * rng.lognormal(0, 0.25, count)).astype(np.float32)
    table = _table(clusters, names, paths, u, hashes, pictures, rng)
    table.to_parquet(path / "images.parquet", index=False)
    (path / "thumbs.bin").write_bytes(b"".join(pictures))
    if originals:
        _write_originals(source, paths, clusters, pictures)
    quantiles = [float(q) for q in np.quantile(u, np.linspace(0, 1, 101))]
    manifest = _manifest(source, count, dim, model, fingerprint) | {"reference_quantiles": quantiles}
    (path / MANIFEST).write_text(json.dumps(manifest | {"synthetic": wanted}))
    return path


def _places(count: int, labels: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Each image's cluster (N,), its label (N,), and its path: rows are in the order of their paths."""
    clusters = rng.integers(labels, size=count)
    wrong = rng.random(count) < MISLABELLED
    named = np.where(wrong, rng.integers(labels, size=count), clusters)
    split = (rng.random(count) < VAL).astype(int)
    order = np.lexsort((named, split))
    clusters, named, split = clusters[order], named[order], split[order]
    names = np.array([f"label {label:03d}" for label in range(labels)], dtype=object)[named]
    folders = ("train", "val")
    paths = [f"{folders[s]}/{label:03d}/{row:06d}.jpg" for row, (s, label) in enumerate(zip(split, named, strict=True))]
    return clusters, names, paths


def _embeddings(clusters: np.ndarray, labels: int, dim: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) float16, and each one's distance from its cluster's centre (N,)."""
    centres = rng.standard_normal((labels, dim), np.float32)
    vectors = np.empty((len(clusters), dim), np.float16)
    distances = np.empty(len(clusters), np.float32)
    for start in range(0, len(clusters), 65536):
        part = clusters[start : start + 65536]
        spread = rng.uniform(0.4, 1.4, (len(part), 1)).astype(np.float32)
        noise = rng.standard_normal((len(part), dim), np.float32) * spread
        vectors[start : start + len(part)] = centres[part] + noise
        distances[start : start + len(part)] = spread[:, 0]
    return vectors, distances


def _duplicates(vectors: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Make some images copies of the one before: half of them to the bit, the others nearly. Returns content hashes."""
    hashes = [f"{row:032x}" for row in range(len(vectors))]
    for row in np.flatnonzero(rng.random(len(vectors) - 1) < DUPLICATES) + 1:
        vectors[row] = vectors[row - 1]
        if rng.random() < 0.5:
            hashes[row] = hashes[row - 1]
        else:
            vectors[row] += rng.normal(0, 0.02, size=(vectors.shape[1],)).astype(np.float16)
    return hashes


def _neighbors(vectors: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other images among BLOCK images of about the same cluster: indices (N, k) int32, cosines (N, k)."""
    count = len(vectors)
    k = min(NEIGHBORS, count - 1)
    order = np.argsort(clusters, kind="stable")
    indices = np.empty((count, k), np.int32)
    similarities = np.empty((count, k), np.float32)
    for start in range(0, count, BLOCK):
        # The last block reaches back, so that it is as full as the others.
        rows = order[max(0, min(start, count - BLOCK)) : start + BLOCK]
        block = vectors[rows].astype(np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        cosines = block @ block.T
        np.fill_diagonal(cosines, -np.inf)
        top = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        indices[rows] = rows[top]
        similarities[rows] = np.take_along_axis(cosines, top, axis=1)
    return indices, similarities


def _map(clusters: np.ndarray, labels: int, rng: np.random.Generator) -> np.ndarray:
    """(N, 2) float32: round clusters of different widths, scattered as UMAP scatters them."""
    centres = rng.uniform(-10, 10, (labels, 2))
    widths = rng.uniform(0.15, 0.5, labels)
    return (centres[clusters] + rng.standard_normal((len(clusters), 2)) * widths[clusters, None]).astype(np.float32)


def _picture(label: int, labels: int, variant: int) -> bytes:
    """A small JPEG in the colour of a label."""
    colour = np.array(colorsys.hsv_to_rgb(label / labels, 0.6, 0.5 + variant / (2 * VARIANTS))) * 255
    shade = np.linspace(0.5, 1, 48)[:, None, None]
    pixels = np.broadcast_to(colour * shade, (48, 64, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _table(
    clusters: np.ndarray,
    names: np.ndarray,
    paths: list[str],
    u: np.ndarray,
    hashes: list[str],
    pictures: list[bytes],
    rng: np.random.Generator,
) -> pd.DataFrame:
    count = len(paths)
    sizes = np.array([len(picture) for picture in pictures])
    picture = clusters * VARIANTS + np.arange(count) % VARIANTS
    return pd.DataFrame(
        {
            "path": paths,
            "bytes": sizes[picture].astype(np.int64),
            "mtime_ns": np.arange(count, dtype=np.int64),
            "width": rng.integers(200, 4000, count).astype(np.int32),
            "height": rng.integers(200, 4000, count).astype(np.int32),
            "content_hash": hashes,
            "error": pd.Series([None] * count, dtype=object),
            "uncertainty": u,
            "status": "ok",
            "thumb_offset": (np.cumsum(sizes) - sizes)[picture].astype(np.int64),
            "thumb_bytes": sizes[picture].astype(np.int32),
            "label": names,
            "camera": rng.choice(["left", "middle", "right"], count),
            "brightness": rng.uniform(0, 1, count),
        }
    )


def _write_originals(source: Path, paths: list[str], clusters: np.ndarray, pictures: list[bytes]) -> None:
    """Hard links, as many as the file system gives a file; then another copy."""
    made: dict[int, tuple[Path, int]] = {}
    for folder in {Path(path).parent for path in paths}:
        (source / folder).mkdir(parents=True, exist_ok=True)
    for row, path in enumerate(paths):
        target = source / path
        target.unlink(missing_ok=True)
        picture = int(clusters[row]) * VARIANTS + row % VARIANTS
        first, links = made.get(picture, (target, 0))
        if links in (0, 1000):
            target.write_bytes(pictures[picture])
            made[picture] = (target, 1)
        else:
            target.hardlink_to(first)
            made[picture] = (first, links + 1)


def _manifest(source: Path, count: int, dim: int, model: str, fingerprint: str) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "name": source.name,
        "source": str(source.resolve()),
        "model": model,
        "fingerprint": fingerprint,
        "dim": dim,
        "has_head": True,
        "counts": {"images": count, "failed": 0},
        "metadata_columns": ["camera", "brightness"],
        "table_hash": "synthetic",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        "versions": {},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path, help="the PVU_HOME to put the store in")
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--originals", action="store_true", help="write the original files too")
    arguments = parser.parse_args()
    start = time.monotonic()
    path = synthetic_store(arguments.home, arguments.count, originals=arguments.originals)
    print(f"{path}: {arguments.count:,} images in {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
