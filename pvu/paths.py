"""Where pvu keeps what it makes, and which folders it may read."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder of stores, uploads and jobs: the environment's PVU_HOME, or the user's cache directory."""
    return Path(os.environ.get("PVU_HOME") or platformdirs.user_cache_path("pvu")).expanduser().resolve()


def allowed_roots() -> list[Path]:
    """Folders that the app may read: PVU_ROOTS (separated as PATH is), or the user's home directory; and home()."""
    named = os.environ.get("PVU_ROOTS")
    roots = [Path(part) for part in named.split(os.pathsep) if part] if named else [Path.home()]
    return [root.expanduser().resolve() for root in roots] + [home()]


def is_allowed(path: Path) -> bool:
    """Whether a path, with every link followed, lies under one of :func:`allowed_roots`."""
    # Unlike Path.resolve(), realpath() takes links that lead in a circle.
    resolved = Path(os.path.realpath(path.expanduser()))
    return any(resolved.is_relative_to(root) for root in allowed_roots())
