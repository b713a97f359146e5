from __future__ import annotations

from pathlib import Path

import pytest

from pvu.errors import SourceError
from training.data import UNLABELLED, SourceConfig, imagenet_classes, is_held_out, list_images


def test_imagenet_classes_are_the_sorted_wnids() -> None:
    classes = imagenet_classes()
    assert len(classes) == 1000
    assert list(classes) == sorted(classes)
    assert classes["n01440764"] == 0  # tench
    assert classes["n02123045"] == 281  # tabby cat
    assert classes["n15075141"] == 999  # toilet tissue


def test_labels_come_from_wnid_folders_alone(data: Path) -> None:
    labelled = list_images(data, SourceConfig("labelled", passes=1))
    assert [image.label for image in labelled] == [row // 5 for row in range(20)]
    assert labelled[0].key == "labelled/n01440764/0.png"
    plain = list_images(data, SourceConfig("plain", passes=1))
    assert {image.label for image in plain} == {UNLABELLED}


def test_held_out_share_is_about_right_and_only_grows() -> None:
    keys = [f"photos/{index}.jpg" for index in range(2000)]
    few = {key for key in keys if is_held_out(key, 0.2)}
    assert 330 < len(few) < 470
    assert few < {key for key in keys if is_held_out(key, 0.4)}
    assert not any(is_held_out(key, 0) for key in keys)
    assert all(is_held_out(key, 1) for key in keys)


def test_missing_and_empty_sources_are_refused(data: Path) -> None:
    with pytest.raises(SourceError, match="no folder other"):
        list_images(data, SourceConfig("other", passes=1))
    (data / "empty").mkdir()
    with pytest.raises(SourceError, match="Found 0 images"):
        list_images(data, SourceConfig("empty", passes=1))


@pytest.mark.parametrize(
    ("arguments", "message"), [({"passes": -1}, "passes"), ({"held_out": 2}, "held_out"), ({"weight": -1}, "weight")]
)
def test_values_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message} of photos"):
        SourceConfig("photos", **{"passes": 1, **arguments})  # type: ignore[arg-type]
