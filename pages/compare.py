"""A second data set on the map of the open one: what has shifted, and the images that are like nothing in it."""

from __future__ import annotations

import streamlit as st

from pvu.shift import Shift
from pvu.shift_figures import LIMIT
from pvu.store import EmbeddedDataset
from pvu.ui.comparing import answers_of, choose_other, figure_of, shift_of
from pvu.ui.gallery import Card, gallery, gallery_of, paged
from pvu.ui.panel import open_image
from pvu.ui.serving import address
from pvu.ui.state import require_dataset
from pvu.ui.text import plain
from pvu.ui.why import large_picture

_NEAREST = 12
_PAGE = 24


def main() -> None:
    st.title("Compare")
    dataset = require_dataset("how a second data set differs from it, on the same map")
    st.markdown(
        f"What would a second data set add to **{plain(dataset.name)}**, or ask of a model that was trained on it? "
        "Both are laid on the same map, and compared by how uncertain their images are and by what they show."
    )
    other = choose_other(dataset)
    if other is None:
        return
    shift = shift_of(dataset, other)
    verdict(dataset, other, shift)
    st.subheader("Both on one map", anchor=False)
    st.plotly_chart(
        figure_of("map", dataset, other, shift),
        key="two_map",
        config={"scrollZoom": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "toImage"]},
    )
    st.caption(
        f"The map is that of {plain(dataset.name)}; an image of {plain(other.name)} lies amid those of it "
        "that are nearest. A cross says that even they are far: it shows something that is not on this map. "
        "Click a name above the map to hide its points; scroll to zoom."
        + (
            f" Of each set {LIMIT:,} points are drawn at most, at random."
            if max(len(dataset), len(other)) > LIMIT
            else ""
        )
    )
    distributions(dataset, other, shift)
    st.subheader(plain(f"The images of {other.name} farthest from {dataset.name}"), anchor=False)
    farthest(dataset, other, shift)
    st.subheader(plain(f"Where {other.name} has images, by the clusters of {dataset.name}"), anchor=False)
    regions(dataset, other, shift)


def verdict(dataset: EmbeddedDataset, other: EmbeddedDataset, shift: Shift) -> None:
    """A sentence for each question, with its number."""
    answers = answers_of(dataset, other, shift)
    for column, answer in zip(st.columns(len(answers)), answers, strict=True):
        with column.container(border=True, height="stretch"):
            st.metric(answer.title, answer.value, help=answer.explained)
            st.markdown(plain(answer.sentence))


def distributions(dataset: EmbeddedDataset, other: EmbeddedDataset, shift: Shift) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("How uncertain", anchor=False)
        if shift.percentiles is None:
            st.info("One of the two has no uncertainties.", icon=":material/help:")
        else:
            st.plotly_chart(figure_of("percentiles", dataset, other, shift), key="u", config={"displayModeBar": False})
            st.caption(f"The bars of {plain(dataset.name)} are about as high: these are percentiles of its own.")
    with right:
        st.subheader("How near", anchor=False)
        figure = figure_of("similarity", dataset, other, shift)
        st.plotly_chart(figure, key="similarity", config={"displayModeBar": False})
        st.caption(
            f"The similarity of each image to the nearest other one of {plain(dataset.name)}; 1 is identical. Left of "
            "the line lie 5 % of its own images."
        )


@st.fragment
def farthest(dataset: EmbeddedDataset, other: EmbeddedDataset, shift: Shift) -> None:
    holder = st.container()
    rows = paged(shift.farthest, key="farthest", size=_PAGE)
    cards = [Card(int(row), similarity=float(shift.similarity.b[row])) for row in rows]
    with holder:
        clicked = gallery(other, cards, key="farthest_cards", action="see what is nearest to it", width=112)
    row = clicked if clicked is not None else st.session_state.get(f"compare_row:{other.version}")
    if row is None:
        st.caption(f"Click an image to see what {plain(dataset.name)} has that is nearest to it.")
        return
    st.session_state[f"compare_row:{other.version}"] = row
    picture, nearest = st.columns([1, 3], gap="medium")
    path = str(other.images["path"].iloc[row])
    with picture:
        large_picture(f"{address(other)}/image/{row}", alt=path)
        st.caption(plain(path))
    with nearest:
        st.markdown(f"**Nearest in {plain(dataset.name)}**")
        found = zip(shift.neighbors[row, :_NEAREST], shift.similarities[row, :_NEAREST], strict=True)
        cards = [Card(int(near), similarity=float(similarity)) for near, similarity in found]
        opened = gallery(dataset, cards, key="nearest_cards", action="open it", width=112)
    if opened is not None:
        open_image(opened)
        st.rerun()


@st.fragment
def regions(dataset: EmbeddedDataset, other: EmbeddedDataset, shift: Shift) -> None:
    table = shift.regions
    percent = st.column_config.NumberColumn(format="percent", width="small")
    event = st.dataframe(
        table[["name", "images_a", "share_a", "images_b", "share_b"]],
        hide_index=True,
        column_config={
            "name": "Cluster",
            "images_a": f"Images of {dataset.name}",
            "share_a": {**percent, "label": f"Share of {dataset.name}"},
            "images_b": f"Images of {other.name}",
            "share_b": {**percent, "label": f"Share of {other.name}"},
        },
        key="regions",
        on_select="rerun",
        selection_mode="single-row",
    )
    chosen = event["selection"]["rows"]
    if not chosen:
        st.caption(f"The least visited first. Tick a row to see the images of {plain(dataset.name)} that lie there.")
        return
    rows = dataset.clusters.rows(int(table["cluster"].iloc[chosen[0]]))
    clicked = gallery_of(dataset, rows[:_PAGE], key="region_cards", width=112)
    if clicked is not None:
        open_image(clicked)
        st.rerun()


main()
