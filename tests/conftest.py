"""Fixtures for all tests. Every test has its own PVU_HOME, so none sees what another has left."""

from __future__ import annotations

import functools
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pvu.pipeline import embed
from pvu.registry import DEFAULT
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, write_pictures

_SHARED = Path(os.environ.get("PVU_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")


class SharedData:
    """The developers' image sets, unpacked when a test first asks for one.

    Args:
        zips: the folder of the zips.
        unpacked: where to unpack them.
    """

    def __init__(self, zips: Path, unpacked: Path) -> None:
        self.zips = zips
        self.unpacked = unpacked
        self._lock = threading.Lock()

    def folder(self, name: str) -> Path:
        """The folder of a set, such as "flowers17"; skips the test if there is no such zip."""
        target = self.unpacked / name
        with self._lock:
            if not target.is_dir():
                archive = self.zips / f"{name}.zip"
                if not archive.is_file():
                    pytest.skip(f"there is no {archive.name} in {self.zips}")
                with zipfile.ZipFile(archive) as opened:
                    opened.extractall(target)
        return target


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need the developers' image sets where those are absent, and say how to get them to run."""
    if _SHARED.is_dir() and any(_SHARED.glob("*.zip")):
        return
    skip = pytest.mark.skip(reason=f"needs image sets that are not at {_SHARED}: set PVU_SHARED_DATA to their folder")
    for item in items:
        if item.get_closest_marker("shared_data") or "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> SharedData:
    """The developers' image sets."""
    return SharedData(_SHARED, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def real_set(shared_data: SharedData, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], EmbeddedDataset]:
    """Gives a real set embedded with the default model, once for all tests; its map is not UMAP's.

    PVU_SHARED_STORES, a PVU_HOME where the sets are embedded already, saves two minutes.
    """
    stores = Path(os.environ.get("PVU_SHARED_STORES") or tmp_path_factory.mktemp("stores"))

    @functools.cache
    def get(name: str) -> EmbeddedDataset:
        found = sorted((stores / "stores").glob(f"{name}-{DEFAULT}-*/manifest.json"))
        if found:
            return EmbeddedDataset(found[0].parent)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PVU_HOME", str(stores))
            patch.setattr("pvu.assemble.project", lambda z, *_: np.asarray(z[:, :2], np.float32))
            return embed(shared_data.folder(name))

    return get


@pytest.fixture(autouse=True)
def pvu_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own PVU_HOME; not made yet, as for a new user."""
    home = tmp_path / "pvu-home"
    monkeypatch.setenv("PVU_HOME", str(home))
    monkeypatch.delenv("PVU_ROOTS", raising=False)
    return home


@pytest.fixture
def encoder() -> FakeEncoder:
    """A tiny deterministic encoder with a head."""
    return FakeEncoder()


@pytest.fixture
def quick_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces UMAP in the pipeline by two columns of the embeddings, where the map is not what is tested."""

    def project(embeddings: np.ndarray, _neighbors: np.ndarray, _similarities: np.ndarray) -> np.ndarray:
        return np.asarray(embeddings[:, :2], np.float32)

    monkeypatch.setattr("pvu.assemble.project", project)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three labels of four pictures each."""
    root = tmp_path / "photos"
    write_pictures(root, [f"{label}/{index}.png" for label in ("cat", "dog", "owl") for index in range(4)])
    return root


@pytest.fixture
def make_photos(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of so many pictures without labels."""

    def make(count: int, name: str = "many") -> Path:
        write_pictures(tmp_path / name, [f"{index:04d}.png" for index in range(count)])
        return tmp_path / name

    return make
