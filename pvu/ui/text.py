"""Names from files, folders and tables as they are written: Streamlit takes text for Markdown."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#!|<>~$:&])")


def plain(text: object) -> str:
    """Text that Markdown shows unchanged.

    A label such as ``![](https://example.org/x.png)`` in somebody else's table would make the browser fetch it.
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
