from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.evaluation.sheets import SIDE, write_sheet


@pytest.fixture
def greys(tmp_path: Path) -> list[Path]:
    """30 grey pictures; picture i has the value 8 i. One is damaged."""
    paths = [tmp_path / f"{index}.png" for index in range(30)]
    for index, path in enumerate(paths):
        Image.new("RGB", (30 + index, 40), (8 * index,) * 3).save(path)
    paths[11].write_bytes(b"no picture")
    return paths


def tiles(sheet: Image.Image, rows: int) -> np.ndarray:
    """The value in the middle of each thumbnail: (2 blocks, 8 rows)."""
    pixels = np.asarray(sheet.convert("L"))
    height = sheet.height // 2
    tops = [block * height + 14 + 12 + row * (SIDE + 20) for block in (0, 1) for row in range(rows)]
    return np.array([[pixels[top + SIDE // 2, 6 + x * (SIDE + 6) + SIDE // 2] for x in range(8)] for top in tops])


def test_the_most_certain_come_first_then_the_least_certain(greys: list[Path], tmp_path: Path) -> None:
    u = np.random.default_rng(0).permutation(30).astype(float)
    write_sheet(tmp_path / "sheets" / "a.jpg", greys, u, title="greys", shown=16)
    with Image.open(tmp_path / "sheets" / "a.jpg") as sheet:
        assert sheet.format == "JPEG"
        shown = tiles(sheet, 2).reshape(2, 16)
    order = np.argsort(u)
    for block, rows in ((0, order[:16]), (1, order[::-1][:16])):
        readable = rows != 11
        np.testing.assert_allclose(shown[block][readable], 8 * rows[readable], atol=4)


def test_fewer_images_than_places(greys: list[Path], tmp_path: Path) -> None:
    write_sheet(tmp_path / "a.jpg", greys[:3], np.array([3.0, 1, 2]), title="greys")
    with Image.open(tmp_path / "a.jpg") as sheet:
        assert tiles(sheet, 1)[:, :3].tolist() == [[8, 16, 0], [0, 16, 8]]


def test_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 0 and 0"):
        write_sheet(tmp_path / "a.jpg", [], np.empty(0), title="none")
