"""The demo data set: photographs that come with scikit-image and scikit-learn, each made worse in five ways.

Nothing is downloaded and nothing is shipped twice: the pictures are read from the installed packages, and the views are
made on this machine. How bad a view is was decided by the recipe below, not by a model, so the set also answers whether
uncertainty rises when a picture gets worse.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image, ImageEnhance, ImageFilter

from pvu.errors import SourceError
from pvu.images import open_rgb, read_bytes
from pvu.paths import home

RECIPE = 2
"""Raise it whenever a picture would come out differently: folders of an older recipe are made again."""

PHOTOGRAPHS = {
    "astronaut": "skimage/data/astronaut.png",
    "brick wall": "skimage/data/brick.png",
    "cat": "skimage/data/chelsea.png",
    "cell": "skimage/data/cell.png",
    "coffee": "skimage/data/coffee.png",
    "coins": "skimage/data/coins.png",
    "dahlia": "sklearn/datasets/images/flower.jpg",
    "galaxies": "skimage/data/hubble_deep_field.jpg",
    "grass": "skimage/data/grass.png",
    "gravel": "skimage/data/gravel.png",
    "moon": "skimage/data/moon.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "pagoda": "sklearn/datasets/images/china.jpg",
    "photographer": "skimage/data/camera.png",
    "printed page": "skimage/data/page.png",
    "retina": "skimage/data/retina.jpg",
    "rocket": "skimage/data/rocket.jpg",
    "tissue": "skimage/data/ihc.png",
}
"""Label -> the file inside the installed package."""

CLEAN_VIEWS = 4
STEPS = 4
"""Strengths of each degradation, one drawn from each quarter of (0, 1]."""
_STAMP = ".pvu-demo"  # hidden, so that no scan takes it for an image that is broken
_LONG_SIDE = 320
_QUALITY = 90

Degrade = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def make_demo(folder: Path | None = None) -> Path:
    """Make the demo data set, or find that it is there already.

    A folder per label with JPEGs, and labels.csv with the columns ``path``, ``label``, ``degradation`` ("none", "blur",
    "noise", "dimming", "occlusion", "small crop") and ``strength`` (0 for clean views, up to 1). The same on every
    machine, up to the JPEG encoder.

    Args:
        folder: where; None takes ``PVU_HOME/demo``.

    Returns:
        The folder.

    Raises:
        SourceError: if the packages lack a photograph, or the folder holds something else.
    """
    folder = (folder or home() / "demo").expanduser().resolve()
    if _recipe_in(folder) == RECIPE:
        return folder
    if folder.exists() and _recipe_in(folder) is None and (not folder.is_dir() or any(folder.iterdir())):
        raise SourceError(f"{folder} holds something other than the demo, which would be lost. Give an empty folder.")
    photographs = {label: _locate(path) for label, path in PHOTOGRAPHS.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if _recipe_in(folder) != RECIPE:  # another process may have made it while this one waited
            _build(folder, photographs)
    return folder


def photograph(label: str) -> Image.Image:
    """One of the PHOTOGRAPHS as it lies in its package: RGB, full size.

    Raises:
        SourceError: if the package lacks it.
    """
    return open_rgb(read_bytes(_locate(PHOTOGRAPHS[label])))[0]


def degradations() -> dict[str, Degrade]:
    """Name -> function of (RGB picture, strength in [0, 1], generator). The same strength is about equally bad."""
    return {"blur": _blur, "noise": _noise, "dimming": _dim, "occlusion": _occlude, "small crop": _small_crop}


def _recipe_in(folder: Path) -> int | None:
    try:
        return int((folder / _STAMP).read_text())
    except (OSError, ValueError):
        return None


def _locate(inside: str) -> Path:
    """A file of an installed package, without importing the package (scikit-image alone takes a second)."""
    package, _, rest = inside.partition("/")
    spec = find_spec(package)
    path = Path(spec.origin).parent / rest if spec is not None and spec.origin is not None else None
    if path is None or not path.is_file():
        raise SourceError(
            f"The demo needs the photograph {inside}, which is not on this machine. "
            "Install what requirements.txt names: pip install -r requirements.txt"
        )
    return path


def _build(folder: Path, photographs: dict[str, Path]) -> None:
    """Write everything beside the folder, and rename it into place once it is complete."""
    building = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(building, ignore_errors=True)
    try:
        rows = [row for label, path in photographs.items() for row in _write_views(building, label, path)]
        pd.DataFrame(rows).to_csv(building / "labels.csv", index=False)
        (building / _STAMP).write_text(f"{RECIPE}\n")
        if folder.exists():  # empty, or of an older recipe
            shutil.rmtree(folder)
        os.replace(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_views(root: Path, label: str, path: Path) -> Iterator[dict[str, object]]:
    picture, _ = open_rgb(read_bytes(path))
    slug = label.replace(" ", "_")
    (root / slug).mkdir(parents=True)
    for number, (kind, step) in enumerate(_plan()):
        rng = _rng(label, number)
        # A third of a step keeps every strength in its own quarter, so that no two views of a kind are alike.
        strength = 0.0 if kind == "none" else round((step + 1 - rng.uniform(0, 1 / 3)) / STEPS, 3)
        name = f"{slug}/{number:02d}_{kind.replace(' ', '_')}.jpg"
        _view(picture, kind, strength, rng).save(root / name, "JPEG", quality=_QUALITY)
        yield {"path": name, "label": label, "degradation": kind, "strength": strength}


def _plan() -> list[tuple[str, int]]:
    return [("none", 0)] * CLEAN_VIEWS + [(kind, step) for kind in degradations() for step in range(STEPS)]


def _rng(label: str, number: int) -> np.random.Generator:
    """Depends on the view alone: adding a photograph changes no other."""
    key = hashlib.blake2b(label.encode(), digest_size=8).digest()
    return np.random.default_rng([RECIPE, int.from_bytes(key, "little"), number])


def _view(picture: Image.Image, kind: str, strength: float, rng: np.random.Generator) -> Image.Image:
    """One view: a mild crop as if the photographer had stood a step aside, then the degradation."""
    if kind == "small crop":
        return _fit(_small_crop(picture, strength, rng))
    framed = _fit(_crop(picture, rng.uniform(0.86, 1.0), rng))
    if kind == "none":
        return framed
    return degradations()[kind](framed, strength, rng)


def _fit(picture: Image.Image) -> Image.Image:
    """Long side _LONG_SIDE: enough for every model here, and all pictures of the gallery are one size."""
    scale = _LONG_SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _crop(picture: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """A random part of the picture with ``share`` of each side."""
    width, height = (max(8, round(side * share)) for side in picture.size)
    left, top = int(rng.integers(picture.width - width + 1)), int(rng.integers(picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


def _small_crop(picture: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Too close: at strength 1 a tenth of each side is left, which seldom shows what the picture is of."""
    return _crop(picture, 1 - 0.9 * strength, rng)


def _blur(picture: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    """Out of focus: at strength 1 nothing finer than an eighth of the picture is left."""
    return picture.filter(ImageFilter.GaussianBlur(strength * max(picture.size) / 27))


def _noise(picture: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """A sensor pushed too far: Gaussian noise with a standard deviation of up to 100 of 255 levels."""
    pixels = np.asarray(picture, np.float32)
    noisy = pixels + rng.normal(0, 100 * strength, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8))


def _dim(picture: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    """Underexposed: up to three and a half stops, a twelfth of the light; darker ones a screen shows as black."""
    return ImageEnhance.Brightness(picture).enhance(0.5 ** (3.5 * strength))


def _occlude(picture: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Something in the way: one flat, greyish patch over up to 85 % of the area."""
    side = (0.85 * strength) ** 0.5
    width, height = (round(edge * side) for edge in picture.size)
    left, top = int(rng.integers(picture.width - width + 1)), int(rng.integers(picture.height - height + 1))
    tint = int(rng.integers(40, 201)) + rng.integers(-25, 26, 3)
    covered = picture.copy()
    covered.paste((int(tint[0]), int(tint[1]), int(tint[2])), (left, top, left + width, top + height))
    return covered
