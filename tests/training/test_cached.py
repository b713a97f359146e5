from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from training.cache import build_cache
from training.cached import CachedViews, load_views, task_loss
from training.config import CacheConfig
from training.rows import MappedRows
from training.shards import FACTS, CacheError


@pytest.fixture
def cache(data: Path, cache_config: CacheConfig, encoder, tmp_path: Path) -> Path:
    (data / "plain" / "cat").mkdir()
    (data / "plain" / "0.png").rename(data / "plain" / "cat" / "0.png")
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    return tmp_path / "cache"


def test_a_large_cache_stays_on_disk_and_gives_the_same(cache: Path, cache_config: CacheConfig) -> None:
    memory, disk = load_views(cache, cache_config), load_views(cache, cache_config, in_memory=0)
    assert isinstance(memory.z, np.ndarray)
    assert isinstance(disk.z, MappedRows)
    rows = np.random.default_rng(0).permutation(len(memory))
    np.testing.assert_array_equal(memory.z[rows], disk.z[rows])
    assert memory.facts.tobytes() == disk.facts.tobytes()


def test_true_labels_are_kept_beside_the_guesses(cache: Path, cache_config: CacheConfig) -> None:
    views = load_views(cache, cache_config)
    names = np.array([*views.label_names, "none"])[views.true_label]
    first = views.pass_index == 0
    assert names[first & (views.source == 0)].tolist()[::5] == list(views.label_names[1:])  # the wnids
    assert names[first & (views.source == 1)].tolist() == [*["none"] * 6, "cat"]  # cat/0.png is the last
    plain = views.source == 1
    assert (views.true_label[plain & ~first] == views.true_label[plain & first]).all()
    assert not views.known[plain].any()  # cat is none of the classifier's names: its class is still a guess


def test_a_truncated_shard_is_refused(cache: Path, cache_config: CacheConfig) -> None:
    os.truncate(cache / "shards" / "labelled-01-0000008" / "z.npy", 200)
    with pytest.raises(CacheError, match=r"shard labelled-01-0000008 of the cache .* is damaged"):
        load_views(cache, cache_config)


def test_crops_are_the_instance_loss_and_for_whole_pictures_the_mean_of_their_views() -> None:

    facts = np.zeros(7, FACTS)
    facts["image"] = [0, 1, 0, 1, 0, 1, 0]
    facts["instance"] = [np.nan, np.nan, 1, 2, 3, 8, 5]
    facts["degradation"] = [0, 0, 0, 0, 0, 1, 0]  # a degraded view says nothing of its picture
    source = np.array([0, 0, 0, 0, 0, 0, 1], np.int16)  # nor does another source's
    pass_index = np.array([0, 0, 1, 1, 2, 2, 1], np.int16)
    flags = np.zeros(7, bool)
    views = CachedViews(np.zeros((7, 2), np.float16), facts, source, pass_index, flags, ~flags, {})
    np.testing.assert_allclose(task_loss(views, "crops"), [2, 2, 1, 2, 3, 8, 5])
    np.testing.assert_array_equal(task_loss(views, "instance"), facts["instance"])
