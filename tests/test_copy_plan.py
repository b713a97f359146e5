"""Where images go: names that are safe, stable and unique, and folders that will not do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pvu.copy_plan import CopyError, folder_name, plan_copy
from pvu.paths import home
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.fakes import FakeEncoder, write_pictures

pytestmark = pytest.mark.usefixtures("quick_map")
ALL = np.arange(12)


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path))


@pytest.fixture
def dataset(photos: Path) -> EmbeddedDataset:
    return embed(photos, model=FakeEncoder(), workers=0)


def names(dataset: EmbeddedDataset, folder: Path, **options: object) -> list[str]:
    rows = np.arange(len(dataset))
    return list(plan_copy(dataset, rows, folder, **options).names)  # type: ignore[arg-type]


def test_paths_are_the_originals_own(dataset: EmbeddedDataset, tmp_path: Path, photos: Path) -> None:
    plan = plan_copy(dataset, ALL, tmp_path / "new")
    assert plan.names == {path: photos / path for path in dataset.images["path"]}
    assert plan.table is not None
    assert plan.table["label"].tolist() == dataset.labels.tolist()
    assert not (tmp_path / "new").exists()  # planning writes nothing


def test_a_folder_per_label_gathers_splits_and_renames_what_would_collide(tmp_path: Path) -> None:
    given = ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1-2.png", "val/dog/1.png"]
    write_pictures(tmp_path / "split", given)
    opened = embed(tmp_path / "split", model=FakeEncoder(), workers=0)
    assert names(opened, tmp_path / "new", layout="labels") == [
        *("cat/1.png", "dog/1.png", "cat/1-2.png", "dog/1-2.png", "dog/1-3.png"),
    ]


def test_another_choice_gives_no_image_another_name(tmp_path: Path) -> None:
    write_pictures(tmp_path / "split", ["train/cat/1.png", "val/cat/1.png", "val/dog/1.png"])
    opened = embed(tmp_path / "split", model=FakeEncoder(), workers=0)
    plan = plan_copy(opened, np.array([1]), tmp_path / "new", layout="labels")
    assert plan.names == {"cat/1-2.png": tmp_path / "split" / "val/cat/1.png"}


def test_labels_of_a_table_make_safe_folders_and_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "loose"
    write_pictures(folder, [f"{number}.png" for number in range(6)])
    labels = ["a/b", "a_b", "../../etc", "", "unlabelled", "…" * 100]
    (folder / "labels.csv").write_text(
        "path,label,camera\n" + "".join(f"{number}.png,{label},left\n" for number, label in enumerate(labels))
    )
    opened = embed(folder, model=FakeEncoder(), workers=0)
    plan = plan_copy(opened, np.arange(6), tmp_path / "new", layout="labels")
    given = list(plan.names)
    assert given[:5] == ["a_b-2/0.png", "a_b/1.png", "_.._etc/2.png", "unlabelled-2/3.png", "unlabelled/4.png"] or (
        given[:5] == ["a_b/0.png", "a_b-2/1.png", "_.._etc/2.png", "unlabelled-2/3.png", "unlabelled/4.png"]
    )
    assert len(given[5].split("/")[0].encode()) <= 120
    assert plan.table is not None
    assert plan.table["path"].tolist() == given
    assert plan.table["label"].tolist() == [label or None for label in labels]
    assert plan.table["camera"].tolist() == ["left"] * 6


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("heron", "heron"),
        ("grey heron, young", "grey heron, young"),
        ("C:\\x|y", "C__x_y"),
        (".hidden", "hidden"),
        ("..", "_"),
        (" ", "_"),
        ("a\0b\nc", "a_b_c"),
        ("Ĥéron", "Ĥéron"),
    ],
)
def test_folder_names(label: str, name: str) -> None:
    assert folder_name(label) == name


def test_corrected_labels_rename_the_folder_of_the_label_and_keep_the_split(tmp_path: Path) -> None:
    write_pictures(tmp_path / "split", ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/2.png"])
    opened = embed(tmp_path / "split", model=FakeEncoder(), workers=0)
    Tags.of(opened).set([0, 3], "fix label", ["dog", "wolf"])
    assert names(opened, tmp_path / "new") == opened.images["path"].tolist()
    assert names(opened, tmp_path / "new", corrected=True) == [
        *("train/dog/1.png", "train/dog/1-2.png", "val/cat/1.png", "val/wolf/2.png"),
    ]
    assert names(opened, tmp_path / "new", corrected=True, layout="labels") == [
        *("dog/1.png", "dog/1-2.png", "cat/1.png", "wolf/2.png"),
    ]


def test_corrected_labels_need_folders_named_as_labels(tmp_path: Path) -> None:
    write_pictures(tmp_path / "loose", ["a.png", "b.png"])
    (tmp_path / "loose" / "labels.csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    opened = embed(tmp_path / "loose", model=FakeEncoder(), workers=0)
    Tags.of(opened).set(0, "fix label", "owl")
    with pytest.raises(CopyError, match=r"not named as its labels .a.png is cat.*a folder per label"):
        names(opened, tmp_path / "new", corrected=True)
    assert names(opened, tmp_path / "new", corrected=True, layout="labels") == ["owl/a.png", "dog/b.png"]


def test_folders_that_will_not_do(dataset: EmbeddedDataset, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(photos)
    wrong = {
        photos / "kept": "lie in each other",
        tmp_path / "link" / "kept": "lie in each other",
        tmp_path: "lie in each other",
        home() / "kept": "where pvu keeps its own files",
        dataset.path / "kept": "where pvu keeps its own files",
        Path("/etc/kept"): "/etc/kept is outside the folders that this app may use .*PVU_ROOTS",
        tmp_path / ".." / ".." / "kept": "is outside the folders",
        Path("kept"): "kept is not a full path",
        tmp_path / "no" / "kept": "The folder .*/no does not exist",
        tmp_path / "full": r"holds other things already \(thesis.txt",
        tmp_path / "file": "is a file",
        tmp_path / ("x" * 300): "cannot be read",
        tmp_path / "zero\0byte": "cannot be read",
    }
    for folder, message in wrong.items():
        with pytest.raises(Exception, match=message):
            plan_copy(dataset, ALL, folder)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_a_person_at_a_terminal_may_copy_anywhere(
    dataset: EmbeddedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path / "photos"))
    with pytest.raises(CopyError, match="outside the folders"):
        plan_copy(dataset, ALL, tmp_path / "new")
    assert plan_copy(dataset, ALL, tmp_path / "new", anywhere=True).folder == tmp_path / "new"


def test_nothing_chosen_and_originals_that_are_gone(dataset: EmbeddedDataset, tmp_path: Path, photos: Path) -> None:
    with pytest.raises(CopyError, match="No image is chosen"):
        plan_copy(dataset, ALL[:0], tmp_path / "new")
    photos.rename(tmp_path / "elsewhere")
    with pytest.raises(CopyError, match="The originals of photos are no longer at"):
        plan_copy(dataset, ALL, tmp_path / "new")
