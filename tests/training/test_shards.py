from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from training import shards
from training.shards import FACTS, CacheError, Shard

SHARD = Shard("photos", 1, 8, 12)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    facts = np.zeros(4, FACTS)
    facts["image"] = np.arange(8, 12)
    shards.write_shard(tmp_path, SHARD, np.arange(12, dtype=np.float32).reshape(4, 3), facts)
    return tmp_path


def test_plan_has_whole_pictures_first_and_every_row_once() -> None:
    planned = shards.plan({"a": 5, "b": 3}, {"a": 0, "b": 2}, 2)
    assert [(s.source, s.pass_index, s.start, s.stop) for s in planned] == [
        *[("a", 0, 0, 2), ("a", 0, 2, 4), ("a", 0, 4, 5), ("b", 0, 0, 2), ("b", 0, 2, 3)],
        *[("b", 1, 0, 2), ("b", 1, 2, 3), ("b", 2, 0, 2), ("b", 2, 2, 3)],
    ]
    assert planned[3].name == "b-00-0000000"


def test_a_shard_is_read_as_it_was_written(cache: Path) -> None:
    z, facts = shards.read_shard(cache, SHARD)
    assert isinstance(z, np.memmap)
    np.testing.assert_array_equal(z, np.arange(12).reshape(4, 3))
    assert facts["image"].tolist() == [8, 9, 10, 11]
    assert shards.is_whole(cache, SHARD)
    shards.remove_shard(cache, SHARD)
    assert not shards.is_done(cache, SHARD)
    assert not shards.is_whole(cache, SHARD)
    assert list((cache / "shards").iterdir()) == []


@pytest.mark.parametrize("file", ["z.npy", "facts.npy"])
@pytest.mark.parametrize("left", [0, 60, -1])
def test_a_truncated_shard_is_damaged(file: str, left: int, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cache / "shards" / SHARD.name / file
    os.truncate(path, left if left >= 0 else path.stat().st_size - 1)
    with pytest.raises(CacheError, match=r"shard photos-01-0000008 of the cache .* is damaged .* Run training\.cache"):
        shards.read_shard(cache, SHARD)
    assert shards.is_done(cache, SHARD)
    assert not shards.is_whole(cache, SHARD)
    assert "photos-01-0000008" in capsys.readouterr().out


def test_a_shard_of_something_else_is_damaged(cache: Path) -> None:
    folder = cache / "shards" / SHARD.name
    for array in (np.zeros((3, 3), np.float16), np.zeros((4, 3), np.float32), np.zeros(4, np.float16)):
        np.save(folder / "z.npy", array)
        with pytest.raises(CacheError, match=r"is damaged \(found"):
            shards.read_shard(cache, SHARD)


def test_a_damaged_shard_can_be_written_again(cache: Path) -> None:
    os.truncate(cache / "shards" / SHARD.name / "z.npy", 10)
    shards.write_shard(cache, SHARD, np.ones((4, 3)), np.zeros(4, FACTS))
    assert (shards.read_shard(cache, SHARD)[0] == 1).all()


def test_early_manifests_are_completed_and_others_refused(tmp_path: Path) -> None:
    early = {"backbone": "a", "seed": 0}
    shards.open_cache(tmp_path, early)
    later = early | {"classifier": "c", "sizes": {"photos": "s"}, "uncompared": []}
    shards.open_cache(tmp_path, later)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest == {"format": shards.FORMAT} | later
    shards.open_cache(tmp_path, later)
    for name in ("classifier", "sizes", "uncompared"):
        with pytest.raises(CacheError, match=f"was made with another {name}"):
            shards.open_cache(tmp_path, later | {name: "other"})
    with pytest.raises(CacheError, match="was made with another kind"):  # never left out by early ones
        shards.open_cache(tmp_path, later | {"kind": "maps"})


def test_early_manifests_compared_every_source(tmp_path: Path) -> None:
    shards.open_cache(tmp_path, {"backbone": "a"})
    with pytest.raises(CacheError, match="was made with another uncompared"):
        shards.open_cache(tmp_path, {"backbone": "a", "uncompared": ["photos"]})


def test_images_are_read_in_every_form(tmp_path: Path) -> None:
    rows = [["photos/a", 3, "cat"], ["photos/b", -1, None]]
    shards.write_images(tmp_path, "photos", rows)
    assert shards.read_images(tmp_path, "photos") == [("photos/a", 3, "cat"), ("photos/b", -1, None)]
    shards.write_json(tmp_path / "images" / "early.json", [["early/a", 3]])
    assert shards.read_images(tmp_path, "early") == [("early/a", 3, None)]
    shards.write_json(tmp_path / "images" / "counted.json", {"rows": 2})
    assert shards.read_images(tmp_path, "counted") == [("counted/0", 0, None), ("counted/1", 0, None)]
    with pytest.raises(CacheError, match="has no source other"):
        shards.read_images(tmp_path, "other")


def test_images_with_another_class_are_refused_and_names_are_added(tmp_path: Path) -> None:
    shards.write_json(tmp_path / "images" / "photos.json", [["photos/a", 3], ["photos/b", -1]])
    shards.write_images(tmp_path, "photos", [["photos/a", 3, "cat"], ["photos/b", -1, None]])
    assert shards.read_images(tmp_path, "photos")[0] == ("photos/a", 3, "cat")
    with pytest.raises(CacheError, match=r"1 images of photos have another class, first photos/b \(class -1 .* 7 now"):
        shards.write_images(tmp_path, "photos", [["photos/a", 3, "cat"], ["photos/b", 7, None]])
