from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from pvu.images import Preprocessing
from training.degradations import KINDS, LEVELS, degraded_views, follows_strength, worsen

PREPROCESSING = Preprocessing(size=16)


def test_an_uncertainty_that_follows_darkness_is_found(data: Path) -> None:
    paths = sorted((data / "labelled").rglob("*.png"))
    found = {
        kind: follows_strength(1 - views.mean(axis=(1, 2, 3)) / 255)
        for kind, views in degraded_views(PREPROCESSING, paths, images=5)
    }
    assert list(found) == list(KINDS)
    assert found["dimming"] > 0.95
    assert abs(found["blur"]) < 0.5


def test_strength_is_correlated_over_all_images() -> None:
    u = np.random.default_rng(0).random(3 * len(LEVELS)) + np.tile(LEVELS, 3)
    assert follows_strength(u) == pytest.approx(spearmanr(u, [*LEVELS, *LEVELS, *LEVELS]).statistic)


def test_views_are_the_same_again_and_begin_undegraded(data: Path) -> None:
    paths = [*sorted((data / "labelled").rglob("*.png"))[:3], data / "plain" / "broken.png"]
    once, again = (dict(degraded_views(PREPROCESSING, paths)) for _ in range(2))
    for kind in KINDS:
        assert once[kind].shape == (3 * len(LEVELS), 16, 16, 3)  # the broken picture is passed over
        np.testing.assert_array_equal(once[kind], again[kind])
    picture = PREPROCESSING.apply(Image.open(paths[0]))
    for kind in ("blur", "low resolution", "crop"):
        np.testing.assert_allclose(once[kind][0], picture, atol=1)


def test_a_crop_keeps_the_centre() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[40:60, 40:60] = 255
    rng = np.random.default_rng(0)
    assert worsen(Image.fromarray(pixels), "crop", 1.0, rng).min() == 255
    np.testing.assert_array_equal(worsen(Image.fromarray(pixels), "crop", 0.0, rng), pixels)
