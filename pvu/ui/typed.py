"""Paths that a person types in the browser: checked against what the app may read before anything is done with them."""

from __future__ import annotations

from pathlib import Path

from pvu.errors import PVUError
from pvu.paths import allowed_roots, is_allowed, typed_path


def roots_text() -> str:
    """The folders that the app may read, as a list of words."""
    return ", ".join(str(root) for root in allowed_roots()[:-1])


def checked(text: str, what: str) -> Path:
    """A path that a person typed, if it exists and lies under an allowed root.

    Args:
        text: as typed.
        what: what it is to be, such as "folder".

    Raises:
        PVUError: otherwise, with what to do.
    """
    if not text.strip():
        raise PVUError(f"Give the path of a {what}.")
    path = typed_path(text.strip())
    if not path.is_absolute():
        raise PVUError(f"{path} is not a full path. Give the whole way to the {what}, from / on.")
    if not is_allowed(path):
        raise PVUError(
            f"{path} is outside the folders that this app may read ({roots_text()}). To allow more, start it with "
            "PVU_ROOTS."
        )
    if not path.exists():
        raise PVUError(f"There is no {what} at {path}. Check the path.")
    return path.resolve()
