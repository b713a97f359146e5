"""Fit an uncertainty head for the open data set's model from its labels, see how good it is, and decide."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from pvu.fitting import beats_chance
from pvu.jobs import Job, Status
from pvu.own_heads import Candidate, candidate_of, discard, own_head_facts, use
from pvu.progress import counted
from pvu.registry import own_head_path
from pvu.store import EmbeddedDataset
from pvu.ui.head_result import (
    fit_reason,
    show_curve,
    show_downloads,
    show_numbers,
    show_verdict,
    usable_count,
)
from pvu.ui.heads import offer_head, switch_head
from pvu.ui.runs import show_run, start, watched_job
from pvu.ui.state import PAGES, require_dataset
from pvu.ui.text import plain

USE = (
    "The model has this head from now on, and this data set gets its uncertainties at once, without encoding an image. "
    "An earlier head of your own is kept as .bak; the data set as it is now stays in the list."
)


def main() -> None:
    st.title("Train a head")
    dataset = require_dataset("how to give a model without uncertainties a head, learned from your labels")
    explain(dataset)
    offer_head(dataset)
    reason = fit_reason(dataset.version, dataset)
    if reason is not None:
        st.info(plain(reason), icon=":material/label:")
        st.page_link(PAGES["dataset"], label="Choose other images, or the demo", icon=":material/folder_open:")
        return
    job, candidate = job_of(dataset), candidate_of(dataset)
    if job is not None:
        show_run(job, finished, show_curve)
    elif candidate is not None:
        decide(dataset, candidate)
    else:
        begin(dataset)


def explain(dataset: EmbeddedDataset) -> None:
    st.markdown(
        "A **head** is a small network on top of the model: from an image's embedding it says how hard the image is to "
        "tell. The model itself is not changed, and no image is read again. What is hard, it learns from your labels."
    )
    with st.expander("What is done, step by step", icon=":material/school:"):
        st.markdown(
            "1. A simple classifier looks at the embeddings of four fifths of the labelled images and guesses the "
            "labels of the rest; in turn, until every image was guessed without having been seen. Where it is wrong "
            "or in doubt, the image is hard.\n"
            "2. The head is shown pairs of images and learns which of the two is the harder one (the ranking loss of "
            "[the paper](https://arxiv.org/abs/2402.16569)).\n"
            "3. It is measured before anybody uses it: five more heads, each fitted without a fifth of the images, "
            "judge the images that they have not seen.\n"
            "4. You see the numbers, and decide. Used, the head serves every data set of this model: "
            f"{plain(dataset.manifest['model'])}."
        )


def job_of(dataset: EmbeddedDataset) -> Job | None:
    """The fit that is watched, if it is of this data set; of another one only a word."""
    job = watched_job("fit")
    if job is None or job.arguments["store"] == str(dataset.path):
        return job
    if job.status().active:
        st.caption(f"A head for {plain(job.arguments['name'])} is being fitted. Open that data set to watch it.")
    return None


def finished(status: Status) -> None:
    del status  # what came out lies where candidate_of finds it
    st.toast("The head is fitted and measured.", icon=":material/school:")


def begin(dataset: EmbeddedDataset) -> None:
    fitted = own_head_facts(dataset)
    if fitted is None and dataset.has_uncertainty:
        st.info(
            f"{plain(dataset.manifest['model'])} has a head already. You can fit one to your labels all the same: both "
            "are measured, and you choose.",
            icon=":material/info:",
        )
    start_form(dataset)
    if fitted is not None:
        show_numbers(fitted)
        own = own_head_path(dataset.manifest["model"])
        show_downloads(own, own.with_suffix(".md"), fitted)
        st.caption("To go back to the model without it, delete this file; data sets made without it stay as they are.")
        st.code(str(own), language=None, wrap_lines=True)


def start_form(dataset: EmbeddedDataset) -> None:
    button, settings, _ = st.columns([1, 1, 2])
    with settings.popover("Settings", icon=":material/tune:", width="stretch"):
        seed = st.number_input(
            "Seed", 0, 9999, 0, key="fit_seed", help="Another one deals the images differently: do the numbers hold?"
        )
    count = counted(usable_count(dataset.version, dataset), "labelled image")
    clicked = button.button("Fit a head", type="primary", icon=":material/school:", width="stretch", key="fit")
    st.caption(
        f"On {count} whose label another one has too. It takes some seconds to a minute, in the background; nothing is "
        "used before you have seen the numbers."
    )
    if clicked:
        model = dataset.manifest["model"]
        start("fit", store=str(dataset.path), seed=int(seed), name=dataset.name, model=model)


def decide(dataset: EmbeddedDataset, candidate: Candidate) -> None:
    show_verdict(candidate.facts)
    yes, no, _ = st.columns([1, 1, 2])
    kind: Literal["primary", "secondary"] = "primary" if beats_chance(candidate.scores) else "secondary"
    if yes.button("Use this head", type=kind, icon=":material/check:", width="stretch", key="use", help=USE):
        switch_head(lambda: use(dataset, candidate))
    if no.button(
        "Discard", icon=":material/delete:", width="stretch", key="discard", help="Forget it, and begin again."
    ):
        discard(candidate)
        st.rerun()
    show_numbers(candidate.facts)
    show_downloads(candidate.head, candidate.card, candidate.facts)


main()
