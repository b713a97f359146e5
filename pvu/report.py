"""One HTML page about a data set to send to a colleague: no server, no network, no other files.

It holds thumbnails and paths within the folder, never the originals, nor where they lie unless that is asked for.
However large the data set, the page stays below some 20 MB: galleries show a fixed number of images, the map a sample.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from pvu import __version__, analysis
from pvu.coloring import DRAWN_LIMIT, map_rows
from pvu.errors import PVUError
from pvu.figures import MAP_LIMIT, kept_figure, risk_coverage_figure, umap_map, uncertainty_histogram
from pvu.html import block, facts, figure, gallery, image, page, section
from pvu.progress import Progress, ProgressCallback, counted
from pvu.review import review
from pvu.store import EmbeddedDataset
from pvu.tags import FIX, TAGS, Tags

CERTAIN = 12
"""Images in the gallery of the most certain."""
UNCERTAIN = 36
"""Images in the gallery of the most uncertain: these are what a colleague is to look at."""
EXAMPLES = 8
"""Images of each review list and of each tag."""
RESULTS = 6
KEEP = 0.9
"""The share of the gallery that the filtered retrieval searches."""
_LISTED_FAILURES = 50
_LISTS = {
    "ambiguous": "Ambiguous",
    "mislabelled": "Likely mislabelled",
    "duplicates": "Duplicates",
    "outliers": "Outliers",
}


def write_report(
    dataset: EmbeddedDataset,
    path: str | os.PathLike[str],
    *,
    full_paths: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """Write the page of :func:`report_html` to a file.

    Args:
        path: the .html file. It is complete or not there at all, whatever happens.

    Returns:
        The file's absolute path.

    Raises:
        PVUError: if the file cannot be written.
    """
    target = Path(path).expanduser().resolve()
    text = report_html(dataset, full_paths=full_paths, progress=progress)
    partial = target.with_name(target.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise PVUError(f"The report {target} cannot be written: {error.strerror or error}.") from error
    return target


def report_html(dataset: EmbeddedDataset, *, full_paths: bool = False, progress: ProgressCallback | None = None) -> str:
    """The page: counts, the map, the most certain and most uncertain images, what labels say of the uncertainty, the
    review lists, the tags, and one search with and without the filter.

    Args:
        dataset: any; without uncertainties or labels the page leaves out what needs them.
        full_paths: say where the originals lie.
        progress: gets a Progress of the phase "report" before every part; some seconds for 50,000 images.
    """
    parts: list[Callable[[EmbeddedDataset], str]] = [lambda each: _header(each, full_paths=full_paths), _map]
    parts += [_extremes] if dataset.has_uncertainty else []
    parts += [_evaluation] if analysis.why_not(dataset) is None else []
    parts += [_review, _tags]
    parts += [_retrieval] if dataset.has_uncertainty else []
    written = []
    for number, part in enumerate(parts):
        if progress is not None:
            progress(Progress("report", number, len(parts), unit="parts"))
        written.append(part(dataset))
    footer = (
        f"<footer>Made with pvu {__version__}. The images in this page are thumbnails; the originals stay where they "
        "are.</footer>"
    )
    return page(f"{dataset.name}: which images are uncertain", "\n".join([*written, footer]))


def _header(dataset: EmbeddedDataset, *, full_paths: bool) -> str:
    labels = len({label for label in dataset.labels if label is not None})
    counts = [("images", len(dataset)), ("labels", labels), ("files left out", len(dataset.failed))]
    listed = "".join(f"<li><b>{count:,}</b>{name}</li>" for name, count in counts)
    where = f" The originals: {escape(str(dataset.source))}." if full_paths else ""
    return (
        f'<header><h1>{escape(dataset.name)}</h1><p class="soft">Embedded with {escape(dataset.manifest["model"])} on '
        f'{escape(dataset.manifest["created"][:10])}.{where}</p><ul class="counts">{listed}</ul>{_failures(dataset)}'
        "</header>"
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
    drawn = map_rows(len(dataset), DRAWN_LIMIT)
    chart = umap_map(dataset, rows=drawn)
    if len(drawn) > MAP_LIMIT:  # a text a point would be most of the page
        chart.data[0].text = None
        chart.data[0].hovertemplate = "at least as uncertain as %{marker.color:.0f} %<extra></extra>"
        chart.data[0].hoverinfo = None if dataset.has_uncertainty else "skip"
    sample = f" Drawn are {len(drawn):,} of {len(dataset):,} images, evenly." if len(drawn) < len(dataset) else ""
    if not dataset.has_uncertainty:
        model = escape(dataset.manifest["model"])
        text = f"Images that look alike lie together. {model} has no uncertainty head, so no uncertainties are shown."
        return section("The map", text + sample, figure(chart, first=True))
    text = (
        "Images that look alike lie together. The colour is the uncertainty: how hard it is to tell what the image "
        "shows. Blurred, dark, cropped, covered and ambiguous pictures are uncertain. It does not say that a picture "
        "is unfamiliar: a clear photograph of something new can be certain."
    )
    spread = f"<h3>How uncertainty is spread</h3>{figure(uncertainty_histogram(dataset))}"
    return section("The map", text + sample, figure(chart, first=True) + spread)


def _extremes(dataset: EmbeddedDataset) -> str:
    order = np.argsort(dataset.uncertainty, kind="stable")
    content = block("The most uncertain", "", gallery(dataset, order[::-1][:UNCERTAIN]))
    content += block("The most certain", "", gallery(dataset, order[:CERTAIN]))
    text = "Under each image its label, and the share of this data set that is at most as uncertain."
    return section("The two ends", text, f'<div class="stack">{content}</div>')


def _evaluation(dataset: EmbeddedDataset) -> str:
    result = analysis.evaluate(dataset)
    parts: tuple[analysis.Part, ...] = ("gallery", "queries", "both")
    recalls: dict[str, np.ndarray] = {part: analysis.recall_by_kept(dataset, part) for part in parts}
    numbers = facts(
        [
            ("Images whose most similar image has their label (Recall@1)", _number(result.recall_at_1)),
            ("How well the uncertainty tells right from wrong (R-AUROC; 0.5 knows nothing)", _number(result.r_auroc)),
            ("The same for the similarity to the most similar image", _number(result.similarity_r_auroc)),
        ]
    )
    risk = block("Wrong answers by the share answered", "", figure(risk_coverage_figure(result)))
    kept = block("Right answers by the share kept", "", figure(kept_figure(np.array(analysis.KEEPS), recalls)))
    text = (
        f"Each of {result.images:,} images with one of {result.labels:,} labels is a query: does its most similar "
        "other image have its label? A good uncertainty is high where the answer is wrong."
    )
    return section("What the labels say", text, f'{numbers}<div class="sides">{risk}{kept}</div>')


def _number(value: float) -> str:
    return "not defined, all answers are right" if math.isnan(value) else f"{value:.3f}"


def _review(dataset: EmbeddedDataset) -> str:
    blocks = []
    for name, found in review(dataset).lists.items():
        title = f"{_LISTS.get(name, escape(name))}: {counted(len(found.rows), 'image')}"
        text = found.missing or found.sentence
        if name == "ambiguous":  # the two ends have shown them
            blocks.append(block(title, escape(text), ""))
        else:
            blocks.append(block(title, escape(text), gallery(dataset, found.rows[:EXAMPLES], found.text)))
    text = f"Four reasons to look again. The first {EXAMPLES} of each list, with why they are on it."
    return section("To review", text, f'<div class="stack">{"".join(blocks)}</div>')


def _tags(dataset: EmbeddedDataset) -> str:
    values = Tags.of(dataset).values
    blocks = []
    for tag in TAGS:
        rows = np.flatnonzero(values.tag == tag)
        if len(rows) == 0:
            continue
        labels = values.label[rows]
        notes = [f"new label: {label}" if tag == FIX else "" for label in labels[:EXAMPLES]]
        examples = gallery(dataset, rows[:EXAMPLES], notes.__getitem__)
        blocks.append(block(f"{tag.capitalize()}: {counted(len(rows), 'image')}", "", examples))
    if not blocks:
        return ""
    return section("Tags", "What was decided about images.", f'<div class="stack">{"".join(blocks)}</div>')


def _retrieval(dataset: EmbeddedDataset) -> str:
    query = choose_query(dataset)
    if query is None:
        return section("A search", "No search of this data set is changed by hiding its most uncertain images.", "")
    everything = dataset.search(query, RESULTS)
    filtered = dataset.search(query, RESULTS, max_uncertainty=dataset.threshold(KEEP))
    hidden = f"{100 * (1 - KEEP):.0f} %"
    left = _results(dataset, everything, set(filtered["row"]), "gone", "hidden on the right")
    right = _results(dataset, filtered, set(everything["row"]), "new", "moved up")
    label = dataset.labels[query]
    asked = f"<b>{escape(str(label))}</b>. " if label is not None else ""
    content = (
        f'<div class="query">{image(dataset, query, "")}<p>The query: {asked}More certain than '
        f"{100 - dataset.percentiles[query]:.0f} % of the data set.</p></div>"
        f'<div class="sides"><div><h3>All images{_precision(dataset, query, everything)}</h3>{left}</div>'
        f"<div><h3>Without the most uncertain {hidden}{_precision(dataset, query, filtered)}</h3>{right}</div></div>"
    )
    text = (
        f"The {RESULTS} images most similar to a query, among all images and without the most uncertain {hidden}. "
        "The query was picked because the filter makes the largest difference for it; for most it changes less."
    )
    return section("A search, with and without the uncertain images", text, content)


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
    codes, _ = pd.factorize(dataset.labels)  # -1 for none
    right = (codes >= 0)[:, None] & (codes[neighbors] == codes[:, None])
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
        images.append(image(dataset, result.row, note, name if missing else ""))
    return f'<div class="gallery">{"".join(images)}</div>'
