"""The app: streamlit run app.py

Streamlit serves the pages of pages/navigation.py, and beside them the routes that bring pictures to the browser.
"""

import streamlit as st

from pvu.ui.serving import ROUTES

app = st.App("pages/navigation.py", routes=ROUTES)
