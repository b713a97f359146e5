"""The review page: its lists, cut-offs and evidence; tags by key, in bulk, and taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pvu.review import ambiguous, duplicates, mislabelled, outliers
from pvu.store import EmbeddedDataset
from pvu.tags import DROP, FIX, KEEP, TAGS, UNSURE, TagError, Tags
from tests.pages.conftest import App, Galleries

Make = Callable[..., EmbeddedDataset]


@pytest.fixture
def dataset(make_dataset: Make) -> EmbeddedDataset:
    """Three labels of 20 alike pictures each; the first cat is labelled as a dog."""
    table = "path,label\n" + "".join(
        f"{label}/{number:02d}.png,{'dog' if (label, number) == ('cat', 0) else label}\n"
        for label in ("cat", "dog", "owl")
        for number in range(20)
    )
    return make_dataset(count=20, table=table)


def open_list(app: App, dataset: EmbeddedDataset, name: str) -> App:
    app.open("review", dataset=dataset.path.name)
    (control,) = [control for control in app.test.get("button_group") if control.key == "review_list"]
    control.set_value(name)
    return app.run()


def button(app: App, label: str) -> Any:
    (found,) = [found for found in app.test.button if found.label == label]
    return found


def test_without_a_data_set_it_says_what_it_would_show(app: App) -> None:
    app.open("review")
    assert "this page shows the images worth a look" in app.texts("info")[0]


@pytest.mark.parametrize("make", [ambiguous, mislabelled, outliers])
def test_each_list_is_the_librarys_with_its_evidence(
    app: App, galleries: Galleries, dataset: EmbeddedDataset, make: Callable[[EmbeddedDataset], object]
) -> None:
    expected = make(dataset)
    open_list(app, dataset, expected.name)
    shown = galleries.shown[f"review_{expected.name}"]
    assert [card["row"] for card in shown] == expected.rows.tolist()[:24]
    assert [card["note"] for card in shown] == [expected.text(place) for place in range(len(shown))]
    for card, beside in zip(shown, expected.beside, strict=False):
        assert [other["row"] for other in card["beside"]] == [row for row in beside if row >= 0]
    assert expected.sentence in app.texts("markdown")[0]


def test_mislabelled_cards_show_both_labels_and_f_accepts_the_suggested_one(
    app: App, galleries: Galleries, dataset: EmbeddedDataset
) -> None:
    open_list(app, dataset, "mislabelled")
    row = dataset.find_row("cat/00.png")
    (card,) = [card for card in galleries.shown["review_mislabelled"] if card["row"] == row]
    assert (card["label"], card["mark"]) == ("dog", "→ cat")
    assert card["offer"] == ("Accept “cat”", "f")
    galleries.press("review_mislabelled", "f", [row])
    app.run()
    assert Tags.of(dataset).values.label[row] == "cat"
    (card,) = [card for card in galleries.shown["review_mislabelled"] if card["row"] == row]
    assert card["badge"] == "label: cat"
    galleries.press("review_mislabelled", "z", [row])
    app.run()
    assert Tags.of(dataset).values.tag[row] is None


def test_suggested_labels_are_accepted_in_bulk(app: App, galleries: Galleries, dataset: EmbeddedDataset) -> None:
    open_list(app, dataset, "mislabelled")
    assert button(app, "Accept suggested label").disabled
    rows = galleries.rows("review_mislabelled")
    suggested = mislabelled(dataset).suggested.tolist()
    galleries.pick("review_mislabelled", rows)
    app.run()
    app.click("Accept suggested label")
    assert Tags.of(dataset).values.label[rows].tolist() == suggested
    assert Tags.of(dataset).undoable is not None
    assert galleries.data["review_mislabelled"]["picked"] == []


def test_keys_in_a_row_all_count_and_undo_takes_the_last_back(
    app: App, galleries: Galleries, dataset: EmbeddedDataset
) -> None:
    open_list(app, dataset, "ambiguous")
    rows = galleries.rows("review_ambiguous")
    assert galleries.data["review_ambiguous"]["keys"].keys() == set("kdfuz")
    for letter, row in zip("kdu", rows, strict=False):
        galleries.press("review_ambiguous", letter, [row])
        app.run()
    galleries.press("review_ambiguous", "kz", [rows[4]])
    app.run()
    tags = Tags.of(dataset).values.tag
    assert tags[rows[:5]].tolist() == [KEEP, DROP, UNSURE, None, None]
    assert [card["badge"] for card in galleries.shown["review_ambiguous"]][:3] == [KEEP, DROP, UNSURE]
    assert "Tagged so far: 1 keep, 1 drop, 1 unsure." in " ".join(app.texts("caption"))
    assert "last: unsure on" in " ".join(app.texts("caption"))
    app.click("Undo")
    assert Tags.of(dataset).counts[UNSURE] == 0


def test_f_asks_for_a_label_where_none_is_suggested(app: App, galleries: Galleries, dataset: EmbeddedDataset) -> None:
    open_list(app, dataset, "ambiguous")
    rows = galleries.rows("review_ambiguous")[:2]
    galleries.press("review_ambiguous", "f", rows)
    app.run()
    (choice,) = [choice for choice in app.test.selectbox if choice.label == "Right label of 2 images"]
    assert choice.options == ["cat", "dog", "owl"]
    choice.set_value("owl")
    app.run()
    app.click("Save")
    assert Tags.of(dataset).values.label[rows].tolist() == ["owl"] * 2
    assert not [choice for choice in app.test.selectbox if choice.label.startswith("Right label")]


@pytest.mark.parametrize("tag", [KEEP, DROP, UNSURE])
def test_ticked_images_are_tagged_together_and_untagged_again(
    app: App, galleries: Galleries, dataset: EmbeddedDataset, tag: str
) -> None:
    open_list(app, dataset, "ambiguous")
    assert button(app, tag.capitalize()).disabled
    rows = galleries.rows("review_ambiguous")[:3]
    galleries.pick("review_ambiguous", rows)
    app.run()
    app.click(tag.capitalize())
    assert Tags.of(dataset).counts == dict.fromkeys(TAGS, 0) | {tag: 3}
    assert galleries.data["review_ambiguous"]["picked"] == []
    galleries.pick("review_ambiguous", rows)
    app.run()
    app.click("Take tag off")
    assert Tags.of(dataset).counts[tag] == 0


def test_tagged_images_can_be_hidden(app: App, galleries: Galleries, dataset: EmbeddedDataset) -> None:
    open_list(app, dataset, "ambiguous")
    rows = galleries.rows("review_ambiguous")
    Tags.of(dataset).set(rows[1:], KEEP)
    (toggle,) = [toggle for toggle in app.test.toggle if toggle.label == "Not yet tagged"]
    toggle.set_value(True)
    app.run()
    assert galleries.rows("review_ambiguous") == rows[:1]
    galleries.press("review_ambiguous", "k", rows[:1])
    app.run()
    assert galleries.rows("review_ambiguous") == []
    assert app.texts("success") == ["All of them are tagged."]


def test_the_cut_off_lengthens_the_list_and_the_count(app: App, galleries: Galleries, dataset: EmbeddedDataset) -> None:
    open_list(app, dataset, "ambiguous")
    before = galleries.rows("review_ambiguous")
    (slider,) = [slider for slider in app.test.slider if slider.key == "cutoff_ambiguous"]
    slider.set_value(70.0)
    app.run()
    assert galleries.rows("review_ambiguous") == ambiguous(dataset, cutoff=70).rows.tolist() != before
    (control,) = [control for control in app.test.get("button_group") if control.key == "review_list"]
    assert f"Ambiguous · {len(ambiguous(dataset, cutoff=70))}" in control.options


def test_groups_stay_whole_and_all_but_the_first_can_be_dropped(
    app: App, galleries: Galleries, make_dataset: Make
) -> None:
    dataset = make_dataset(labels=("cat", "dog", "owl"), count=12)  # all pictures of a label are one group here
    found = duplicates(dataset)
    assert len(set(found.group.tolist())) > 1
    open_list(app, dataset, "duplicates")
    assert galleries.rows("review_duplicates") == found.rows.tolist()
    firsts = [found.rows[found.group == group][0] for group in set(found.group.tolist())]
    count = len(found) - len(firsts)
    app.click(f"Drop all but the first of each group ({count} images)")
    tags = Tags.of(dataset).values.tag
    assert (tags == DROP).sum() == count
    assert not (tags[firsts] == DROP).any()
    app.click("Undo")
    assert Tags.of(dataset).counts[DROP] == 0


def test_a_link_leads_to_the_list(app: App, galleries: Galleries, dataset: EmbeddedDataset) -> None:
    app.open("review", dataset=dataset.path.name, list="outliers")
    assert list(galleries.data) == ["review_outliers"]
    assert app.test.query_params["list"] in ("outliers", ["outliers"])
    open_list(app, dataset, "duplicates")
    assert app.test.query_params["list"] in ("duplicates", ["duplicates"])


def test_without_labels_the_list_says_so(app: App, make_dataset: Make) -> None:
    open_list(app, make_dataset(labels=()), "mislabelled")
    assert "This list compares labels, and pets has none" in app.texts("info")[0]


def test_without_a_head_the_list_says_so(app: App, make_dataset: Make) -> None:
    open_list(app, make_dataset(has_head=False), "ambiguous")
    assert "no uncertainty head" in app.texts("info")[0]


def test_a_pick_keeps_to_the_certain_and_away_from_the_tagged(
    app: App, galleries: Galleries, dataset: EmbeddedDataset
) -> None:
    open_list(app, dataset, "pick")
    rows = galleries.rows("review_pick")
    assert len(set(rows)) == 20
    assert (dataset.percentiles[rows] <= 80).all()
    Tags.of(dataset).set(rows, KEEP)
    (toggle,) = [toggle for toggle in app.test.toggle if toggle.label == "Far from tagged"]
    toggle.set_value(True)
    app.run()
    assert not set(galleries.rows("review_pick")) & set(rows)
    galleries.press("review_pick", "d", galleries.rows("review_pick")[:1])
    app.run()
    assert Tags.of(dataset).counts[DROP] == 1


def test_a_click_opens_the_image(app: App, galleries: Galleries, dataset: EmbeddedDataset) -> None:
    open_list(app, dataset, "ambiguous")
    row = galleries.rows("review_ambiguous")[1]
    galleries.click("review_ambiguous", row)
    app.run()
    assert app.test.session_state["pvu_last_image"] == row


def test_the_list_goes_to_the_map_as_the_selection(app: App, dataset: EmbeddedDataset) -> None:
    open_list(app, dataset, "ambiguous")
    expected = ambiguous(dataset).rows
    (show,) = [found for found in app.test.button if found.label.endswith("on the map")]
    app.click(show.label)
    chosen = app.test.session_state[f"selection:{dataset.version}"]
    assert np.sort(chosen).tolist() == np.sort(expected).tolist()


def test_a_tag_that_cannot_be_saved_is_one_sentence(
    app: App, galleries: Galleries, dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TagError("The tag could not be saved to x (No space left on device).")

    open_list(app, dataset, "ambiguous")
    monkeypatch.setattr(Tags, "set", fail)
    galleries.press("review_ambiguous", "k", galleries.rows("review_ambiguous")[:1])
    app.run()
    assert app.texts("error") == ["The tag could not be saved to x (No space left on device)."]


def test_labels_from_tables_are_shown_as_they_are(app: App, galleries: Galleries, make_dataset: Make) -> None:
    table = "path,label\n" + "".join(
        f"{label}/{number:02d}.png,{'**dog**' if (label, number) == ('cat', 0) else label}\n"
        for label in ("cat", "dog", "owl")
        for number in range(12)
    )
    dataset = make_dataset(table=table)
    open_list(app, dataset, "ambiguous")
    Tags.of(dataset).set([0], FIX, "![](https://example.org/x.png)")
    app.run()
    captions = [element.value for element in app.test.get("caption")]
    assert any(r"\!\[\]\(https\://example.org/x.png\)" in caption for caption in captions)


def test_cut_offs_are_kept_over_lists_and_pages(app: App, galleries: Galleries, dataset: EmbeddedDataset) -> None:
    open_list(app, dataset, "ambiguous")
    (slider,) = [slider for slider in app.test.slider if slider.key == "cutoff_ambiguous"]
    slider.set_value(70.0)
    app.run()
    expected = ambiguous(dataset, cutoff=70).rows.tolist()
    for page in ("map", "review"):
        app.go(page)
    assert galleries.rows("review_ambiguous") == expected
    for name in ("outliers", "ambiguous"):
        (control,) = [control for control in app.test.get("button_group") if control.key == "review_list"]
        assert f"Ambiguous · {len(expected)}" in control.options
        control.set_value(name)
        app.run()
    assert galleries.rows("review_ambiguous") == expected


def test_what_is_ticked_in_one_data_set_is_not_tagged_in_another(
    app: App, galleries: Galleries, dataset: EmbeddedDataset, make_dataset: Make
) -> None:
    other = make_dataset(name="other", count=20)
    open_list(app, dataset, "ambiguous")
    galleries.pick("review_ambiguous", galleries.rows("review_ambiguous")[:3])
    app.run()
    assert not button(app, "Keep").disabled
    app.click("Fix label …")
    assert "Save" in [each.label for each in app.test.button]
    open_list(app, dataset, "outliers")
    assert "Save" not in [each.label for each in app.test.button]  # the question was about images of the other list
    open_list(app, dataset, "ambiguous")
    assert "Save" in [each.label for each in app.test.button]
    app.test.query_params["dataset"] = other.path.name
    app.run()
    assert app.galleries.data["review_ambiguous"]["picked"] == []
    assert button(app, "Keep").disabled
    assert "Save" not in [each.label for each in app.test.button]
