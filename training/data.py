"""Which images the head is trained on: folder trees, labelled by ImageNet folder name or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pvu.errors import SourceError
from pvu.images import EXTENSIONS

_WNIDS = Path(__file__).parent / "imagenet_wnids.txt"
UNLABELLED = -1


@dataclass(frozen=True)
class SourceConfig:
    """One folder of training images.

    Args:
        name: the folder under the data directory.
        passes: how many augmented views of each image the cache holds, besides the whole picture.
        held_out: share of the images that is kept for validation and never trained on; 1 for a validation set.
        weight: how often its images are drawn in training, relative to their number.
    """

    name: str
    passes: int
    held_out: float = 0.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.passes < 0:
            raise ValueError(f"passes of {self.name} must not be negative, got {self.passes}.")
        if not 0 <= self.held_out <= 1:
            raise ValueError(f"held_out of {self.name} must be in [0, 1], got {self.held_out}.")
        if self.weight < 0:
            raise ValueError(f"weight of {self.name} must not be negative, got {self.weight}.")


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    Args:
        key: "source/relative path", the same on every machine.
        path: the file.
        label: ImageNet-1k class, or UNLABELLED where the folder name is no wnid of it.
        held_out: whether it is kept for validation.
    """

    key: str
    path: Path
    label: int
    held_out: bool


def imagenet_classes() -> dict[str, int]:
    """ImageNet-1k's class of each wnid: the sorted wnids are the order of every ImageNet-1k classifier."""
    return {wnid: index for index, wnid in enumerate(_WNIDS.read_text().split())}


def list_images(data: Path, source: SourceConfig) -> list[SourceImage]:
    """The images of one source, sorted by path.

    Args:
        data: the folder that holds the sources.
        source: which of them.

    Raises:
        SourceError: if there is no such folder, or no image in it.
    """
    folder = data / source.name
    if not folder.is_dir():
        raise SourceError(f"There is no folder {source.name} in {data}. Unpack the data set there, or drop the source.")
    classes = imagenet_classes()
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not paths:
        raise SourceError(f"Found 0 images in {folder}. Supported extensions: {', '.join(sorted(EXTENSIONS))}.")
    images = []
    for path in paths:
        key = f"{source.name}/{path.relative_to(folder).as_posix()}"
        label = classes.get(path.parent.name, UNLABELLED)
        images.append(SourceImage(key, path, label, is_held_out(key, source.held_out)))
    return images


def is_held_out(key: str, share: float) -> bool:
    """Whether an image is kept for validation: by a hash of its key, so the choice never depends on the others."""
    digest = hashlib.blake2b(key.encode(), digest_size=4, person=b"held-out").digest()
    return int.from_bytes(digest, "little") < share * 2**32
