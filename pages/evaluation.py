"""How well the uncertainty predicts wrong answers, where labels exist."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from pvu.analysis import KEEPS, Evaluation, evaluate
from pvu.figures import kept_figure, risk_coverage_figure
from pvu.store import EmbeddedDataset
from pvu.ui.calibrating import show_calibration
from pvu.ui.measures import evaluation_reason, kept_recalls
from pvu.ui.state import PAGES, require_dataset
from pvu.ui.text import plain


@st.cache_data(max_entries=4, show_spinner="Evaluating …")
def _evaluate(version: str, _dataset: EmbeddedDataset) -> Evaluation:
    del version  # the key
    return evaluate(_dataset)


def main() -> None:
    st.title("Evaluation")
    dataset = require_dataset("how well the uncertainty predicts wrong nearest neighbours")
    reason = evaluation_reason(dataset.version, dataset)
    if reason is not None:
        st.info(plain(reason), icon=":material/label:")
        st.page_link(PAGES["map"], label="The map needs no labels", icon=":material/scatter_plot:")
        return
    evaluation = _evaluate(dataset.version, dataset)
    recalls = kept_recalls(dataset.version, dataset)
    st.markdown(
        f"Each of {evaluation.images:,} images with one of {evaluation.labels:,} labels is a query: is "
        "its most similar other image of the same label? "
        "A good uncertainty is high where the answer is wrong."
    )
    numbers(evaluation)
    verdict(dataset, evaluation)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Risk and coverage", anchor=False)
        st.plotly_chart(risk_coverage_figure(evaluation), key="risk", config={"displayModeBar": False})
        st.caption(
            "The share of wrong answers when only the most certain queries are answered. The lower the line, the "
            "better the uncertainty; it cannot be below the oracle."
        )
    with right:
        st.subheader("Keeping the most certain", anchor=False)
        figure = kept_figure(np.array(KEEPS), recalls, height=380)
        st.plotly_chart(figure, key="kept", config={"displayModeBar": False})
        st.caption("Recall@1 when the most uncertain images are left out of the gallery, of the queries, or of both.")
    show_calibration(dataset)


def verdict(dataset: EmbeddedDataset, evaluation: Evaluation) -> None:
    """What the numbers come to, in a sentence, with the way to something better where there is one."""
    u, similarity = evaluation.r_auroc, evaluation.similarity_r_auroc
    if math.isnan(u) or math.isnan(similarity):
        return
    word = "little" if u < 0.6 else "something" if u < 0.7 else "much"
    text = f"On these images the uncertainty says **{word}** about wrong answers ({u:.2f}; chance is .50)"
    if similarity > u:
        text += (
            f", the similarity to the nearest image more ({similarity:.2f}), where there is a gallery to compare with"
        )
    st.markdown(f"{text}. Retrieval can hide by risk, which takes both into account.")
    if u < 0.7:
        st.page_link(PAGES["training"], label="Fit a head to these labels", icon=":material/school:")


def numbers(evaluation: Evaluation) -> None:
    columns = st.columns(4)
    columns[0].metric(
        "Recall@1",
        f"{evaluation.recall_at_1:.3f}",
        help="The share of images whose most similar other image has the same label. The uncertainty does not change "
        "it.",
        border=True,
    )
    columns[1].metric(
        "R-AUROC of the uncertainty",
        _number(evaluation.r_auroc),
        help="How well the uncertainty tells right from wrong answers: 0.5 says nothing, 1 is perfect. Not defined if "
        "all answers are right.",
        border=True,
    )
    columns[2].metric(
        "R-AUROC of the similarity",
        _number(evaluation.similarity_r_auroc),
        help="The same, with the similarity to the nearest neighbour in place of the uncertainty. It needs a gallery "
        "first; the uncertainty needs the image alone.",
        border=True,
    )
    columns[3].metric(
        "AURC",
        f"{evaluation.curve.aurc:.3f}",
        help=f"Area under the risk-coverage curve, lower is better. Random: {evaluation.random.aurc:.3f}, best "
        f"possible: {evaluation.oracle.aurc:.3f}.",
        border=True,
    )


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


main()
