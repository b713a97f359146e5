"""python -m pvu review: the library's lists as lines and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pvu.cli import main
from pvu.pipeline import embed
from pvu.review import ambiguous, duplicates, mislabelled, outliers
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.fakes import FakeEncoder, write_pictures


@pytest.fixture
def dataset(tmp_path: Path, quick_map: None) -> EmbeddedDataset:
    folder = tmp_path / "pets"
    write_pictures(folder, [f"{label}/{number:02d}.png" for label in ("cat", "dog", "owl") for number in range(15)])
    (folder / "dog" / "99.png").write_bytes((folder / "cat" / "03.png").read_bytes())  # a cat among the dogs
    return embed(folder, model=FakeEncoder(), workers=0)


@pytest.mark.parametrize("make", [ambiguous, mislabelled, duplicates, outliers])
def test_the_json_is_the_librarys_list(
    dataset: EmbeddedDataset, capsys: pytest.CaptureFixture[str], make: Callable[[EmbeddedDataset], object]
) -> None:
    expected = make(dataset)
    assert main(["review", str(dataset.source), "--list", expected.name, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["list"], printed["sentence"]) == (expected.name, expected.sentence)
    assert [dataset.find_row(image["path"]) for image in printed["images"]] == expected.rows.tolist()
    for place, image in enumerate(printed["images"]):
        assert image["score"] == pytest.approx(float(expected.scores[place]))
        assert image["evidence"] == expected.text(place)
        assert image["suggested_label"] == expected.suggested[place]
        beside = [dataset.find_row(path) for path in image["beside"]]
        assert beside == [row for row in expected.beside[place] if row >= 0]


def test_a_planted_cat_among_the_dogs_is_found_for_people_and_by_its_tag(
    dataset: EmbeddedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    row = dataset.find_row("dog/99.png")
    Tags.of(dataset).set(row, "fix label", "cat")
    assert main(["review", str(dataset.source), "--list", "mislabelled"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "dog/99.png [dog] -> cat: " in lines[1]
    assert main(["review", str(dataset.source), "--list", "duplicates", "--cutoff", "0.9999", "--json"]) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert {image["path"]: image["tag"] for image in images} == {"cat/03.png": None, "dog/99.png": "fix label"}
    assert {image["group"] for image in images} == {0}
    assert "Labels differ: cat and dog." in images[0]["evidence"]


def test_without_a_list_it_prints_how_long_they_are(
    dataset: EmbeddedDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = {
        found.name: len(found) for found in (make(dataset) for make in (ambiguous, mislabelled, duplicates, outliers))
    }
    assert main(["review", str(dataset.source), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dataset": str(dataset.source), "lists": lengths}
    assert main(["review", str(dataset.source)]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {line[0]: int(line[1]) for line in printed} == lengths


def test_a_list_that_has_to_be_empty_says_why(
    make_photos: Callable[..., Path], quick_map: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_photos(5)
    embed(folder, model=FakeEncoder(), workers=0)
    assert main(["review", str(folder), "--list", "mislabelled"]) == 0
    assert "This list compares labels, and many has none" in capsys.readouterr().out
    assert main(["review", str(folder), "--list", "mislabelled", "--json"]) == 0
    assert "labels.csv" in json.loads(capsys.readouterr().out)["missing"]


def test_what_cannot_be_done_is_one_sentence(dataset: EmbeddedDataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", str(dataset.source), "--cutoff", "0.5"]) == 2
    assert "--cutoff goes with --list" in capsys.readouterr().err
    assert main(["review", str(dataset.source), "--list", "ugly"]) == 2
    assert "'ugly' is not one of" in capsys.readouterr().err
