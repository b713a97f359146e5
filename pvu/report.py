"""One HTML page about a data set that opens anywhere: no server, no network, no other files."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pvu import __version__
from pvu.errors import PVUError
from pvu.figures import umap_map, uncertainty_histogram
from pvu.store import EmbeddedDataset

SHOWN = 12
"""Images in the galleries of the most certain and the most uncertain."""
RESULTS = 6
KEEP = 0.9
"""The share of the gallery that the filtered retrieval searches."""
_LISTED_FAILURES = 50

_STYLE = """
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
@media (max-width: 720px) { .sides { grid-template-columns: 1fr; } main { padding: 24px 12px; } }
"""


def write_report(dataset: EmbeddedDataset, path: str | os.PathLike[str]) -> Path:
    """Write the page: the map, the most certain and most uncertain images, and one search with and without the filter.

    Args:
        dataset: any; without uncertainties the page shows the map alone and says what is missing.
        path: the .html file. It is complete or not there at all, whatever happens.

    Returns:
        The file's absolute path.

    Raises:
        PVUError: if the file cannot be written.
    """
    target = Path(path).expanduser().resolve()
    sections = [_header(dataset), _map(dataset)]
    if dataset.has_uncertainty:
        sections += [_extremes(dataset), _retrieval(dataset)]
    body = "\n".join(sections)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(dataset.name)}: which images are uncertain</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n<footer>Made with pvu {__version__}. The images in this page are thumbnails; "
        "the originals stay where they are.</footer>\n</main>\n</body>\n</html>\n"
    )
    partial = target.with_name(target.name + ".partial")
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise PVUError(f"The report {target} cannot be written: {error.strerror or error}.") from error
    return target


def _header(dataset: EmbeddedDataset) -> str:
    labels = len({label for label in dataset.labels if label is not None})
    counts = [("images", len(dataset)), ("labels", labels), ("files left out", len(dataset.failed))]
    listed = "".join(f"<li><b>{count:,}</b>{name}</li>" for name, count in counts)
    return (
        f'<header><h1>{escape(dataset.name)}</h1><p class="soft">Embedded with {escape(dataset.manifest["model"])} on '
        f'{escape(dataset.manifest["created"][:10])}.</p><ul class="counts">{listed}</ul>{_failures(dataset)}</header>'
    )


def _failures(dataset: EmbeddedDataset) -> str:
    if dataset.failed.empty:
        return ""
    shown = dataset.failed.head(_LISTED_FAILURES)
    rows = "".join(f"<li>{escape(row.path)}: {escape(row.error)}</li>" for row in shown.itertuples())
    rest = len(dataset.failed) - len(shown)
    more = f"<li>and {rest:,} more</li>" if rest else ""
    return f"<details><summary>What was left out, and why</summary><ul>{rows}{more}</ul></details>"


def _map(dataset: EmbeddedDataset) -> str:
    if not dataset.has_uncertainty:
        model = escape(dataset.manifest["model"])
        text = f"Images that look alike lie together. {model} has no uncertainty head, so no uncertainties are shown."
        return _section("The map", text, _figure(umap_map(dataset), first=True))
    text = (
        "Images that look alike lie together. The colour is the uncertainty: how hard it is to tell what the image "
        "shows. Blurred, dark, cropped, covered and ambiguous pictures are uncertain. It does not say that a picture "
        "is unfamiliar: a clear photograph of something new can be certain."
    )
    spread = f"<h3>How uncertainty is spread</h3>{_figure(uncertainty_histogram(dataset))}"
    return _section("The map", text, _figure(umap_map(dataset), first=True) + spread)


def _figure(figure: go.Figure, *, first: bool = False) -> str:
    """The figure's HTML; the first one on the page brings plotly.js for all."""
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=first,
        default_width="100%",
        config={"displaylogo": False, "responsive": True, "displayModeBar": first},
    )
    return html


def _extremes(dataset: EmbeddedDataset) -> str:
    order = np.argsort(dataset.uncertainty, kind="stable")
    sides = [("The most certain", order[:SHOWN]), ("The most uncertain", order[::-1][:SHOWN])]
    columns = [f"<div><h3>{title}</h3>{_gallery(dataset, rows)}</div>" for title, rows in sides]
    text = "Under each image its label, and the share of this data set that is at most as uncertain."
    return _section("The two ends", text, f'<div class="sides">{"".join(columns)}</div>')


