"""Reviewing in a real browser: tags by key, quickly one after the other, undone, and still there after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from pvu.tags import DROP, KEEP, TAGS, UNSURE, Tags
from tests.browser.conftest import Server, Tab, serve
from tests.fakes import FakeEncoder, write_pictures


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedDataset]:
    """Three labels of 40 alike pictures each, with two of them under another label; its home is the server's."""
    base = tmp_path_factory.mktemp("review")
    folder = base / "pictures" / "pets"
    names = [f"{label}/{number:02d}.png" for label in ("cat", "dog", "owl") for number in range(40)]
    write_pictures(folder, names)
    wrong = {"cat/05.png": "dog", "owl/07.png": "cat"}
    rows = "".join(f"{name},{wrong.get(name, name[:3])}\n" for name in names)
    (folder / "labels.csv").write_text("path,label\n" + rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVU_HOME", str(base / "home"))
        patch.setattr("pvu.assemble.project", lambda embeddings, *_: embeddings[:, :2].astype("float32"))
        yield embed(folder, model=FakeEncoder(), workers=0)


@pytest.fixture(scope="module")
def reviewing(dataset: EmbeddedDataset) -> Iterator[Server]:
    """An app of its own, with the data set."""
    with serve(dataset.path.parents[1], dataset.source.parent) as running:
        yield running


@pytest.fixture(autouse=True)
def pvu_home(dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tests read the server's tags."""
    monkeypatch.setenv("PVU_HOME", str(dataset.path.parents[1]))
    return dataset.path.parents[1]


@pytest.fixture
def tags(dataset: EmbeddedDataset) -> Tags:
    """The tags as they are on the disk; none at first."""
    found = Tags.of(dataset)
    while found.undo():
        pass
    return found


def open_review(tab: Tab, dataset: EmbeddedDataset, title: str) -> list[int]:
    """Open a list; returns the rows of its gallery."""
    tab.open(f"review?dataset={dataset.path.name}")
    tab.page.get_by_role("radio", name=title).click()
    tab.settle()
    return tab.cards()


def expect_badges(tab: Tab, expected: dict[int, str], seconds: float = 20) -> None:
    """Wait until the corners of the cards say this, and see that it stays so."""
    deadline = time.monotonic() + seconds
    while badges(tab) != expected and time.monotonic() < deadline:
        tab.page.wait_for_timeout(100)
    tab.settle()
    assert badges(tab) == expected


def badges(tab: Tab) -> dict[int, str]:
    """What the corners of the cards say, by row."""
    cards = tab.page.locator(".gallery:visible button.card").evaluate_all(
        "all => all.map(c => [Number(c.dataset.row), c.querySelector('.badge')?.textContent ?? ''])"
    )
    return {row: text for row, text in cards if text}


def test_keys_tag_one_image_after_the_other_and_survive_a_restart(
    dataset: EmbeddedDataset, tags: Tags, new_tab: Callable[..., Tab]
) -> None:
    with serve(dataset.path.parents[1], dataset.source.parent) as first:
        tab = new_tab(first)
        rows = open_review(tab, dataset, "Ambiguous")
        for letter in "kdukk":  # as quickly as the keyboard can
            tab.page.keyboard.press(letter)
        tab.page.keyboard.press("z")
        expected = dict(zip(rows, (KEEP, DROP, UNSURE, KEEP), strict=False))
        expect_badges(tab, expected)
        tab.see("Tagged so far: 2 keep, 1 drop, 1 unsure.")
        tab.shoot("review")
        tab.page.goto("about:blank")  # a tab complains when its server goes away
    assert {int(row): tag for row, tag in enumerate(tags.values.tag) if tag} == expected
    with serve(dataset.path.parents[1], dataset.source.parent) as second:
        tab = new_tab(second)
        assert open_review(tab, dataset, "Ambiguous") == rows
        expect_badges(tab, expected)
        for left in (3, 2, 1, 0):
            tab.page.get_by_role("button", name="Undo").click()
            expect_badges(tab, dict(list(expected.items())[:left]))
        assert tab.page.get_by_role("button", name="Undo").is_disabled()
        tab.page.goto("about:blank")
    assert tags.counts == dict.fromkeys(TAGS, 0)


def test_f_accepts_the_suggested_label_and_arrows_move(
    reviewing: Server, dataset: EmbeddedDataset, tags: Tags, new_tab: Callable[..., Tab]
) -> None:
    tab = new_tab(reviewing)
    rows = open_review(tab, dataset, "Likely mislabelled")
    planted = {dataset.find_row("cat/05.png"): "cat", dataset.find_row("owl/07.png"): "owl"}
    assert set(rows[:2]) == set(planted)
    tab.page.locator(f"button.card[data-row='{rows[0]}']").focus()
    tab.page.keyboard.press("ArrowRight")
    tab.page.keyboard.press("f")
    expect_badges(tab, {rows[1]: f"label: {planted[rows[1]]}"})
    assert tags.values.label[rows[1]] == planted[rows[1]]
    tab.shoot("review-mislabelled")
    tab.page.get_by_role("button", name=f"Accept “{planted[rows[0]]}”").first.click()
    expect_badges(tab, {row: f"label: {planted[row]}" for row in rows[:2]})


def test_keys_do_nothing_behind_the_image_panel_and_one_held_down_counts_once(
    reviewing: Server, dataset: EmbeddedDataset, tags: Tags, new_tab: Callable[..., Tab]
) -> None:
    tab = new_tab(reviewing)
    rows = open_review(tab, dataset, "Ambiguous")
    tab.page.locator(f".gallery:visible button.card[data-row='{rows[0]}']").click()
    panel = tab.page.get_by_role("dialog")
    panel.locator("button.card").first.wait_for()
    tab.settle()
    tab.page.keyboard.press("d")
    tab.settle()
    assert tags.counts == dict.fromkeys(TAGS, 0)
    tab.page.keyboard.press("Escape")
    panel.wait_for(state="detached")
    tab.settle()
    for _ in range(3):
        tab.page.keyboard.down("k")  # again and again without an up: as a key that is held down
    tab.page.keyboard.up("k")
    expect_badges(tab, {rows[0]: KEEP})


def test_keys_do_nothing_while_somebody_types(
    reviewing: Server, dataset: EmbeddedDataset, tags: Tags, new_tab: Callable[..., Tab]
) -> None:
    tab = new_tab(reviewing)
    rows = open_review(tab, dataset, "Ambiguous")
    tab.page.keyboard.press("f")
    tab.settle()
    box = tab.page.get_by_label("Right label of 1 image")
    box.click()
    box.press_sequentially("kudu")
    assert tags.counts == dict.fromkeys(TAGS, 0)
    box.press("Enter")
    tab.settle()
    tab.page.get_by_role("button", name="Save").click()
    expect_badges(tab, {rows[0]: "label: kudu"})
    assert tags.values.label[rows[0]] == "kudu"


def test_ticked_images_are_dropped_together_and_two_tabs_see_the_same(
    reviewing: Server, dataset: EmbeddedDataset, tags: Tags, new_tab: Callable[..., Tab]
) -> None:
    tab, other = new_tab(reviewing), new_tab(reviewing)
    rows = open_review(tab, dataset, "Ambiguous")
    open_review(other, dataset, "Ambiguous")
    boxes = tab.page.locator(".gallery:visible input.tick")
    boxes.nth(1).click()
    boxes.nth(3).click(modifiers=["Shift"])
    tab.settle()
    tab.page.get_by_role("button", name="Drop", exact=True).click()
    expect_badges(tab, dict.fromkeys(rows[1:4], DROP))
    other.page.keyboard.press("k")
    expect_badges(other, dict.fromkeys(rows[1:4], DROP) | {rows[0]: KEEP})
    assert tags.counts[DROP] == 3


def test_groups_of_duplicates_lie_side_by_side(
    reviewing: Server, dataset: EmbeddedDataset, tags: Tags, new_tab: Callable[..., Tab]
) -> None:
    tab = new_tab(reviewing)
    tab.open(f"review?dataset={dataset.path.name}")
    tab.page.get_by_role("radio", name="Duplicates").click()
    tab.settle()
    tab.page.get_by_role("button", name="Drop all but the first").click()
    tab.settle()
    first, dropped = tab.cards()[0], tags.counts[DROP]
    assert dropped > 0
    assert first not in badges(tab)
    assert set(badges(tab).values()) == {DROP}
    tab.page.keyboard.press("z")
    expect_badges(tab, {})
    tab.shoot("review-duplicates")


@pytest.mark.parametrize("pause", [60, 120])  # milliseconds: quicker than a hand, with time for the browser
def test_no_key_is_lost_or_counted_twice_while_the_page_is_busy(
    reviewing: Server, dataset: EmbeddedDataset, tags: Tags, new_tab: Callable[..., Tab], pause: int
) -> None:
    """Keys come while the run of an earlier one is under way, and end it at any of its steps."""
    tab = new_tab(reviewing)
    rows = open_review(tab, dataset, "Ambiguous")[:12]
    for letter in "kduzkdukzkdu":
        tab.page.keyboard.press(letter)
        tab.page.wait_for_timeout(pause)
    expected = [KEEP, DROP, None, None, KEEP, DROP, UNSURE, None, None, KEEP, DROP, UNSURE]
    expect_badges(tab, {row: tag for row, tag in zip(rows, expected, strict=True) if tag})
    assert tags.values.tag[rows].tolist() == expected
