"""What is known of a head that was fitted here, for the page that fits one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from pvu.fit_figures import curve_figure, scores_figure
from pvu.fitting import HEAD, FitConfig, advice, beats_chance, usable_rows, why_not_fit
from pvu.own_heads import scores_of
from pvu.progress import Progress, counted, format_seconds
from pvu.store import EmbeddedDataset
from pvu.ui.text import plain

_PLAIN = {"displayModeBar": False}


@st.cache_data(max_entries=8, show_spinner=False)
def fit_reason(version: str, _dataset: EmbeddedDataset) -> str | None:
    """Why no head can be fitted, in one sentence; None if one can."""
    del version  # the key
    return why_not_fit(_dataset)


@st.cache_data(max_entries=8, show_spinner=False)
def usable_count(version: str, _dataset: EmbeddedDataset) -> int:
    """How many images a head can be fitted on."""
    del version  # the key
    return len(usable_rows(_dataset.labels))


def show_curve(progress: Progress) -> None:
    """The loss so far, while a head is being fitted."""
    if not progress.curve:
        return
    steps = progress.total if progress.phase == "fit" else progress.total // FitConfig.folds
    st.plotly_chart(curve_figure(progress.curve, steps), key="live_curve", config=_PLAIN)
    st.caption(
        "The ranking loss of this fit over its steps. It falls while the head learns which of two images is harder; "
        "at about 0.1 it knows nothing. Then heads of parts of the images are fitted in turn, to measure it."
    )


def show_verdict(facts: dict[str, Any]) -> None:
    """Whether the head is worth using, in a sentence."""
    scores = scores_of(facts)
    if beats_chance(scores):
        st.success(plain(advice(scores)), icon=":material/check_circle:")
    else:
        st.warning(plain(advice(scores)), icon=":material/warning:")


def show_numbers(facts: dict[str, Any]) -> None:
    """The numbers, what the head is compared with, and how its loss fell."""
    scores = scores_of(facts)
    head = scores[HEAD]
    columns = st.columns(4)
    columns[0].metric(
        "R-AUROC of the head",
        f"{head.value:.3f}" if head.value == head.value else "none",
        help="How well it tells whether an image's nearest other image has the same label, on images that the measured "
        "heads have not seen: 0.5 knows nothing, 1 is perfect. Not defined if all nearest images are right.",
        border=True,
    )
    columns[1].metric(
        "Recall@1",
        f"{facts['recall_at_1']:.3f}",
        help="The share of images whose most similar other image has the same label. The head does not change it.",
        border=True,
    )
    columns[2].metric(
        "Accuracy of the probe",
        f"{facts['probe_accuracy']:.3f}",
        help="How often a linear classifier on the embeddings finds the label of an image it has not seen. Its doubts "
        "are what the head learns from: where it is near chance or near 1, there is little to learn.",
        border=True,
    )
    columns[3].metric(
        "Spread of u",
        f"{facts['spread']:.2f}",
        help="Standard deviation of the uncertainties over their mean. Near 0 the head would have collapsed: the same "
        "number for every image. It is checked: below 0.001 no head is kept.",
        border=True,
    )
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Compared with what there is without it", anchor=False)
        st.plotly_chart(scores_figure(scores), key="scores", config=_PLAIN)
        st.caption(
            "Dots with 95 % intervals over images. The linear probe is given the labels of all other images, and the "
            "similarity needs a gallery to search; the head needs the image alone, and works on new images."
        )
    with right:
        st.subheader("While it learned", anchor=False)
        st.plotly_chart(curve_figure(tuple(facts["curve"]), facts["config"]["steps"]), key="curve", config=_PLAIN)
        st.caption(
            f"{counted(facts['images'], 'image')}, {counted(facts['labels'], 'label')}, {facts['config']['steps']:,} "
            f"steps, {format_seconds(facts['seconds'])} in all, seed {facts['config']['seed']}."
        )


def show_downloads(head: Path, card: Path, facts: dict[str, Any]) -> None:
    """The head's file and its card."""
    left, right, _ = st.columns([1, 1, 2])
    name = plain_file_name(facts["backbone"])
    if head.is_file():
        left.download_button(
            "Head (.safetensors)",
            head.read_bytes(),
            f"{name}.head.safetensors",
            icon=":material/download:",
            width="stretch",
            on_click="ignore",
            help="For another computer: put it at PVU_HOME/heads there, named as here.",
        )
    if card.is_file():
        right.download_button(
            "Card (.md)",
            card.read_bytes(),
            f"{name}.head.md",
            icon=":material/description:",
            width="stretch",
            on_click="ignore",
            help="What it was made of, what it reaches, what it is not good for.",
        )


def plain_file_name(name: str) -> str:
    """The last part of a model's name, in letters that every file system takes."""
    return "".join(char if char.isalnum() or char in "._-" else "-" for char in name.rpartition("/")[2] or name)[:80]
