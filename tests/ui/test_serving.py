"""Routes: pictures and columns of open data sets, and of nothing else."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette

from pvu.coloring import coloring, grid
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from pvu.ui import serving
from tests.fakes import FakeEncoder

pytestmark = pytest.mark.usefixtures("quick_map")
APP = Starlette(routes=serving.ROUTES)


@pytest.fixture
def dataset(photos: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedDataset:
    monkeypatch.setenv("PVU_ROOTS", str(photos))
    return embed(photos, model=FakeEncoder(), workers=0)


class Answer:
    """What a request got."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def take(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")

    @property
    def unpacked(self) -> bytes:
        assert self.headers["content-encoding"] == "gzip"
        return gzip.decompress(self.body)


def get(address: str, method: str = "GET") -> Answer:
    path, _, query = address.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1"), (b"origin", b"https://elsewhere.example")],
        "app": APP,
    }
    answer = Answer()

    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(60)  # the browser stays until it has the answer
            return {"type": "http.disconnect"}

        await APP(scope, receive, answer.take)

    # In a thread of its own: in the tests' own, Playwright's loop may be running.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, ask()).result()
    return answer


def test_a_thumbnail_and_the_full_picture(dataset: EmbeddedDataset) -> None:
    base = serving.address(dataset)
    thumb = get(f"{base}/thumb/3")
    assert (thumb.status, thumb.headers["content-type"]) == (200, "image/jpeg")
    assert thumb.body == dataset.thumbnail(3)
    with Image.open(dataset.image_path(3)) as original:
        assert Image.open(io.BytesIO(get(f"{base}/image/3").body)).size == original.size


def test_no_answer_may_be_read_by_another_website(dataset: EmbeddedDataset) -> None:
    base = serving.address(dataset)
    for what in ("thumb/3", "image/3", "about/3", "points", "color?by=label"):
        headers = get(f"{base}/{what}").headers
        assert not [name for name in headers if name.startswith("access-control")]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"


def test_what_is_said_of_an_image(dataset: EmbeddedDataset) -> None:
    told = json.loads(get(f"{serving.address(dataset)}/about/5").body)
    assert told["path"] == dataset.images["path"][5]
    assert told["label"] == dataset.labels[5]
    assert told["u"] == pytest.approx(float(dataset.uncertainty[5]))
    assert told["percentile"] == pytest.approx(float(dataset.percentiles[5]))


@pytest.mark.parametrize(
    "what", ["thumb/12", "thumb/-1", "thumb/x", "thumb/../3", "nothing/3", "nothing", "color?by=x", ""]
)
def test_there_is_nothing_else(dataset: EmbeddedDataset, what: str) -> None:
    assert get(f"{serving.address(dataset)}/{what}").status == 404


def test_only_open_data_sets_have_an_address(dataset: EmbeddedDataset) -> None:
    base = serving.address(dataset)
    secret = base.rsplit("/", 1)[-1]
    assert len(secret) >= 20
    assert get(f"/pvu/{secret[:-1]}x/thumb/3").status == 404
    assert get(f"/pvu/{dataset.path.name}/thumb/3").status == 404
    assert serving.address(dataset) == base


def test_the_longest_unseen_data_set_is_forgotten(dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_registry", serving._Registry())
    base = serving.address(dataset)
    assert get(f"{base}/thumb/0").status == 200
    for number in range(serving._OPEN_SETS):
        other = object.__new__(EmbeddedDataset)
        other.path, other.manifest = Path(f"other{number}"), {"created": ""}
        serving.address(other)
    assert get(f"{base}/thumb/0").status == 404
    assert serving.address(dataset) != base


def test_columns_are_binary_and_in_row_order(dataset: EmbeddedDataset) -> None:
    base = serving.address(dataset)
    steps, frame = grid(dataset.coords)
    sent = np.frombuffer(get(f"{base}/points").unpacked, "<u2").reshape(2, -1).T
    assert (sent == steps).all()
    assert np.allclose(frame[0] + sent * frame[1], dataset.coords, atol=1e-3)
    for name in ("uncertainty", "label", "width"):
        column = np.frombuffer(get(f"{base}/color?by={name}").unpacked, "<f4")
        assert np.array_equal(column, coloring(dataset, name).values, equal_nan=True)
    assert np.frombuffer(get(f"{base}/rows").unpacked, "<i4").tolist() == list(range(len(dataset)))


def test_a_column_that_changes_has_a_version_in_its_address(dataset: EmbeddedDataset) -> None:
    base, tags = serving.address(dataset), Tags.of(dataset)

    def column() -> list[float]:
        return np.frombuffer(get(f"{base}/color?by=tag&v={tags.version}").unpacked, "<f4").tolist()

    before = column()
    tags.set(0, "drop")
    assert column() != before


def test_an_original_out_of_reach_is_shown_as_its_thumbnail(
    dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path / "elsewhere"))
    assert get(f"{serving.address(dataset)}/image/3").body == dataset.thumbnail(3)
    monkeypatch.setenv("PVU_ROOTS", str(dataset.source))
    dataset.image_path(4).write_bytes(b"no picture any more")
    dataset.image_path(5).unlink()
    assert get(f"{serving.address(dataset)}/image/4").body == dataset.thumbnail(4)
    assert get(f"{serving.address(dataset)}/image/5").body == dataset.thumbnail(5)


def test_a_large_original_is_made_smaller(dataset: EmbeddedDataset) -> None:
    Image.new("RGB", (4000, 1000), "red").save(dataset.image_path(0))
    sent = Image.open(io.BytesIO(get(f"{serving.address(dataset)}/image/0").body))
    assert max(sent.size) <= serving.FULL_SIZE
    assert sent.size[0] == 4 * sent.size[1]


def test_plotly_is_the_one_of_the_package() -> None:
    answer = get(serving.plotly_address())
    assert answer.status == 200
    assert b"plotly.js v" in answer.body[:200]
    assert get(serving.plotly_address(), "POST").status == 405
