"""The table of clusters below the map: a click on one narrows the map to it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pvu.progress import counted
from pvu.store import EmbeddedDataset
from pvu.ui.filtering import CLUSTER, chosen_cluster
from pvu.ui.text import plain

_COLUMNS = {
    "name": st.column_config.TextColumn("Group", help="The commonest label or folder of its images."),
    "size": st.column_config.NumberColumn("Images", format="localized", help="How many images lie in the group."),
    "label_share": st.column_config.NumberColumn(
        "So named", format="%.0f %%", help="The share of its images that have that label or folder."
    ),
    "median_percentile": st.column_config.ProgressColumn(
        "Uncertainty",
        min_value=0,
        max_value=100,
        format="%.0f %%",
        help="The median over its images: at least as uncertain as this share of the data set.",
    ),
}


@st.cache_data(max_entries=8, show_spinner="Looking for groups on the map …")
def _table(version: str, _dataset: EmbeddedDataset) -> pd.DataFrame:
    del version  # the key
    table = _dataset.clusters.table
    return table.assign(label_share=100 * table["label_share"])


def cluster_table(dataset: EmbeddedDataset) -> None:
    """Show the groups of images that lie together on the map, the largest first."""
    with st.expander("Groups on the map", icon=":material/bubble_chart:", expanded=chosen_cluster(dataset) is not None):
        table = _table(dataset.version, dataset)
        if table.empty:
            st.caption("No groups stand out on this map.")
            return
        key = f"clusters:{st.session_state.get('clusters_cleared', 0)}"

        def narrow() -> None:
            rows = st.session_state[key]["selection"]["rows"]
            if rows:
                st.session_state[CLUSTER] = (dataset.version, int(table["cluster"].iloc[rows[0]]))
            else:
                st.session_state.pop(CLUSTER, None)

        columns = [name for name in _COLUMNS if table[name].notna().any()]
        st.dataframe(
            table[columns],
            column_config=_COLUMNS,
            hide_index=True,
            height=min(38 * len(table) + 40, 320),
            key=key,
            on_select=narrow,
            selection_mode="single-row",
        )
        loose = len(dataset) - int(table["size"].sum())
        st.caption(
            f"{counted(len(table), 'group')} of images that lie close together; {counted(loose, 'image')} in none. "
            "Choose a row to narrow the map to it."
        )


def cluster_chip(dataset: EmbeddedDataset) -> None:
    """Above the map: which group it is narrowed to, and the way back."""
    cluster = chosen_cluster(dataset)
    if cluster is None:
        return
    name = _table(dataset.version, dataset).set_index("cluster")["name"].get(cluster, "a group")
    if st.button(
        f"Only the group {plain(name)}", icon=":material/close:", key="cluster_off", help="Show the whole map again"
    ):
        st.session_state.pop(CLUSTER, None)
        # Another table: a row cannot be unchosen from here.
        st.session_state["clusters_cleared"] = st.session_state.get("clusters_cleared", 0) + 1
        st.rerun()
