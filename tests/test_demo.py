"""The demo: complete, the same every time, made once, never over somebody's folder; and u rises with strength."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr

from pvu import demo
from pvu.demo import CLEAN_VIEWS, PHOTOGRAPHS, STEPS, degradations, make_demo
from pvu.errors import SourceError
from pvu.images import open_rgb, read_bytes
from pvu.paths import home
from pvu.sources import find_images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo") / "demo")


@pytest.fixture
def two_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small recipe, for tests that make the demo more than once."""
    monkeypatch.setattr(demo, "PHOTOGRAPHS", {label: PHOTOGRAPHS[label] for label in ("cat", "coffee")})


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.jpg"))
    }


def test_every_photograph_has_its_views_and_the_pipeline_finds_them(made: Path) -> None:
    files = find_images(made)
    per_label = CLEAN_VIEWS + STEPS * len(degradations())
    assert files["error"].isna().all()
    assert files["label"].value_counts().to_dict() == dict.fromkeys(PHOTOGRAPHS, per_label)
    assert {"degradation", "strength"} <= set(files.columns)
    assert len(PHOTOGRAPHS) == 18
    assert per_label == 24


def test_strengths_cover_each_quarter_and_clean_views_have_none(made: Path) -> None:
    table = pd.read_csv(made / "labels.csv", keep_default_na=False)
    clean = table["degradation"] == "none"
    assert (table.loc[clean, "strength"] == 0).all()
    for _, group in table[~clean].groupby(["label", "degradation"]):
        assert np.ceil(np.sort(group["strength"]) * STEPS).tolist() == [1, 2, 3, 4]


def test_the_views_are_pictures_of_one_long_side(made: Path) -> None:
    for path in made.rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.mode, max(image.size)) == ("RGB", 320), path


def test_no_two_views_are_the_same_file(made: Path) -> None:
    found = hashes(made)
    assert len(set(found.values())) == len(found) == 24 * 18


@pytest.mark.usefixtures("two_photographs")
def test_it_is_the_same_every_time_and_a_view_does_not_depend_on_the_others(made: Path, tmp_path: Path) -> None:
    whole = hashes(made)
    part = hashes(make_demo(tmp_path / "again"))
    assert len(part) == 48
    assert part == {path: whole[path] for path in part}


@pytest.mark.usefixtures("two_photographs")
def test_a_second_call_makes_nothing_and_an_older_recipe_is_made_again(tmp_path: Path) -> None:
    folder = make_demo(tmp_path / "demo")
    marker = folder / "cat" / "00_none.jpg"
    marker.write_bytes(b"as it was left")
    assert make_demo(folder) == folder
    assert marker.read_bytes() == b"as it was left"
    (folder / ".pvu-demo").write_text("0\n")
    make_demo(folder)
    assert marker.read_bytes() != b"as it was left"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.usefixtures("two_photographs")
def test_without_a_folder_it_goes_under_pvu_home() -> None:
    assert make_demo() == home() / "demo"


def test_somebody_elses_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(SourceError, match="holds something other than the demo"):
        make_demo(tmp_path)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"precious"


def test_a_missing_photograph_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PHOTOGRAPHS", {"cat": "skimage/data/no_such_cat.png"})
    with pytest.raises(SourceError, match=r"needs the photograph skimage/data/no_such_cat\.png.*pip install"):
        make_demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.usefixtures("two_photographs")
def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Image.Image:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_blur", fail)
    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("kind", ["blur", "noise", "dimming", "occlusion"])
def test_a_stronger_degradation_is_farther_from_the_photograph(kind: str) -> None:
    picture = open_rgb(read_bytes(demo._locate(PHOTOGRAPHS["cat"])))[0]
    original = np.asarray(picture, np.float32)

    def error(strength: float) -> float:
        worse = degradations()[kind](picture, strength, np.random.default_rng(0))
        assert worse.size == picture.size
        return float(np.abs(np.asarray(worse, np.float32) - original).mean())

    errors = [error(strength) for strength in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert errors[0] < 1
    assert errors == sorted(errors)


def test_a_stronger_small_crop_shows_less_of_the_photograph() -> None:
    picture = Image.new("RGB", (400, 300))
    crop = degradations()["small crop"]
    sizes = [crop(picture, strength, np.random.default_rng(0)).size for strength in (0, 0.5, 1)]
    assert sizes == [(400, 300), (220, 165), (40, 30)]


def test_uncertainty_rises_with_strength(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the head that ships, over all images of the set: the other reasons to be uncertain stay in."""
    from pvu.models import load_model
    from pvu.registry import resolve

    head = resolve("default").head
    if head is None or not head.is_file():
        pytest.skip(f"there is no trained head at {head}")
    table = pd.read_csv(made / "labels.csv", keep_default_na=False)
    model = load_model()
    pictures = [open_rgb(read_bytes(made / path))[0] for path in table["path"]]
    _, u = model.encode(pictures)
    assert u is not None
    by_kind = {}
    for kind in degradations():
        rows = table["degradation"].isin(["none", kind]).to_numpy()
        by_kind[kind] = round(float(spearmanr(u[rows], table["strength"][rows]).statistic), 2)
    overall = float(spearmanr(u, table["strength"]).statistic)
    with capsys.disabled():
        print(f"\nSpearman of u and strength on the demo: {overall:.3f}; by degradation: {by_kind}")
    assert overall > 0.5