def _retrieval(dataset: EmbeddedDataset) -> str:
    query = choose_query(dataset)
    if query is None:
        return _section("A search", "No search of this data set is changed by hiding its most uncertain images.", "")
    everything = dataset.search(query, RESULTS)
    filtered = dataset.search(query, RESULTS, max_uncertainty=dataset.threshold(KEEP))
    hidden = f"{100 * (1 - KEEP):.0f} %"
    left = _results(dataset, everything, set(filtered["row"]), "gone", "hidden on the right")
    right = _results(dataset, filtered, set(everything["row"]), "new", "moved up")
    label = dataset.labels[query]
    asked = f"<b>{escape(str(label))}</b>. " if label is not None else ""
    content = (
        f'<div class="query">{_image(dataset, query, "")}<p>The query: {asked}More certain than '
        f"{100 - dataset.percentiles[query]:.0f} % of the data set.</p></div>"
        f'<div class="sides"><div><h3>All images{_precision(dataset, query, everything)}</h3>{left}</div>'
        f"<div><h3>Without the most uncertain {hidden}{_precision(dataset, query, filtered)}</h3>{right}</div></div>"
    )
    text = (
        f"The {RESULTS} images most similar to a query, among all images and without the most uncertain {hidden}. "
        "The query was picked because the filter makes the largest difference for it; for most it changes less."
    )
    return _section("A search, with and without the uncertain images", text, content)


def choose_query(dataset: EmbeddedDataset) -> int | None:
    """A query whose results the filter changes: where it gains most right results, then where it changes most.

    Args:
        dataset: with uncertainties.

    Returns:
        A row, one that itself passes the filter if possible; None if the filter changes no row's results.
    """
    neighbors = dataset.neighbors
    if neighbors.shape[1] == 0:
        return None
    certain = dataset.uncertainty <= dataset.threshold(KEEP)
    passes = certain[neighbors]
    labelled = np.array([label is not None for label in dataset.labels])
    right = labelled[:, None] & (dataset.labels[neighbors] == dataset.labels[:, None])
    # The graph holds more neighbours than are shown, so the first that pass are what a filtered search finds.
    filtered = passes & (passes.cumsum(axis=1) <= RESULTS)
    gain = (filtered & right).sum(axis=1) - right[:, :RESULTS].sum(axis=1)
    hidden = (~passes[:, :RESULTS]).sum(axis=1)
    changed = np.flatnonzero(hidden > 0)
    if len(changed) == 0:
        return None
    order = np.lexsort((dataset.uncertainty[changed], -hidden[changed], -gain[changed], ~certain[changed]))
    return int(changed[order[0]])


def _precision(dataset: EmbeddedDataset, query: int, results: pd.DataFrame) -> str:
    label = dataset.labels[query]
    if label is None or results.empty:
        return ""
    return f": {sum(results['label'] == label)} of {len(results)} have its label"


def _results(dataset: EmbeddedDataset, results: pd.DataFrame, others: set[int], name: str, mark: str) -> str:
    """A gallery in which the results that the other side lacks are marked."""
    images = []
    for result in results.itertuples():
        missing = result.row not in others
        note = f"similarity {result.similarity:.2f}"
        if missing:
            note += f'<br><span class="mark">{mark}</span>'
        images.append(_image(dataset, result.row, note, name if missing else ""))
    return f'<div class="gallery">{"".join(images)}</div>'


def _gallery(dataset: EmbeddedDataset, rows: Sequence[int] | np.ndarray) -> str:
    return f'<div class="gallery">{"".join(_image(dataset, int(row), "") for row in rows)}</div>'


def _image(dataset: EmbeddedDataset, row: int, note: str, css_class: str = "") -> str:
    """One image with its label and percentile. ``note`` is HTML already, everything else is escaped here."""
    data = base64.b64encode(dataset.thumbnail(row)).decode()
    path = escape(str(dataset.images["path"].iloc[row]))
    label = dataset.labels[row]
    lines = [
        "" if label is None else f"<b>{escape(str(label))}</b>",
        f"uncertainty {dataset.percentiles[row]:.0f}&nbsp;%",
    ]
    caption = "".join([*lines, f"<br>{note}" if note else ""])
    return (
        f'<figure class="{css_class}" title="{path}"><img src="data:image/jpeg;base64,{data}" alt="{path}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _section(title: str, text: str, content: str) -> str:
    return f'<section><h2>{title}</h2><p class="soft">{text}</p>{content}</section>'
