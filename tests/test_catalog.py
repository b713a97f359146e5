"""Deleting stores: only pvu's own, never one that a run is working on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvu.catalog import delete_store, find_stores, partial_path, store_lock
from pvu.errors import StoreError
from pvu.pipeline import embed
from tests.fakes import FakeEncoder

pytestmark = pytest.mark.usefixtures("quick_map")


def test_a_deleted_store_is_gone_with_its_half_made_successor(photos: Path) -> None:
    store = embed(photos, model=FakeEncoder(), workers=0).path
    (partial_path(store) / "shards").mkdir(parents=True)
    delete_store(store)
    assert find_stores() == []
    assert [path for path in store.parent.iterdir() if path.suffix != ".lock"] == []
    assert len(list(photos.rglob("*.png"))) == 12
    assert embed(photos, model=FakeEncoder(), workers=0).path == store


def test_what_is_open_can_be_used_to_its_end(photos: Path) -> None:
    dataset = embed(photos, model=FakeEncoder(), workers=0)
    thumbnail = dataset.thumbnail(3)
    delete_store(dataset.path)
    assert dataset.thumbnail(3) == thumbnail
    assert dataset.embeddings[11].shape == (48,)


def test_nothing_but_a_store_of_pvus_own_is_deleted(photos: Path, tmp_path: Path) -> None:
    store = embed(photos, model=FakeEncoder(), workers=0).path
    for wrong in (photos, store.parent, store.parent / "absent", tmp_path):
        with pytest.raises(StoreError, match="is no store in"):
            delete_store(wrong)
    with store_lock(store), pytest.raises(StoreError, match="A run is working on"):
        delete_store(store)
    assert find_stores() == [store]
