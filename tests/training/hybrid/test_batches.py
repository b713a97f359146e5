"""Batches: pictures with their neighbours, the same ones for a seed and a step, nothing that is held out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from training.hybrid.batches import Pictures
from training.hybrid.config import DistillConfig
from training.hybrid.mapped import MappedViews
from training.hybrid.teacher import Teacher, as_tensor


@pytest.fixture
def pictures(views: MappedViews, config: DistillConfig) -> Pictures:
    return Pictures.of(views, teacher(views, config), config)


def teacher(views: MappedViews, config: DistillConfig) -> Teacher:
    return Teacher(as_tensor(views.pooled[views.usable & (views.pass_index == 0)]), config.whiten)


def test_a_batch_depends_on_seed_and_step_alone(pictures: Pictures, config: DistillConfig) -> None:
    first, again, later = (pictures.draw(config, step)[0] for step in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)
    other = pictures.draw(dataclasses.replace(config, seed=2), 3)[0]
    assert not np.array_equal(first, other)


def test_rows_are_views_of_the_pictures_drawn_and_usable(
    views: MappedViews, pictures: Pictures, config: DistillConfig
) -> None:
    augmented = 0
    for step in range(20):
        rows, drawn = pictures.draw(config, step)
        assert len(np.unique(drawn)) == len(drawn) <= config.batch
        np.testing.assert_array_equal(views.image[rows], views.image[pictures.whole[drawn]])
        assert views.usable[rows].all()
        augmented += np.count_nonzero(views.pass_index[rows])
    assert augmented > 20


def test_neighbours_are_the_nearest_by_the_teacher(
    views: MappedViews, pictures: Pictures, config: DistillConfig
) -> None:
    targets = teacher(views, config)(as_tensor(views.pooled[pictures.whole])).numpy()
    similarity = targets @ targets.T
    np.fill_diagonal(similarity, -2)
    expected = np.argsort(-similarity, axis=1)[:, : config.among]
    assert (np.sort(expected, 1) == np.sort(pictures.neighbors, 1)).mean() > 0.99


def test_views_that_show_too_little_are_left_out(views: MappedViews, config: DistillConfig) -> None:
    strict = dataclasses.replace(config, smallest=0.6)
    kept = np.concatenate(Pictures.of(views, teacher(views, config), strict).views)
    assert len(kept)
    assert (views.area[kept] >= 0.6).all()


def test_sources_of_twice_the_weight_are_drawn_twice_as_often(views: MappedViews, pictures: Pictures) -> None:
    chances = [pictures.chances[views.source[pictures.whole] == source] for source in (0, 1)]
    assert chances[1][0] == pytest.approx(2 * chances[0][0])


def test_too_few_pictures_are_one_sentence(views: MappedViews, config: DistillConfig) -> None:
    with pytest.raises(ValueError, match=r"Found \d+ pictures to train on"):
        Pictures.of(views, teacher(views, config), dataclasses.replace(config, among=100))
