"""What a folder holds, which labels it has, and what a table of labels adds."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from pvu.errors import SourceError
from pvu.sources import RESERVED, find_images, folder_labels, resolve_source, table_hash
from tests.fakes import write_pictures


def label_of(root: Path, table: Path | None = None) -> dict[str, str | None]:
    files = find_images(root, table=table)
    return dict(zip(files["path"], files["label"], strict=True))


def error_of(root: Path) -> dict[str, str]:
    files = find_images(root)
    return {path: error for path, error in zip(files["path"], files["error"], strict=True) if error is not None}


def write_table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# Labels from folders


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["a.jpg", "b.jpg"], [None, None]),
        (["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"], ["cat", "cat", "dog"]),
        (["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg"], ["cat", "dog", "cat"]),
        (["cat/images/1.jpg", "dog/images/1.jpg"], ["cat", "dog"]),
        (["train/cat/images/1.jpg", "train/dog/images/2.jpg", "val/dog/images/3.jpg"], ["cat", "dog", "dog"]),
        (["cat/1.jpg", "cat/2.jpg"], [None, None]),
        (["photos/cat/1.jpg", "photos/dog/1.jpg"], ["cat", "dog"]),
    ],
)
def test_labels_from_folders(paths: list[str], labels: list[str | None]) -> None:
    assert folder_labels(paths) == labels


def test_a_few_strays_get_no_label_and_do_not_spoil_the_rest() -> None:
    paths = [f"{label}/{index}.jpg" for label in ("cat", "dog") for index in range(10)]
    assert folder_labels(["stray.jpg", *paths, "cat/deep/er.jpg"]) == [None, *["cat"] * 10, *["dog"] * 10, None]


def test_a_folder_without_common_depth_has_no_labels() -> None:
    assert folder_labels(["a.jpg", "b.jpg", "cat/1.jpg", "dog/x/1.jpg"]) == [None] * 4


def test_labels_of_a_tree_on_disk(photos: Path) -> None:
    assert label_of(photos) == {path: path.split("/")[0] for path in label_of(photos)}


def test_other_files_have_no_say_in_what_the_labels_are(tmp_path: Path) -> None:
    """As YOLO lays data out: images/ and labels/ side by side would make "images" a label."""
    write_pictures(tmp_path / "set", [f"images/{index}.jpg" for index in range(3)])
    (tmp_path / "set" / "labels").mkdir()
    for index in range(3):
        (tmp_path / "set" / "labels" / f"{index}.txt").write_text("0 0.5 0.5 1 1")
    assert set(label_of(tmp_path / "set").values()) == {None}


def test_notes_beside_the_images_do_not_take_the_labels_away(photos: Path) -> None:
    for index in range(20):
        (photos / f"note{index}.txt").write_text("x")
    assert label_of(photos)["cat/0.png"] == "cat"


# The table of files


def test_rows_are_sorted_and_carry_size_and_time(photos: Path) -> None:
    write_pictures(photos, ["zebra.png", "cat/sub/1.png", "cat.png"])
    files = find_images(photos)
    assert files["path"].tolist() == sorted(files["path"])
    assert list(files.columns) == ["path", "label", "bytes", "mtime_ns", "error"]
    for row in files.itertuples():
        stat = (photos / row.path).stat()
        assert (row.bytes, row.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
        assert row.error is None


@pytest.mark.parametrize("name", ["a.JPG", "a.jpeg", "a.Png", "a.tif", "a.TIFF", "a.webp", "a.gif", "a.bmp", "a.jfif"])
def test_extensions_in_any_case(tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(b"x")
    assert find_images(tmp_path / "set")["error"].tolist() == [None]


def test_other_files_are_listed_with_a_reason(photos: Path) -> None:
    (photos / "notes.txt").write_text("hello")
    (photos / "LICENSE").write_text("hello")
    (photos / "cat" / "empty.jpg").touch()
    assert error_of(photos) == {
        "LICENSE": "not an image type that is read (no extension)",
        "cat/empty.jpg": "empty file",
        "notes.txt": "not an image type that is read (.txt)",
    }


def test_hidden_and_system_files_are_ignored(photos: Path) -> None:
    before = find_images(photos)["path"].tolist()
    write_pictures(photos, [".hidden.png", ".git/a.png", "__MACOSX/cat/1.png", "cat/.thumbs/1.png"])
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (photos / name).write_text("x")
    assert find_images(photos)["path"].tolist() == before


def test_a_folder_that_cannot_be_read_is_listed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert error_of(photos) == {"dog/": "a folder that cannot be read (Permission denied)"}
    assert len(find_images(photos)) == 9


def test_no_images_says_what_was_found_and_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(SourceError, match=r"Found 0 images in .*set\. Supported extensions: .*\.jpg.*\.webp"):
        find_images(tmp_path / "set")
    (tmp_path / "set" / "a.txt").write_text("x")
    (tmp_path / "set" / "b.pdf").write_text("x")
    with pytest.raises(SourceError, match=r"Found 0 images in .*set \(2 other files\)"):
        find_images(tmp_path / "set")


def test_a_name_that_is_not_utf8_is_listed_not_fatal(photos: Path) -> None:
    source = photos / "cat" / "0.png"
    try:
        os.link(source, os.fsencode(photos) + b"/cat/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    errors = error_of(photos)
    assert list(errors.values()) == ["its name is not valid UTF-8: rename it"]
    assert next(iter(errors)).startswith("cat/caf")
    next(iter(errors)).encode()


# Links


def test_a_link_inside_the_folder_is_followed(photos: Path) -> None:
    (photos / "cat" / "link.png").symlink_to(photos / "dog" / "0.png")
    assert "cat/link.png" not in error_of(photos)


def test_a_link_that_leads_outside_is_not(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(photos))
    outside = write_pictures(tmp_path / "outside", ["secret.png"])[0]
    (photos / "cat" / "link.png").symlink_to(outside)
    (photos / "cat" / "relative.png").symlink_to("../../outside/secret.png")
    assert set(error_of(photos)) == {"cat/link.png", "cat/relative.png"}
    assert set(error_of(photos).values()) == {"a link that leads outside the folder"}
    monkeypatch.setenv("PVU_ROOTS", os.pathsep.join([str(photos), str(outside.parent)]))
    assert error_of(photos) == {}


def test_linked_folders_are_listed_but_not_walked(photos: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "outside", ["1.png"])
    (photos / "loop").symlink_to(photos)
    (photos / "away").symlink_to(tmp_path / "outside")
    assert set(error_of(photos)) == {"loop/", "away/"}
    assert all("a link to a folder" in reason for reason in error_of(photos).values())


def test_broken_and_circular_links_are_listed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "broken.png").symlink_to(photos / "gone.png")
    (photos / "self.png").symlink_to(photos / "self.png")
    errors = error_of(photos)
    assert errors["broken.png"].startswith("cannot be read (No such file")
    assert errors["self.png"].startswith("cannot be read (Too many levels of symbolic links")


def test_a_pipe_is_not_waited_for(photos: Path) -> None:
    os.mkfifo(photos / "pipe.png")
    assert error_of(photos) == {"pipe.png": "empty file"}


# Tables


def test_a_table_gives_labels_and_columns(photos: Path) -> None:
    write_table(
        photos / "labels.csv",
        "path,label,weather,temperature\ncat/0.png,kitten,sunny,21.5\ndog/1.png,puppy,rain,3\nowl/2.png,,,\n",
    )
    files = find_images(photos).set_index("path")
    assert list(files.columns) == ["label", "bytes", "mtime_ns", "error", "weather", "temperature"]
    assert files.loc["cat/0.png", ["label", "weather", "temperature"]].tolist() == ["kitten", "sunny", 21.5]
    assert files.loc["owl/2.png", "label"] is None
    assert files.loc["cat/1.png", "label"] is None
    assert pd.isna(files.loc["cat/1.png", "weather"])
    assert files["error"].isna().all()
    assert "labels.csv" not in files.index


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv", "images.csv"])
@pytest.mark.parametrize("column", ["path", "file_name", "filename"])
def test_tables_of_the_usual_names_are_found(photos: Path, name: str, column: str) -> None:
    write_table(photos / name, f"{column},label\ncat/0.png,x\n")
    assert label_of(photos)["cat/0.png"] == "x"


def test_a_table_elsewhere_can_be_given_and_wins(photos: Path, tmp_path: Path) -> None:
    write_table(photos / "labels.csv", "path,label\ncat/0.png,inside\n")
    table = write_table(tmp_path / "mine.csv", "path,label\ncat/0.png,outside\n")
    assert label_of(photos, table)["cat/0.png"] == "outside"


def test_labels_are_text_even_where_they_look_like_numbers(photos: Path) -> None:
    write_table(photos / "labels.csv", "path,label\ncat/0.png,7\ncat/1.png,8\n")
    assert label_of(photos)["cat/0.png"] == "7"


def test_a_number_as_label_stays_as_written_where_another_is_missing(photos: Path) -> None:
    write_table(photos / "labels.csv", "path,label\ncat/0.png,7\ncat/1.png,\n")
    assert label_of(photos)["cat/0.png"] == "7"
    write_table(photos / "labels.csv", "path,label\ncat/0.png,007\n")
    assert label_of(photos)["cat/0.png"] == "007"


def test_a_table_without_labels_leaves_none(photos: Path) -> None:
    write_table(photos / "labels.csv", "path,weather\ncat/0.png,rain\n")
    assert set(label_of(photos).values()) == {None}


def test_reserved_columns_are_renamed(photos: Path) -> None:
    names = sorted(RESERVED - {"path", "label"})
    write_table(photos / "labels.csv", f"path,{','.join(names)}\ncat/0.png{',5' * len(names)}\n")
    files = find_images(photos)
    assert [column for column in files if column.endswith("_from_table")] == [f"{name}_from_table" for name in names]
    assert files["error"].isna().all()
    assert files.set_index("path").loc["cat/0.png", "bytes"] == (photos / "cat/0.png").stat().st_size


def test_a_listed_image_that_is_missing_is_listed_as_such(photos: Path) -> None:
    write_table(photos / "labels.csv", "path,label\ncat/0.png,x\ngone.png,y\n")
    assert error_of(photos) == {"gone.png": "listed in labels.csv, but not in the folder"}


def test_byte_order_mark_and_other_languages(photos: Path) -> None:
    write_table(photos / "labels.csv", "path,label\ncat/0.png,Käuzchen\n", "utf-8-sig")
    assert label_of(photos)["cat/0.png"] == "Käuzchen"


def test_paths_may_be_absolute_dotted_or_windows(photos: Path) -> None:
    write_table(photos / "labels.csv", f"path,label\n{photos}/cat/0.png,a\n./cat/1.png,b\ncat\\2.png,c\n")
    labels = label_of(photos)
    assert [labels[f"cat/{index}.png"] for index in range(3)] == ["a", "b", "c"]
    assert error_of(photos) == {}


def test_the_last_of_two_rows_for_one_image_counts(photos: Path) -> None:
    write_table(photos / "labels.csv", "path,label\ncat/0.png,first\n./cat/0.png,second\n")
    assert label_of(photos)["cat/0.png"] == "second"
    assert len(find_images(photos)) == 12


def test_a_given_table_without_paths_says_what_it_needs(photos: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", "image,label\ncat/0.png,x\n")
    with pytest.raises(SourceError, match=r"has the columns \['image', 'label'\], but needs one named 'path'"):
        find_images(photos, table=table)


@pytest.mark.parametrize(
    "content", [b"", b'path,label\na,b,c,d\ne\n"', b"\xff\xfe\x00path\xe9,label\n", b"\x89PNG\r\n\x1a\n\0\0"]
)
def test_a_given_table_that_cannot_be_read_is_one_sentence(photos: Path, tmp_path: Path, content: bytes) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    with pytest.raises(SourceError, match=r"table .*t\.csv"):
        find_images(photos, table=table)


def test_a_csv_of_a_usual_name_that_is_no_table_is_just_another_file(photos: Path) -> None:
    write_table(photos / "metadata.csv", "camera,lens\nx,y\n")
    write_table(photos / "images.csv", "")
    assert set(error_of(photos)) == {"metadata.csv", "images.csv"}
    assert label_of(photos)["cat/0.png"] == "cat"


def test_a_found_table_in_another_encoding_is_one_sentence(photos: Path) -> None:
    write_table(photos / "labels.csv", "path,label\ncat/0.png,Käuzchen\n", "latin-1")
    with pytest.raises(SourceError, match=r"Cannot read the table .*labels\.csv"):
        find_images(photos)


# Where images come from


def test_a_folder_is_resolved(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    assert resolve_source(tmp_path / "link") == photos.resolve()
    assert resolve_source(f"{photos}/cat/..") == photos.resolve()


def test_what_is_not_there_or_no_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no folder or \.zip at .*nowhere"):
        resolve_source(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"neither a folder nor a \.zip"):
        resolve_source(photos / "cat" / "0.png")


# The hash of a table


def test_the_hash_changes_with_anything_that_a_store_shows(photos: Path) -> None:
    first = table_hash(find_images(photos))
    assert table_hash(find_images(photos)) == first
    write_table(photos / "labels.csv", "path,label\ncat/0.png,x\n")
    labelled = table_hash(find_images(photos))
    write_table(photos / "labels.csv", "path,label,extra\ncat/0.png,x,1\n")
    extended = table_hash(find_images(photos))
    os.utime(photos / "cat" / "0.png", (1, 1))
    touched = table_hash(find_images(photos))
    (photos / "dog" / "0.png").unlink()
    assert len({first, labelled, extended, touched, table_hash(find_images(photos))}) == 5


def test_labels_are_taken_as_written(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{index}.png" for index in range(5)])
    labels = ["None", "NA", "007", "", "nan"]
    rows = "".join(f"{index}.png,{label}\n" for index, label in enumerate(labels))
    (tmp_path / "labels.csv").write_text(f"path,label\n{rows}")
    assert find_images(tmp_path)["label"].tolist() == ["None", "NA", "007", None, "nan"]


def test_columns_that_would_overwrite_ours_get_a_free_name(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a.png"])
    (tmp_path / "labels.csv").write_text("path,width,width_from_table,percentile\na.png,1,2,3\n")
    found = find_images(tmp_path)
    assert found[["width_from_table_", "width_from_table", "percentile_from_table"]].iloc[0].tolist() == [1, 2, 3]


def test_a_table_that_is_a_link_to_elsewhere_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path / "photos"))
    write_pictures(tmp_path / "photos", ["a.png", "b.png"])
    (tmp_path / "secret.csv").write_text("path,label\na.png,secret\n")
    (tmp_path / "photos" / "labels.csv").symlink_to(tmp_path / "secret.csv")
    found = find_images(tmp_path / "photos")
    assert found["label"].isna().all()
    assert "labels.csv" in found.loc[found["error"].notna(), "path"].tolist()
