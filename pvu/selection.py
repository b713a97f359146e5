"""Which images a drawn box or lasso holds, tested against all points, whatever number of them was drawn."""

from __future__ import annotations

import numpy as np


def in_box(coords: np.ndarray, x: tuple[float, float], y: tuple[float, float]) -> np.ndarray:
    """(N,) bool: which of (N, 2) points lie in a box, given by two opposite corners' x and y in any order."""
    low = np.array([min(x), min(y)])
    high = np.array([max(x), max(y)])
    return np.asarray(((coords >= low) & (coords <= high)).all(axis=1))


def in_polygon(coords: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points lie in a polygon, by the even-odd rule.

    Args:
        coords: (N, 2) float.
        x: (V,) float, the vertices' x; the last joins the first.
        y: (V,) float.

    Returns:
        (N,) bool. All False for fewer than three vertices.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    inside = np.zeros(len(coords), bool)
    if len(x) < 3:
        return inside
    # Only points in the polygon's box can be in it: most of a map is skipped.
    near = np.flatnonzero(in_box(coords, (x.min(), x.max()), (y.min(), y.max())))
    px, py = coords[near, 0].astype(np.float64), coords[near, 1].astype(np.float64)
    crossings = np.zeros(len(near), bool)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        if y0 == y1:
            continue
        spans = (y0 > py) != (y1 > py)
        crossings ^= spans & (px < (x1 - x0) * (py - y0) / (y1 - y0) + x0)
    inside[near] = crossings
    return inside
