"""Which images the head is trained on, wherever they are, and which class of the classifier each belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pvu.errors import SourceError
from training.containers import CONTAINERS, Entry, find_files, list_entries
from training.members import Member, file_of

_WNIDS = Path(__file__).parent / "imagenet_wnids.txt"
UNLABELLED = -1
IMAGENET_1K = 1000


@dataclass(frozen=True)
class SourceConfig:
    """One source of training images: a folder tree, or archives and tables of images that are read in place.

    Args:
        name: what it is called; also where it is, unless ``path`` says.
        passes: how many augmented views of each image the cache holds, besides the whole picture.
        held_out: share of the images that is kept for validation and never trained on; 1 for a validation set.
        weight: how often its images are drawn in training, relative to their number.
        path: the folder, file or pattern (``imagenet/train-*.tar``) under the data directory, or absolute.
        class_numbers: whether labels that are numbers are the classifier's own classes, 0 its first, as in the Parquet
            and WebDataset forms of ImageNet-1k.
        compare: whether views are compared with all whole pictures of the source: the retrieval, instance and distance
            task losses, whose cost grows with the source. Sensible up to some 100,000 images; without, they are NaN.
    """

    name: str
    passes: int
    held_out: float = 0.0
    weight: float = 1.0
    path: str = ""
    class_numbers: bool = False
    compare: bool = True

    def __post_init__(self) -> None:
        place = PurePosixPath(self.name)  # in the cache as well, which must not be left
        if not place.parts or place.is_absolute() or ".." in place.parts:
            raise ValueError(f"name of a source must be a plain one, got {self.name!r}; path may lead elsewhere.")
        if self.passes < 0:
            raise ValueError(f"passes of {self.name} must not be negative, got {self.passes}.")
        if not 0 <= self.held_out <= 1:
            raise ValueError(f"held_out of {self.name} must be in [0, 1], got {self.held_out}.")
        if self.weight < 0:
            raise ValueError(f"weight of {self.name} must not be negative, got {self.weight}.")


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image of a source.

    Args:
        key: "source/relative path", the same on every machine.
        member: where its bytes are.
        size: bytes; of a table's images, whose sizes only reading would tell, those of the whole table.
        label: the classifier's class, or UNLABELLED where the label is none of its.
        label_name: the true label as the source names it, or None.
        held_out: whether it is kept for validation.
    """

    key: str
    member: Member
    size: int
    label: int
    label_name: str | None
    held_out: bool

    @property
    def path(self) -> Path:
        """The file that holds it: its own, or that of many."""
        return file_of(self.member)


@lru_cache
def imagenet_classes(classes: int = IMAGENET_1K) -> Mapping[str, int]:
    """The class of each wnid in an ImageNet classifier.

    Args:
        classes: how many it has. 1,000: the sorted wnids. 21,843 (the paper's ViTs), 21,841, 11,821 and 11,221: the
            orders that timm knows. Any other number is no ImageNet classifier, and has no wnids.
    """
    if classes == IMAGENET_1K:
        return {wnid: index for index, wnid in enumerate(_WNIDS.read_text().split())}
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": classes})
    names = ImageNetInfo(subset).label_names() if subset else []
    return {wnid: index for index, wnid in enumerate(names)}


def list_images(data: Path, source: SourceConfig, *, classes: int = IMAGENET_1K) -> list[SourceImage]:
    """The images of one source, in the order of their files' names.

    Args:
        data: the folder that holds the sources.
        source: which of them.
        classes: how many the classifier has, which says what class a wnid is.

    Raises:
        SourceError: if there is no such source, no image in it, or no telling what it is.
    """
    root, files = _locate(data, source)
    images = [_image(source, entry, classes) for entry in list_entries(root, files)]
    if not images:
        raise SourceError(f"Found 0 images in {source.name} ({len(files)} {files[0].suffix} files in {root}).")
    return images


def _locate(data: Path, source: SourceConfig) -> tuple[Path, list[Path]]:
    """The folder that the names of a source's images are relative to, and the files that hold them."""
    place = source.path or source.name
    if "*" in place:
        root = Path(*_before_pattern(data / place))
        files = sorted(path for path in root.glob((data / place).relative_to(root).as_posix()) if path.is_file())
        if not files:
            raise SourceError(f"No file is named {place} in {data}, as source {source.name} says.")
        return root, files
    candidates = [data / place, *(data / f"{place}{suffix}" for suffix in CONTAINERS)]
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        raise SourceError(
            f"There is no folder {place} in {data}, nor a file {place}{', '.join(CONTAINERS)}. "
            "Put the data set there, or drop the source."
        )
    return (found, find_files(found)) if found.is_dir() else (found, [found])


def _before_pattern(path: Path) -> list[str]:
    parts = list(path.parts)
    return parts[: next(index for index, part in enumerate(parts) if "*" in part)]


def _image(source: SourceConfig, entry: Entry, classes: int) -> SourceImage:
    key = f"{source.name}/{entry.name}"
    label = imagenet_classes(classes).get(entry.label or "", UNLABELLED)
    if source.class_numbers and entry.number is not None:
        if entry.number >= classes:
            raise SourceError(f"{key} has the label {entry.number}, but the classifier's {classes} classes end below.")
        label = entry.number
    return SourceImage(key, entry.member, entry.size, label, entry.label, is_held_out(key, source.held_out))


def is_held_out(key: str, share: float) -> bool:
    """Whether an image is kept for validation: by a hash of its key, so the choice never depends on the others."""
    digest = hashlib.blake2b(key.encode(), digest_size=4, person=b"held-out").digest()
    return int.from_bytes(digest, "little") < share * 2**32
