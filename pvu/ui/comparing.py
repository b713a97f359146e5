"""Which second data set is compared with the open one, and what came of it: kept over reruns and in the address."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from pvu.catalog import find_stores, read_manifest
from pvu.errors import PVUError, StoreError
from pvu.progress import counted
from pvu.shift import Shift, TwoSamples, compare, sentences, why_not_these
from pvu.shift_figures import percentile_figure, similarity_figure, two_map
from pvu.store import EmbeddedDataset
from pvu.ui.state import PAGES, opened
from pvu.ui.text import plain

_PARAM = "other"
_CHOSEN = "compare_chosen"


@dataclass(frozen=True)
class Other:
    """A store beside the open one.

    Args:
        path: its folder.
        text: what to call it.
        reason: why it cannot be compared; None if it can.
    """

    path: Path
    text: str
    reason: str | None


def other_sets(dataset: EmbeddedDataset) -> list[Other]:
    """Every other data set on this computer, newest first; read from their manifests alone."""
    found = []
    for path in find_stores():
        with suppress(StoreError):  # deleted or replaced in this moment
            manifest = read_manifest(path)
            if path != dataset.path:
                text = f"{manifest['name']} · {counted(manifest['counts']['images'], 'image')}"
                found.append(Other(path, text, why_not_these(dataset.manifest, manifest)))
    return found


def choose_other(dataset: EmbeddedDataset) -> EmbeddedDataset | None:
    """The widget that chooses the second data set; says what to do where there is none. The address remembers it."""
    others = other_sets(dataset)
    fit = {other.path.name: other for other in others if other.reason is None}
    unfit = [other for other in others if other.reason is not None]
    if not fit:
        _say_none(dataset, unfit)
        return None
    wanted = st.query_params.get(_PARAM, st.session_state.get(_CHOSEN))
    if wanted == dataset.path.name:  # it has been opened itself by now
        st.query_params.pop(_PARAM, None)
    if _PARAM in st.query_params and wanted not in fit:
        reason = next((str(other.reason) for other in unfit if other.path.name == wanted), None)
        st.warning(plain(reason or "The second data set that this link names is not on this computer. Choose another."))
    names = list(fit)
    chosen = st.selectbox(
        "Compare with",
        names,
        index=names.index(wanted) if wanted in fit else None,
        format_func=lambda name: fit[name].text,
        placeholder="choose a second data set",
        help="Data sets that were embedded with the same model: only then do similar images have similar embeddings.",
    )
    _list_unfit(unfit)
    st.session_state[_CHOSEN] = chosen
    if chosen is None:
        st.query_params.pop(_PARAM, None)
        st.caption(
            "The images of another month or camera, say, or those that your model meets in use. You will see both sets "
            "on one map, whether the second is more uncertain, what it shows that this one lacks, and the reverse."
        )
        return None
    if st.query_params.get(_PARAM) != chosen:
        st.query_params[_PARAM] = chosen
    try:
        return opened(fit[chosen].path)
    except PVUError as error:
        st.error(plain(error))
        return None


def _say_none(dataset: EmbeddedDataset, unfit: list[Other]) -> None:
    made = f"with {plain(dataset.manifest['model'])}" if dataset.has_encoder else "of the same model"
    st.info(
        f"There is no second data set to compare {plain(dataset.name)} with. Add one {made}: the images of another "
        "month, another camera, or those that your model meets in use.",
        icon=":material/info:",
    )
    st.page_link(PAGES["dataset"], label="Choose more images", icon=":material/folder_open:")
    _list_unfit(unfit)


def _list_unfit(unfit: list[Other]) -> None:
    if not unfit:
        return
    with st.expander(f"{counted(len(unfit), 'data set')} that cannot be compared, and why"):
        for other in unfit:
            st.markdown(f":gray[**{plain(other.text)}**: {plain(other.reason)}]")


def shift_of(a: EmbeddedDataset, b: EmbeddedDataset) -> Shift:
    """How b differs from a, computed once, with a bar while it is."""
    kept = _kept(a.version, b.version)
    if "shift" not in kept:
        text = f"Finding the images of {plain(a.name)} nearest to each of {plain(b.name)} …"
        bar = st.progress(0.0, text)

        def show(share: float) -> None:
            bar.progress(share, text)

        kept["shift"] = compare(a, b, progress=show)
        bar.empty()
    shift: Shift = kept["shift"]
    return shift


@dataclass(frozen=True)
class Answer:
    """One thing that was found out about two sets.

    Args:
        title: two or three words.
        value: the number.
        explained: what the number is, for the tooltip.
        sentence: what it means here.
    """

    title: str
    value: str
    explained: str
    sentence: str


def answers_of(a: EmbeddedDataset, b: EmbeddedDataset, shift: Shift) -> list[Answer]:
    """What is to be said first about b, seen from a. Without uncertainties nothing is said of them."""
    said = sentences(a, b, shift)
    missed = int((~shift.regions["visited"]).sum())
    answers = [
        Answer(
            "Far away",
            f"{100 * shift.far_share:.0f} %",
            "The share of the second set that is farther from the first than 95 % of the first's images are from each "
            f"other: 5 % if they are alike. {_test(shift.similarity)}",
            said["distance"],
        ),
        Answer(
            "Mixed",
            f"{100 * shift.share_of_a:.0f} %",
            "The share of the first set among the 15 images nearest to one of the second, both sets together: "
            f"{100 * shift.expected_share:.0f} % if who belongs where were drawn by lot.",
            said["mixing"],
        ),
        Answer(
            "Clusters missed",
            f"{missed:,} of {len(shift.regions):,}",
            "Clusters of the first set in which the second has no image, though three or more would be there if the "
            "sets were alike. An image that is far from everything counts for none.",
            said["regions"],
        ),
    ]
    if shift.percentiles is None:
        return answers
    explained = (
        "The share of the second set that is more uncertain than 90 % of the first: 10 % if they are alike. "
        f"{_test(shift.percentiles)}"
    )
    return [Answer("Uncertain", f"{100 * shift.uncertain_share:.0f} %", explained, said["uncertainty"]), *answers]


def _test(found: TwoSamples) -> str:
    return (
        f"The distributions' largest gap (Kolmogorov-Smirnov) is {found.statistic:.2f}, where 0 is alike and 1 apart; "
        f"two random parts of one set would differ as much with p = {found.p:.2g}."
    )


def figure_of(name: str, a: EmbeddedDataset, b: EmbeddedDataset, shift: Shift) -> go.Figure:
    """The figure "map", "percentiles" or "similarity", drawn once."""
    kept = _kept(a.version, b.version)
    if name not in kept:
        names = (a.name, b.name)
        if name == "map":
            kept[name] = two_map(a, b, shift)
        elif name == "similarity":
            kept[name] = similarity_figure(shift.similarity, names)
        elif shift.percentiles is not None:
            kept[name] = percentile_figure(shift.percentiles, names)
    return kept[name]


@st.cache_resource(max_entries=6, show_spinner=False)
def _kept(version_a: str, version_b: str) -> dict[str, Any]:
    """What is known of two data sets, shared by all visitors. Filled outside, where a bar can be shown."""
    del version_a, version_b  # the key
    return {}
