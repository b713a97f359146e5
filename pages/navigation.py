"""The menu: every page, and what all of them share."""

import streamlit as st

from pvu.ui.history import tidy_history
from pvu.ui.panel import close_on_other_page, image_panel
from pvu.ui.state import PAGES, sidebar

st.set_page_config(page_title="pvu: which images are uncertain?", page_icon="◐", layout="wide")
page = st.navigation(
    [
        st.Page(PAGES["dataset"], title="Data set", icon=":material/folder_open:", url_path="dataset", default=True),
        st.Page(PAGES["map"], title="Map", icon=":material/scatter_plot:", url_path="map"),
        st.Page(PAGES["retrieval"], title="Retrieval", icon=":material/image_search:", url_path="retrieval"),
        st.Page(PAGES["review"], title="Review", icon=":material/rule:", url_path="review"),
        st.Page(PAGES["compare"], title="Compare", icon=":material/compare:", url_path="compare"),
        st.Page(PAGES["evaluation"], title="Evaluation", icon=":material/query_stats:", url_path="evaluation"),
        st.Page(PAGES["training"], title="Train", icon=":material/school:", url_path="train"),
        st.Page(PAGES["export"], title="Export", icon=":material/ios_share:", url_path="export"),
    ]
)
# Streamlit leaves a tenth of the screen empty on each side.
st.html("<style>.stMainBlockContainer { padding: 2.5rem clamp(1rem, 3vw, 3rem) 4rem; }</style>")
tidy_history()
close_on_other_page(page.url_path)
sidebar()
page.run()
image_panel()
