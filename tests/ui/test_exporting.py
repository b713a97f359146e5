"""The rows of a choice, and the archive of embeddings."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.ui.exporting import chosen_rows, embeddings_zip
from tests.fakes import FakeEncoder

pytestmark = pytest.mark.usefixtures("quick_map")


@pytest.fixture
def dataset(photos: Path) -> EmbeddedDataset:
    return embed(photos, model=FakeEncoder(), workers=0)


@pytest.mark.parametrize(("share", "count"), [(1, 1), (10, 1), (50, 6), (100, 12)])
def test_shares_are_the_ends_of_the_order_by_uncertainty(dataset: EmbeddedDataset, share: int, count: int) -> None:
    order = sorted(range(12), key=lambda row: dataset.uncertainty[row])
    assert chosen_rows(dataset, "certain", share).tolist() == sorted(order[:count])
    assert chosen_rows(dataset, "uncertain", share).tolist() == sorted(order[12 - count :])


def test_the_archive_holds_embeddings_and_table_row_by_row(dataset: EmbeddedDataset) -> None:
    rows = np.array([2, 3, 11])
    with zipfile.ZipFile(io.BytesIO(embeddings_zip(dataset, rows))) as archive:
        assert sorted(archive.namelist()) == ["photos.npy", "photos.parquet"]
        vectors = np.load(io.BytesIO(archive.read("photos.npy")))
        table = pd.read_parquet(io.BytesIO(archive.read("photos.parquet")))
    np.testing.assert_array_equal(vectors, np.asarray(dataset.embeddings)[rows])
    assert table["path"].tolist() == [str(dataset.image_path(int(row))) for row in rows]
