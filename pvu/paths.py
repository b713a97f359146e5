"""Where pvu keeps what it makes, and which folders it may read."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from pvu.errors import PVUError


def home() -> Path:
    """The folder of stores, uploads and jobs: the environment's PVU_HOME, or the user's cache directory."""
    return Path(os.environ.get("PVU_HOME") or platformdirs.user_cache_path("pvu")).expanduser().resolve()


def allowed_roots() -> list[Path]:
    """Folders that the app may read: PVU_ROOTS (separated as PATH is), or the user's home directory; and home()."""
    named = os.environ.get("PVU_ROOTS")
    roots = [Path(part) for part in named.split(os.pathsep) if part] if named else [Path.home()]
    return [root.expanduser().resolve() for root in roots] + [home()]


def typed_path(text: str | os.PathLike[str]) -> Path:
    """A path as a person gives it, with ``~`` expanded; whether anything is there is another question.

    Raises:
        PVUError: if no question about it can be answered: too long, an unknown ``~user``, a zero byte, no permission.
    """
    try:
        path = Path(text).expanduser()
        path.exists()  # minds length and rights
        os.path.realpath(path)  # minds zero bytes
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PVUError(f"{os.fspath(text)[:200]} cannot be read ({reason}). Check the path.") from error
    return path


def is_allowed(path: Path) -> bool:
    """Whether a path, with every link followed, lies under one of :func:`allowed_roots`."""
    # Unlike Path.resolve(), realpath() takes links that lead in a circle.
    resolved = Path(os.path.realpath(path.expanduser()))
    return any(resolved.is_relative_to(root) for root in allowed_roots())
