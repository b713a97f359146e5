"""The report: one file that needs nothing else, shows what it claims, and trusts no string."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pvu.errors import PVUError
from pvu.pipeline import embed
from pvu.progress import Progress
from pvu.report import EXAMPLES, KEEP, RESULTS, choose_query, report_html, write_report
from pvu.review import review
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from tests.fakes import FakeEncoder, write_pictures

pytestmark = pytest.mark.usefixtures("quick_map")
NASTY = "<script>alert(1)</script>"


def dataset_of(folder: Path, labels: tuple[str, ...] = ("cat", "dog"), *, has_head: bool = True) -> EmbeddedDataset:
    write_pictures(folder, [f"{label}/{number}.png" for label in labels for number in range(12)])
    (folder / "broken.png").write_bytes(b"not a picture")
    return embed(folder, model=FakeEncoder(has_head=has_head), workers=0)


def test_one_file_with_everything_in_it(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "pets")
    page = write_report(dataset, tmp_path / "report.html").read_text()
    assert "<b>24</b>images" in page
    assert "<b>2</b>labels" in page
    assert "<b>1</b>files left out" in page
    assert "broken.png: " in page
    assert page.count('class="plotly-graph-div"') == 4  # map, histogram, and with labels two curves
    sources = re.findall(r'<(?:img|script|link|iframe)[^>]*\b(?:src|href)="([^"]{0,40})', page)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert list(tmp_path.glob("*.partial")) == []


def test_plotly_comes_once(tmp_path: Path) -> None:
    page = write_report(dataset_of(tmp_path / "pets"), tmp_path / "report.html").read_text()
    assert 4e6 < len(page) < 7e6


def test_names_and_labels_are_text_never_markup(tmp_path: Path) -> None:
    # "/" cannot be in a folder's name, so the closing tag comes from the table.
    folder = tmp_path / "<b>pets & co"
    write_pictures(folder, [f"<i>{number}.png" for number in range(8)])
    rows = "".join(f'<i>{number}.png,"{NASTY if number % 2 else "plain"}"\n' for number in range(8))
    (folder / "labels.csv").write_text("path,label\n" + rows)
    (folder / "<u>broken.png").write_bytes(b"no picture")
    dataset = embed(folder, model=FakeEncoder(), workers=0)
    page = write_report(dataset, tmp_path / "report.html").read_text()
    assert dataset.has_labels
    for markup in (NASTY, "<b>pets", "<i>0.png", "<u>broken"):
        assert markup not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;pets &amp; co" in page


def test_the_two_columns_differ_where_the_filter_changes_something(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "pets")
    query = choose_query(dataset)
    assert query is not None
    everything = dataset.search(query, RESULTS)["row"].tolist()
    filtered = dataset.search(query, RESULTS, max_uncertainty=dataset.threshold(KEEP))["row"].tolist()
    assert set(everything) != set(filtered)
    page = write_report(dataset, tmp_path / "report.html").read_text()
    assert page.count("hidden on the right") == len(set(everything) - set(filtered))
    assert page.count("moved up") == len(set(filtered) - set(everything))


def test_the_query_is_among_the_certain_and_gains_most(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "pets", ("ant", "bee", "cat", "dog"))
    dataset.uncertainty = np.random.default_rng(0).random(len(dataset)).astype(np.float32)  # spread over all labels

    def gain(row: int) -> int:
        limit = dataset.threshold(KEEP)
        before, after = dataset.search(row, RESULTS), dataset.search(row, RESULTS, max_uncertainty=limit)
        return int((after["label"] == dataset.labels[row]).sum() - (before["label"] == dataset.labels[row]).sum())

    def changed(row: int) -> bool:
        return bool((dataset.search(row, RESULTS)["uncertainty"] > dataset.threshold(KEEP)).any())

    certain = [row for row in np.flatnonzero(dataset.uncertainty <= dataset.threshold(KEEP)) if changed(int(row))]
    chosen = choose_query(dataset)
    assert chosen in certain
    assert chosen is not None
    assert gain(chosen) == max(gain(int(row)) for row in certain)


def test_no_query_where_nothing_is_hidden(tmp_path: Path) -> None:
    write_pictures(tmp_path / "one", ["a.png"])
    dataset = embed(tmp_path / "one", model=FakeEncoder(), workers=0)
    assert choose_query(dataset) is None
    assert "No search of this data set is changed" in write_report(dataset, tmp_path / "report.html").read_text()


def test_without_a_head_the_page_says_so(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "pets", has_head=False)
    page = write_report(dataset, tmp_path / "report.html").read_text()
    assert "fake has no uncertainty head" in page
    assert "The two ends" not in page


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "pets")
    with pytest.raises(PVUError, match="cannot be written: No such file or directory"):
        write_report(dataset, tmp_path / "nowhere" / "report.html")


def test_nothing_says_where_the_originals_lie_unless_asked(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "pets")
    page = report_html(dataset)
    assert str(tmp_path) not in page
    assert "cat/0.png" in page
    assert f"The originals: {dataset.source}." in report_html(dataset, full_paths=True)


def test_review_lists_and_tags_with_their_counts_and_examples(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "pets")
    page = report_html(dataset)
    lists = review(dataset).lists
    for name, title in (("ambiguous", "Ambiguous"), ("duplicates", "Duplicates"), ("outliers", "Outliers")):
        count = len(lists[name].rows)
        assert f"<h3>{title}: {count:,} image{'' if count == 1 else 's'}</h3>" in page
    assert "What was decided" not in page
    tags = Tags.of(dataset)
    tags.set(range(EXAMPLES + 3), "drop")
    tags.set(20, "fix label", NASTY)
    tagged = report_html(dataset)
    assert f"<h3>Drop: {EXAMPLES + 3} images</h3>" in tagged
    assert "<h3>Fix label: 1 image</h3>" in tagged
    assert "new label: &lt;script&gt;alert(1)&lt;/script&gt;" in tagged
    assert NASTY not in tagged
    assert tagged.count("<img") == page.count("<img") + EXAMPLES + 1


def test_a_large_data_set_makes_no_large_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_of(tmp_path / "pets")
    whole = report_html(dataset)
    hover = '"cat\\u003cbr\\u003eat least as uncertain'  # a text a point, as Plotly writes it
    assert hover in whole
    monkeypatch.setattr("pvu.report.DRAWN_LIMIT", 10)
    monkeypatch.setattr("pvu.report.MAP_LIMIT", 5)
    page = report_html(dataset)
    assert "Drawn are 10 of 24 images, evenly." in page
    assert hover not in page
    assert page.count("<img") == whole.count("<img") < 150


def test_every_part_is_announced(tmp_path: Path) -> None:
    seen: list[Progress] = []
    report_html(dataset_of(tmp_path / "pets"), progress=seen.append)
    assert [(step.phase, step.done, step.total) for step in seen] == [("report", done, 7) for done in range(7)]


def test_without_labels_there_are_no_curves(tmp_path: Path) -> None:
    write_pictures(tmp_path / "loose", [f"{number}.png" for number in range(12)])
    page = report_html(embed(tmp_path / "loose", model=FakeEncoder(), workers=0))
    assert "What the labels say" not in page
    assert page.count('class="plotly-graph-div"') == 2
