from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training.augment import DEGRADATIONS, Augmentation, augment, degrade, random_box, view_rng


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))


def test_a_view_depends_on_seed_pass_and_image_alone(picture: Image.Image) -> None:
    augmentation = Augmentation(degrade=0.5)

    def pixels(seed: int, pass_index: int, key: str) -> bytes:
        return augment(picture, 32, augmentation, view_rng(seed, pass_index, key)).pixels.tobytes()

    assert pixels(0, 1, "a") == pixels(0, 1, "a")
    others = {pixels(0, 1, "a"), pixels(1, 1, "a"), pixels(0, 2, "a"), pixels(0, 1, "b")}
    assert len(others) == 4


def test_view_has_the_models_input_size_and_type(picture: Image.Image) -> None:
    view = augment(picture, 32, Augmentation(), view_rng(0, 1, "a"))
    assert view.pixels.shape == (32, 32, 3)
    assert view.pixels.dtype == np.uint8
    assert (view.degradation, view.strength) == (0, 0.0)


def test_without_any_change_the_view_is_the_picture() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    nothing = Augmentation(scale=(1, 1), ratio=(1, 1), flip=0, jitter=0)
    view = augment(picture, 32, nothing, view_rng(0, 1, "a"))
    np.testing.assert_array_equal(view.pixels, np.asarray(picture))
    assert view.area == 1


def test_crops_keep_the_area_and_ratio_asked_for() -> None:
    augmentation = Augmentation()
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(500):
        left, top, right, bottom = random_box((400, 300), augmentation, rng)
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 300
        areas.append((right - left) * (bottom - top) / (400 * 300))
        assert 0.73 < (right - left) / (bottom - top) < 1.37  # rounding to pixels adds a little
    assert 0.07 < min(areas) < 0.15
    assert max(areas) > 0.85


@pytest.mark.parametrize("size", [(1, 1), (1000, 2), (3, 700)])
def test_odd_sizes_still_give_a_crop_inside_the_picture(size: tuple[int, int]) -> None:
    left, top, right, bottom = random_box(size, Augmentation(), np.random.default_rng(0))
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


@pytest.mark.parametrize("kind", DEGRADATIONS[1:])
def test_degradations_grow_with_their_strength(picture: Image.Image, kind: str) -> None:
    original = np.asarray(picture, np.float64)

    def change(strength: float) -> float:
        worse = degrade(picture, kind, strength, np.random.default_rng(0))
        assert worse.size == picture.size
        return float(np.abs(np.asarray(worse) - original).mean())

    # Uncorrelated pixels are the worst case of the last steps: two blurs are equally far from them.
    assert change(0.0) < 1
    assert change(0.05) < change(0.3)


def test_unknown_degradation_is_refused(picture: Image.Image) -> None:
    with pytest.raises(ValueError, match="no degradation 'rain'"):
        degrade(picture, "rain", 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"scale": (0, 1)}, "scale"), ({"ratio": (2, 1)}, "ratio"), ({"flip": 2}, "flip"), ({"degrade": -1}, "degrade")],
)
def test_values_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)  # type: ignore[arg-type]
