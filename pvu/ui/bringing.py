"""The form for embeddings that somebody has computed already."""

from __future__ import annotations

import streamlit as st

from pvu.errors import PVUError
from pvu.registry import DEFAULT
from pvu.ui.runs import start
from pvu.ui.text import plain
from pvu.ui.typed import checked, roots_text


def embeddings_form() -> None:
    """Starts making a data set of files that are there, or says in one sentence what is wrong."""
    st.markdown("Embeddings from a model of your own get the same map, search and review. Nothing of yours is changed.")
    with st.form("bring_form", border=False):
        left, right = st.columns(2, gap="large")
        with left:
            embeddings, table, uncertainty = _files()
        with right:
            images, name, space = _about_them()
        measure = st.checkbox(
            "Take the uncertainties from the default model",
            key="bring_measure",
            help="For embeddings without uncertainties. It looks at each image, so it needs the files.",
        )
        go = st.form_submit_button("Make the data set", type="primary", icon=":material/play_arrow:")
    st.caption(f"Allowed: anything under {plain(roots_text())}.")
    if not go:
        return
    try:
        arguments = {
            "embeddings": str(checked(embeddings, "file of embeddings")),
            "table": _optional(table, "table"),
            "uncertainty": _optional(uncertainty, "file of uncertainties"),
            "images": _optional(images, "folder"),
        }
    except PVUError as error:
        st.error(plain(error), icon=":material/error:")
        return
    words = {"name": name.strip() or None, "space": space.strip() or None}
    start("bring", **arguments, **words, uncertainty_model=DEFAULT if measure else None)


def _files() -> tuple[str, str, str]:
    """The fields for the files: embeddings, table, uncertainties."""
    embeddings = st.text_input(
        "Embeddings",
        placeholder="/home/me/clip.npy",
        key="bring_embeddings",
        help="A .npy of shape (N, D), or a .parquet with a column of lists of numbers.",
    )
    table = st.text_input(
        "Table (optional)",
        placeholder="/home/me/images.csv",
        key="bring_table",
        help="A .csv or .parquet with a row for each embedding, in the same order. Columns: path, label, uncertainty, "
        "each if there is one; all others become columns to colour by. A Parquet file of embeddings may have these "
        "columns itself.",
    )
    uncertainty = st.text_input(
        "Uncertainties (optional)",
        placeholder="a column of the table, if it has one",
        key="bring_uncertainty",
        help="A .npy of shape (N,): higher is more uncertain.",
    )
    return embeddings, table, uncertainty


def _about_them() -> tuple[str, str, str]:
    """The fields for what belongs to them: the images' folder, a name, what made them."""
    images = st.text_input(
        "Folder of the images (optional)",
        placeholder="/home/me/photos",
        key="bring_images",
        help="What the table's paths are relative to. Without it there are grey tiles in place of pictures, unless the "
        "paths are full ones.",
    )
    name = st.text_input("Name (optional)", placeholder="the file's name", key="bring_name")
    space = st.text_input(
        "What made them (optional)",
        placeholder="clip-vit-b-32",
        key="bring_space",
        help="Two sets of embeddings with the same words here can be laid on one map, on the page Compare.",
    )
    return images, name, space


def _optional(text: str, what: str) -> str | None:
    return str(checked(text, what)) if text.strip() else None
