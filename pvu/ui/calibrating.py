"""The evaluation page's section on risk: reliability before and after, and what can be promised."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pvu.figures import reliability_figure
from pvu.risk import Risk
from pvu.store import EmbeddedDataset
from pvu.ui.measures import risk_of, risk_reason
from pvu.ui.text import plain

_ECE = "Expected calibration error: how far the risk is from the share of wrong answers, on average over ten groups of "
_ECE += "images; below, the change from taking the percentile of u for a probability."
_BRIER = "Mean squared difference between the risk and what came, 0 or 1; below, the change from the percentile of u."
_COLUMNS = {
    "at most wrong": st.column_config.NumberColumn(format="%d %%", help="The share of wrong answers that is allowed."),
    "keeps": st.column_config.NumberColumn(format="%.0f %%", help="The share of this data set that may be a query."),
    "proved on": st.column_config.NumberColumn(format="%d", help="Queries set aside that the threshold keeps."),
    "of which wrong": st.column_config.NumberColumn(format="%d", help="How many of them were wrong."),
    "at worst": st.column_config.NumberColumn(
        format="%.1f %%", help="Upper end of the exact interval (Clopper and Pearson) of the share of wrong answers."
    ),
}


def show_calibration(dataset: EmbeddedDataset) -> None:
    """The section, or why there is none."""
    st.subheader("From uncertainty to risk", anchor=False)
    reason = risk_reason(dataset.version, dataset)
    if reason is not None:
        st.info(plain(reason), icon=":material/label:")
        return
    risk = risk_of(dataset.version, dataset)
    st.markdown(
        "The scale of u has no unit. The labels give it one: the risk is the chance that the nearest image has another "
        "label, learned from u and from how near that image is, and told for each image by a model that has not seen "
        "it."
    )
    left, right = st.columns(2, gap="large")
    with left:
        st.plotly_chart(
            reliability_figure(risk.before, risk.after), key="reliability", config={"displayModeBar": False}
        )
        st.caption(
            "Among images with a risk of 30 %, 30 % should be wrong: on the dotted line they are. Before: the "
            "percentile of u among the labelled images, taken for a probability."
        )
    with right:
        before, after = st.columns(2)
        before.metric("ECE", f"{risk.after.ece:.3f}", f"{risk.after.ece - risk.before.ece:.3f}", "inverse", help=_ECE)
        after.metric(
            "Brier", f"{risk.after.brier:.3f}", f"{risk.after.brier - risk.before.brier:.3f}", "inverse", help=_BRIER
        )
        st.dataframe(_guarantee_table(risk), hide_index=True, key="guarantees", column_config=_COLUMNS)
        for reason in filter(None, map(risk.why_not, list(risk.guarantees)[:1])):
            st.caption(plain(reason))
        st.caption(
            "What can be promised, each line with 90 % certainty, for queries that come as the labelled images came. "
            "The threshold is proved on two thirds of them, the model it belongs to was fitted on the rest."
        )


def _guarantee_table(risk: Risk) -> pd.DataFrame:
    rows = []
    for alpha, found in risk.guarantees.items():
        known = (
            (None, None, None, None)
            if found is None
            else (100 * risk.keeps(alpha).mean(), found.kept, found.wrong, 100 * found.bound)
        )
        rows.append((100 * alpha, *known))
    return pd.DataFrame(rows, columns=list(_COLUMNS))
