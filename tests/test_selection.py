"""Boxes and lassos: against scikit-image's test, a ray that is cast point by point, and shapes with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import points_in_poly

from pvu.selection import in_box, in_polygon

SHAPES = {
    "triangle": [(0.1, 0.1), (0.9, 0.2), (0.4, 0.8)],
    "concave": [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.5, 0.3), (0.1, 0.9)],
    "horizontal edges": [
        (0.2, 0.2),
        (0.8, 0.2),
        (0.8, 0.4),
        (0.5, 0.4),
        (0.5, 0.6),
        (0.8, 0.6),
        (0.8, 0.8),
        (0.2, 0.8),
    ],
    "closed by hand": [(0.2, 0.2), (0.8, 0.3), (0.5, 0.8), (0.2, 0.2)],
    "self-crossing": [(0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.1, 0.9)],
    "star": [(0.5 + 0.45 * np.sin(4 * np.pi * i / 5), 0.5 + 0.45 * np.cos(4 * np.pi * i / 5)) for i in range(5)],
    "freehand": [
        (0.5 + r * np.cos(t), 0.5 + r * np.sin(t))
        for t, r in zip(
            np.linspace(0, 6.2, 200),
            0.3 + 0.12 * np.random.default_rng(0).standard_normal(200).clip(-2, 1),
            strict=True,
        )
    ],
}


def by_ray(point: np.ndarray, polygon: np.ndarray) -> bool:
    """Even-odd rule: how many edges lie to the right of the point."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if min(y0, y1) <= point[1] < max(y0, y1):
            crossings += point[0] < x0 + (point[1] - y0) / (y1 - y0) * (x1 - x0)
    return crossings % 2 == 1


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_a_lasso_agrees_with_scikit_image_and_with_a_ray(name: str, scale: float) -> None:
    polygon = np.array(SHAPES[name]) * scale
    points = np.random.default_rng(1).random((3000, 2)) * scale
    inside = in_polygon(points, polygon[:, 0], polygon[:, 1])
    assert inside.dtype == bool
    assert 0 < inside.sum() < len(points)
    assert (inside == points_in_poly(points, polygon)).all()
    assert inside[:400].tolist() == [by_ray(point, polygon) for point in points[:400]]
    backwards = polygon[::-1]
    assert (inside == in_polygon(points, backwards[:, 0], backwards[:, 1])).all()


def test_vertices_level_with_points_are_counted_once() -> None:
    # A ray through a vertex meets two edges; a grid puts most points level with one.
    diamond = np.array([(2, 0), (4, 2), (2, 4), (0, 2)], float)
    grid = np.array([(x, y) for x in range(-1, 6) for y in range(-1, 6)], np.float32)
    inside = {tuple(point) for point in grid[in_polygon(grid, diamond[:, 0], diamond[:, 1])].tolist()}
    strictly = {(x, y) for x, y in grid.tolist() if abs(x - 2) + abs(y - 2) < 2}
    border = {(x, y) for x, y in grid.tolist() if abs(x - 2) + abs(y - 2) == 2}
    assert strictly <= inside <= strictly | border


def test_neighbouring_lassos_share_no_point_of_their_border() -> None:
    grid = np.array([(x, y) for x in range(9) for y in range(9)], np.float32)
    left = in_polygon(grid, [0, 4, 4, 0], [0, 0, 8, 8])
    right = in_polygon(grid, [4, 8, 8, 4], [0, 0, 8, 8])
    assert not (left & right).any()


def test_a_crossed_lasso_leaves_out_what_it_goes_around_twice() -> None:
    star = np.array(SHAPES["star"])
    assert in_polygon(np.array([[0.5, 0.5]]), star[:, 0], star[:, 1]).tolist() == [False]
    assert in_polygon(np.array([[0.5, 0.9]]), star[:, 0], star[:, 1]).tolist() == [True]


def test_lassos_that_hold_nothing() -> None:
    points = np.random.default_rng(2).random((50, 2)).astype(np.float32)
    assert not in_polygon(points, [], []).any()
    assert not in_polygon(points, [0, 1], [0, 1]).any()
    assert not in_polygon(points, [0, 1, 0.5], [0.5, 0.5, 0.5]).any()
    assert in_polygon(np.empty((0, 2)), [0, 1, 1], [0, 0, 1]).shape == (0,)


def test_float32_points_of_a_map_are_tested_in_float64() -> None:
    points = np.array([[0.1, 0.5], [0.3, 0.5]], np.float32)
    edge = float(np.float32(0.1)) + 1e-12
    assert in_polygon(points, [edge, 1, 1, edge], [0, 0, 1, 1]).tolist() == [False, True]


def test_a_box_takes_its_corners_in_any_order_and_its_border() -> None:
    points = np.array([[0, 0], [1, 1], [2, 2], [1, 3], [0.5, 1.5]], np.float32)
    expected = [True, True, True, False, True]
    for x in ((0, 2), (2, 0)):
        for y in ((0, 2), (2, 0)):
            assert in_box(points, x, y).tolist() == expected
    generator = np.random.default_rng(4)
    many = generator.random((500, 2))
    low, high = np.array([0.2, 0.3]), np.array([0.7, 0.6])
    loop = [bool(low[0] <= x <= high[0] and low[1] <= y <= high[1]) for x, y in many]
    assert in_box(many, (0.7, 0.2), (0.3, 0.6)).tolist() == loop
