"""Line charts as SVG text: small enough to lie beside RESULTS.md, and drawn by any browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT, MARGIN = 420, 260, 46
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # Okabe and Ito: told apart by colour-blind readers


def line_charts(panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], *, x_title: str) -> str:
    """Panels side by side; every line is the mean of its runs, in a band from the lowest to the highest.

    Args:
        panels: by title of the y axis and name of the line: runs (R, X) of equal length, finite.
        x_title: of the x axes, which count from 1.

    Returns:
        An SVG document.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    colour = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    width = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 24}" width="{width}" '
        f'height="{HEIGHT + 24}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{HEIGHT + 24}" fill="white"/>',
    ]
    for index, (title, lines) in enumerate(panels.items()):
        runs = {name: np.asarray(values, np.float64) for name, values in lines.items()}
        parts.append(f'<g transform="translate({index * WIDTH} 0)">{_panel(title, x_title, runs, colour)}</g>')
    for index, name in enumerate(names):
        x = MARGIN + 140 * index
        parts.append(f'<rect x="{x}" y="{HEIGHT + 5}" width="12" height="12" fill="{colour[name]}"/>')
        parts.append(f'<text x="{x + 17}" y="{HEIGHT + 15}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(title: str, x_title: str, lines: Mapping[str, np.ndarray], colour: Mapping[str, str]) -> str:
    everything = np.concatenate([runs.ravel() for runs in lines.values()])
    low, high = float(everything.min()), float(everything.max())
    span = high - low or 1.0
    steps = max(runs.shape[1] for runs in lines.values())

    def points(values: np.ndarray) -> list[str]:
        x = MARGIN + np.arange(len(values)) / max(steps - 1, 1) * (WIDTH - 1.5 * MARGIN)
        y = HEIGHT - MARGIN - (values - low) / span * (HEIGHT - 1.7 * MARGIN)
        return [f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)]

    bottom, right = HEIGHT - MARGIN, WIDTH - MARGIN / 2
    parts = [f'<path d="M{MARGIN} {MARGIN * 0.6}V{bottom}H{right}" fill="none" stroke="#888"/>']
    for value in (low, low + span / 2, low + span):
        y = bottom - (value - low) / span * (HEIGHT - 1.7 * MARGIN)
        parts.append(f'<text x="{MARGIN - 5}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for step in (1, steps):
        x = MARGIN + (step - 1) / max(steps - 1, 1) * (WIDTH - 1.5 * MARGIN)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{step}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{bottom + 32}" text-anchor="middle">{escape(x_title)}</text>')
    parts.append(f'<text x="{MARGIN}" y="16" font-weight="bold">{escape(title)}</text>')
    for name, runs in lines.items():
        band = points(runs.max(axis=0)) + points(runs.min(axis=0))[::-1]
        parts.append(f'<polygon points="{" ".join(band)}" fill="{colour[name]}" fill-opacity="0.15"/>')
        mean = " ".join(points(runs.mean(axis=0)))
        parts.append(f'<polyline points="{mean}" fill="none" stroke="{colour[name]}" stroke-width="2"/>')
    return "".join(parts)
