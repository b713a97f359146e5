"""'Why uncertain?': which parts of a picture the uncertainty comes from, drawn over it."""

from __future__ import annotations

import base64
import html
import io

import streamlit as st

from pvu.errors import BadImageError, PVUError
from pvu.explain import LEGEND, explain, overlay
from pvu.images import open_rgb, read_bytes
from pvu.paths import is_allowed
from pvu.store import EmbeddedDataset
from pvu.ui.text import plain

_SIDE = 900


def show_why(dataset: EmbeddedDataset, row: int) -> None:
    """The picture with its doubtful and its clear parts coloured, and what was found in words."""
    try:
        picture, sentence = _explained(dataset.version, row, dataset)
    except PVUError as error:
        st.info(plain(error), icon=":material/help:")
        return
    large_picture(
        f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}", alt="Where the uncertainty comes from"
    )
    st.markdown(plain(sentence))
    st.caption(f"{LEGEND} The frame, if there is one, is the clearest crop.")


def large_picture(address: str, *, alt: str) -> None:
    """A picture as large as the column, and no taller than half a screen."""
    st.html(
        f'<img src="{html.escape(address, quote=True)}" alt="{html.escape(alt, quote=True)}" '
        'style="width:100%; max-height:56vh; object-fit:contain; background:#f0f1f3; border-radius:10px">'
    )


@st.cache_data(max_entries=64, show_spinner="Asking the model about parts of the picture …")
def _explained(version: str, row: int, _dataset: EmbeddedDataset) -> tuple[bytes, str]:
    del version  # the key
    path = _dataset.image_path(row)
    if not is_allowed(path):
        raise BadImageError(f"{path} is outside the folders that this app may read, so it cannot be explained.")
    image, _ = open_rgb(read_bytes(path), at_least=_SIDE)
    found = explain(image, _dataset.model)
    out = io.BytesIO()
    overlay(image, found, side=_SIDE).save(out, "JPEG", quality=88)
    return out.getvalue(), found.sentence
