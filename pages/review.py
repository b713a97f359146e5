"""Go through what is worth a look: ambiguous, likely mislabelled, duplicate and rare images; tag them."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pvu.lists import ReviewList
from pvu.progress import counted
from pvu.store import EmbeddedDataset
from pvu.tags import Tags
from pvu.ui.gallery import Card, paged, picking_gallery
from pvu.ui.panel import open_image
from pvu.ui.reviewing import TITLES, badge, cards, controls, list_of, picked_for_labelling, remember
from pvu.ui.state import PAGES, require_dataset, set_selection
from pvu.ui.tagging import KEYS, drop_others, tag_bar, take_presses
from pvu.ui.text import plain

PICK = "pick"
SIZE = 24
GROUPS = 8


def main() -> None:
    st.title("Review")
    dataset = require_dataset("the images worth a look: ambiguous, likely mislabelled, duplicates, and outliers")
    lists = {name: list_of(dataset, name) for name in TITLES}
    names = [*TITLES, PICK]
    linked = st.query_params.get("list")
    remember("review_list", linked if linked in names else "ambiguous")
    chosen = st.segmented_control(
        "List",
        names,
        format_func=lambda name: f"{TITLES[name]} · {len(lists[name]):,}" if name in TITLES else "Pick for labelling",
        required=True,
        key="review_list",
        label_visibility="collapsed",
    )
    assert chosen is not None  # required
    if linked != chosen:
        st.query_params["list"] = chosen  # so that the address leads here
    if chosen == PICK:
        pick(dataset)
    else:
        show(dataset, lists[chosen])


def show(dataset: EmbeddedDataset, found: ReviewList) -> None:
    st.markdown(f"{found.sentence} They are a reason to look, not a verdict.")
    if found.missing:
        st.info(plain(found.missing), icon=":material/info:")
        return
    only_untagged = controls(found.name)
    tags = Tags.of(dataset).values
    places = np.arange(len(found))
    if only_untagged:
        places = places[tags.tag[found.rows] == None]  # noqa: E711 (elementwise)
    key = f"review_{found.name}"
    bar, holder = st.container(), st.container()
    if len(places) == 0:
        why = "All of them are tagged." if len(found) else "None passes this cut-off. Move it to see more."
        st.success(why, icon=":material/check:")
        shown = places
    elif found.name == "duplicates":
        groups = paged(np.unique(found.group[places]), key=key, size=GROUPS)
        shown = places[np.isin(found.group[places], groups)]
    else:
        shown = paged(places, key=key, size=SIZE)
    suggested = {int(found.rows[place]): found.suggested[place] for place in shown}
    suggestions = suggested if found.name == "mislabelled" else None
    with holder:
        event = picking_gallery(dataset, cards(dataset, found, shown, tags), key=key, keys=KEYS, width=158)
        take_presses(dataset, event, key=key, suggested=suggestions)
    with bar:
        tag_bar(dataset, event.picked, key=key, suggested=suggestions)
        below_bar(dataset, found, places, key)
    open_image(event.clicked)


def below_bar(dataset: EmbeddedDataset, found: ReviewList, places: np.ndarray, key: str) -> None:
    with st.container(horizontal=True):
        if found.name == "duplicates":
            not_first = np.flatnonzero(np.diff(found.group) == 0) + 1
            drop_others(dataset, found.rows[np.intersect1d(places, not_first)], key=key)
        to_map(dataset, found.rows[places], key)


def to_map(dataset: EmbeddedDataset, rows: np.ndarray, key: str) -> None:
    if st.button(
        f"Show {counted(len(rows), 'image')} on the map",
        key=f"{key}_map",
        icon=":material/scatter_plot:",
        disabled=len(rows) == 0,
        help="Selects them there, in place of what is selected.",
    ):
        set_selection(dataset, rows)
        st.switch_page(PAGES["map"])


def pick(dataset: EmbeddedDataset) -> None:
    st.markdown(
        "Images as different from each other as can be, so that few labels say much about all. Uncertain pictures are "
        "left out: a label for a picture that cannot be told teaches nothing."
    )
    left, middle, right = st.columns([1, 2, 1], gap="large", vertical_alignment="center")
    count = left.number_input(
        "How many", 1, min(2000, len(dataset)), min(20, len(dataset)), key="pick_count", persist_state="session"
    )
    percentile = 100
    if dataset.has_uncertainty:
        percentile = middle.slider(
            "At most as uncertain as … of the images",
            5,
            100,
            80,
            5,
            format="%d %%",
            key="pick_percentile",
            persist_state="session",
        )
    untagged = right.toggle(
        "Far from tagged",
        key="pick_untagged",
        persist_state="session",
        help="Picks none that has a tag, and none like those.",
    )
    rows = picked_for_labelling(dataset, int(count), int(percentile), untagged=untagged)
    if len(rows) == 0:
        st.info("No image is left to pick: allow more uncertain ones, or tagged ones.", icon=":material/info:")
        return
    tags, key = Tags.of(dataset).values, "review_pick"
    bar, holder = st.container(), st.container()
    shown = paged(rows, key=key, size=SIZE)
    with holder:
        made = [Card(int(row), badge=badge(tags, int(row))) for row in shown]
        event = picking_gallery(dataset, made, key=key, keys=KEYS, width=158)
        take_presses(dataset, event, key=key)
    with bar:
        tag_bar(dataset, event.picked, key=key)
        to_map(dataset, rows, key)
    open_image(event.clicked)


main()
