"""The page that benchmarks/map.py compares the app's map with: the same points in st.plotly_chart."""

import numpy as np
import streamlit as st

from pvu.catalog import stores_folder
from pvu.figures import umap_map
from pvu.store import EmbeddedDataset

st.set_page_config(layout="wide")


@st.cache_resource
def opened(name: str) -> EmbeddedDataset:
    return EmbeddedDataset(stores_folder() / name)


dataset = opened(st.query_params["dataset"])
color_by = st.selectbox("Colour by", ["uncertainty", "label"])
figure = umap_map(dataset, color_by=color_by, rows=np.arange(len(dataset)))
if "bare" in st.query_params:
    figure.update_traces(text=None, hovertemplate=None)
st.plotly_chart(figure, key=f"map {color_by}", on_select="rerun", config={"scrollZoom": True})
