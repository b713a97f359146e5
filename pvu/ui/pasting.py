"""A picture from the clipboard: a button, and Ctrl+V anywhere on the page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from pvu.errors import BadImageError

LIMIT = 15 * 2**20
"""Bytes of a pasted picture at the most: it travels inside a message to the app, not as a file."""
_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "pvu_paste",
    html='<div class="paste"><button type="button">Paste a picture &nbsp;<kbd>Ctrl</kbd> + <kbd>V</kbd></button>'
    '<div class="said" role="status"></div></div>',
    css=(_HERE / "paste.css").read_text(encoding="utf-8"),
    js=(_HERE / "paste.js").read_text(encoding="utf-8"),
)


def pasted_picture(*, key: str) -> bytes | None:
    """Show the button.

    Returns:
        The bytes of the picture that was pasted in this run, undecoded and not to be trusted; else None.

    Raises:
        BadImageError: if something else, or something too large, has arrived.
    """
    result = _component(data={"limit": LIMIT}, key=key, on_pasted_change=lambda: None)
    pasted = result.get("pasted")
    return None if pasted is None else checked(pasted)


def checked(pasted: Any) -> bytes:
    """The bytes in what a browser has sent.

    Raises:
        BadImageError: if it is not base64, or too large.
    """
    text = pasted.get("data") if isinstance(pasted, Mapping) else None
    if not isinstance(text, str):
        raise BadImageError("the clipboard gave no picture")
    if len(text) > (LIMIT + 2) // 3 * 4:
        raise BadImageError(f"too large to paste: at most {LIMIT // 2**20} MB. Upload it as a file")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadImageError("the clipboard's picture did not arrive whole. Paste it again") from None
