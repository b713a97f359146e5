from __future__ import annotations

from pathlib import Path

import packing
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


def test_larger_imagenet_classifiers_have_their_own_order() -> None:
    classes = imagenet_classes(21843)  # the paper's: of the ViT authors' list, whose first is organism.n.01
    assert len(classes) == 21843
    assert classes["n00004475"] == 0
    assert classes["n01440764"] > 0
    assert imagenet_classes(10) == {}


def test_labels_come_from_wnid_folders_alone(data: Path) -> None:
    labelled = list_images(data, SourceConfig("labelled", passes=1))
    assert [image.label for image in labelled] == [row // 5 for row in range(20)]
    assert labelled[0].key == "labelled/n01440764/0.png"
    assert labelled[0].path == labelled[0].member == data / "labelled" / "n01440764" / "0.png"
    assert labelled[0].label_name == "n01440764"
    plain = list_images(data, SourceConfig("plain", passes=1))
    assert {(image.label, image.label_name) for image in plain} == {(UNLABELLED, None)}


def test_the_class_of_a_wnid_is_the_classifiers(data: Path) -> None:
    labelled = list_images(data, SourceConfig("labelled", passes=1), classes=21843)
    assert labelled[0].label == imagenet_classes(21843)["n01440764"]
    assert {i.label for i in list_images(data, SourceConfig("labelled", passes=1), classes=10)} == {UNLABELLED}


def test_true_names_of_other_labels_are_kept(data: Path) -> None:
    (data / "labelled" / "n01440764").rename(data / "labelled" / "cat")
    (data / "labelled" / "loose.png").write_bytes(b"")
    found = {image.key: image for image in list_images(data, SourceConfig("labelled", passes=1))}
    assert (found["labelled/cat/0.png"].label, found["labelled/cat/0.png"].label_name) == (UNLABELLED, "cat")
    assert found["labelled/loose.png"].label_name is None


def test_an_archive_stands_for_its_folder(data: Path) -> None:
    folder = list_images(data, SourceConfig("labelled", passes=1, held_out=0.5))
    (data / "packed").mkdir()
    packing.write_zip(data / "packed" / "labelled.zip", packing.files_of(data / "labelled"))
    packed = list_images(data / "packed", SourceConfig("labelled", passes=1, held_out=0.5))
    assert [(i.key, i.label, i.size, i.held_out) for i in packed] == [
        (i.key, i.label, i.size, i.held_out) for i in folder
    ]


def test_a_path_names_a_file_a_folder_or_a_pattern(data: Path, tmp_path: Path) -> None:
    files = packing.files_of(data / "labelled")
    packing.write_webdataset(data / "wds", files, extension="json", shards=4)
    some = list_images(data, SourceConfig("some", passes=1, path="wds/train-*1.tar"))
    assert [image.key for image in some] == [f"some/train-000001/{row:06d}.png" for row in range(5)]
    packing.write_zip(tmp_path / "elsewhere" / "z.zip", files)
    absolute = list_images(data, SourceConfig("other", passes=1, path=str(tmp_path / "elsewhere" / "z.zip")))
    assert absolute[0].key == "other/n01440764/0.png"
    with pytest.raises(SourceError, match="No file is named wds/val"):
        list_images(data, SourceConfig("some", passes=1, path="wds/val-*.tar"))


def test_numbered_labels_are_classes_only_where_the_configuration_says_so(data: Path) -> None:
    packing.write_webdataset(data / "wds", packing.files_of(data / "labelled"), extension="cls")
    assert {image.label for image in list_images(data, SourceConfig("wds", passes=1))} == {UNLABELLED}
    numbered = SourceConfig("wds", passes=1, class_numbers=True)
    assert {(image.label, image.label_name) for image in list_images(data, numbered)} == {
        (number, str(number)) for number in range(4)
    }
    with pytest.raises(SourceError, match="has the label 3, but the classifier's 3 classes"):
        list_images(data, numbered, classes=3)


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
    packing.write_tar(data / "texts.tar", [("a.txt", b"")])
    with pytest.raises(SourceError, match=r"Found 0 images in texts \(1 \.tar files"):
        list_images(data, SourceConfig("texts", passes=1))


@pytest.mark.parametrize(
    ("arguments", "message"), [({"passes": -1}, "passes"), ({"held_out": 2}, "held_out"), ({"weight": -1}, "weight")]
)
def test_values_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message} of photos"):
        SourceConfig("photos", **{"passes": 1, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "..", "../elsewhere", "/elsewhere"])
def test_a_name_does_not_lead_out_of_the_cache(name: str) -> None:
    with pytest.raises(ValueError, match="name of a source must be a plain one"):
        SourceConfig(name, passes=1)
