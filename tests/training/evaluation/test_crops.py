from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training.evaluation.crops import FRACTIONS, centre_crop, crop_like_url


def test_the_centre_is_kept_and_resized_back() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:30, 10:30] = 200
    np.testing.assert_array_equal(centre_crop(pixels, 0.5), np.full((40, 40, 3), 200))
    np.testing.assert_array_equal(centre_crop(pixels, 1.0), pixels)
    inside = np.asarray(Image.fromarray(pixels[5:35, 5:35]).resize((40, 40), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(centre_crop(pixels, 0.75), inside)


def test_the_fraction_is_of_the_side_not_of_the_area() -> None:
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (100, 100, 3))
    crop = centre_crop(np.ascontiguousarray(ramp), 0.25)
    assert crop.max() - crop.min() == pytest.approx(24, abs=1)


def test_crops_are_seeded_by_the_image_and_spread_over_the_range() -> None:
    ramp = np.ascontiguousarray(np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3)))
    crops = [crop_like_url(ramp, f"label/{index}.png") for index in range(200)]
    np.testing.assert_array_equal(crops[7], crop_like_url(ramp, "label/7.png"))
    sides = np.array([(int(crop.max()) - int(crop.min()) + 1) / 200 for crop in crops])
    low, high = FRACTIONS
    assert low - 0.01 <= sides.min() < low + 0.03
    assert high - 0.03 < sides.max() <= high + 0.01
    assert sides.mean() == pytest.approx((low + high) / 2, abs=0.04)
