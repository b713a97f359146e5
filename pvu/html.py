"""Pieces of a page that stands alone: its style, sections, and images as thumbnails inside it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
import plotly.colors
import plotly.graph_objects as go

from pvu.coloring import SCALE
from pvu.store import EmbeddedDataset

_SCALE = plotly.colors.get_colorscale(SCALE.lower())
STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5a6575; --line: #dce1e8; --ground: #f3f5f8; --accent: #2c5282;
        --gone: #b3261e; --new: #2f7d32; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 4px; }
h3 { font-size: 1rem; margin: 0 0 12px; }
p { margin: 0 0 16px; max-width: 72ch; }
.soft { color: var(--soft); }
section { background: white; border: 1px solid var(--line); border-radius: 10px; padding: 24px; margin-top: 24px; }
.counts { display: flex; flex-wrap: wrap; gap: 12px 40px; margin: 20px 0 0; padding: 0; list-style: none; }
.counts b { display: block; font-size: 1.6rem; line-height: 1.2; font-weight: 650; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 32px; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 12px; }
figure { margin: 0; min-width: 0; }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--ground); border-radius: 6px;
             border: 1px solid var(--line); display: block; }
figcaption { font-size: .78rem; line-height: 1.35; margin-top: 4px; color: var(--soft); overflow-wrap: anywhere; }
figcaption b { color: var(--ink); font-weight: 600; display: block; }
.gone img { outline: 3px solid var(--gone); outline-offset: -1px; }
.new img { outline: 3px solid var(--new); outline-offset: -1px; }
.gone .mark { color: var(--gone); font-weight: 600; } .new .mark { color: var(--new); font-weight: 600; }
.query { display: grid; grid-template-columns: 132px 1fr; gap: 20px; align-items: center; margin: 16px 0 24px; }
.query p { margin: 0; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--accent); }
li { overflow-wrap: anywhere; }
footer { margin-top: 32px; font-size: .85rem; color: var(--soft); }
h3 + .soft { margin-top: -8px; } .stack > div + div { margin-top: 28px; }
.facts { border-collapse: collapse; margin: 0 0 20px; font-variant-numeric: tabular-nums; }
.facts td { padding: 4px 24px 4px 0; border-bottom: 1px solid var(--line); } .facts td + td { font-weight: 600; }
.bar { height: 4px; border-radius: 2px; background: var(--line); margin: 4px 0; }
.bar i { display: block; height: 100%; border-radius: 2px; border: 1px solid rgb(0 0 0 / 12%); }
@media (max-width: 720px) { .sides { grid-template-columns: 1fr; } main { padding: 24px 12px; } }
"""


def page(title: str, body: str) -> str:
    """A whole HTML page. ``body`` is HTML already, the title is escaped here."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, text: str, content: str) -> str:
    """A part of the page under a heading. All three are HTML already."""
    return f'<section><h2>{title}</h2><p class="soft">{text}</p>{content}</section>'


def block(title: str, text: str, content: str) -> str:
    """A part of a section. All three are HTML already."""
    soft = f'<p class="soft">{text}</p>' if text else ""
    return f"<div><h3>{title}</h3>{soft}{content}</div>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A small table of names and values, escaped here."""
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="facts">{body}</table>'


def figure(drawn: go.Figure, *, first: bool = False) -> str:
    """A Plotly figure; the first one on the page brings plotly.js for all."""
    html: str = drawn.to_html(
        full_html=False,
        include_plotlyjs=first,
        default_width="100%",
        config={"displaylogo": False, "responsive": True, "displayModeBar": first},
    )
    return html


def gallery(
    dataset: EmbeddedDataset, rows: Sequence[int] | np.ndarray, note: Callable[[int], str] | None = None
) -> str:
    """Images side by side; ``note`` takes a place in ``rows`` and gives text, escaped here."""
    notes = ("" if note is None else escape(note(place)) for place in range(len(rows)))
    images = (image(dataset, int(row), text) for row, text in zip(rows, notes, strict=True))
    return f'<div class="gallery">{"".join(images)}</div>'


def image(dataset: EmbeddedDataset, row: int, note: str = "", css_class: str = "") -> str:
    """One image with its label, and its percentile as a bar. ``note`` is HTML already, the rest is escaped here."""
    data = base64.b64encode(dataset.thumbnail(row)).decode()
    path = escape(str(dataset.images["path"].iloc[row]))
    label = dataset.labels[row]
    lines = "" if label is None else f"<b>{escape(str(label))}</b>"
    if dataset.has_uncertainty:
        percentile = float(dataset.percentiles[row])
        color = plotly.colors.sample_colorscale(_SCALE, [percentile / 100])[0]
        lines += (
            f"uncertainty {percentile:.0f}&nbsp;%"
            f'<div class="bar"><i style="width:{percentile:.0f}%;background:{color}"></i></div>'
        )
    return (
        f'<figure class="{css_class}" title="{path}"><img src="data:image/jpeg;base64,{data}" '
        f'alt="{path}"><figcaption>{lines}{note}</figcaption></figure>'
    )
