"""From a folder (and perhaps a CSV) to the table of its images: paths, labels, what is not an image and why."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from pvu.archives import extract_zip
from pvu.errors import SourceError
from pvu.images import EXTENSIONS
from pvu.paths import is_allowed, typed_path
from pvu.progress import ProgressCallback
from pvu.table_source import tables_in, unpack_tables
from pvu.tables import SUFFIXES

TABLE_NAMES = ("labels.csv", "metadata.csv", "images.csv")
# Columns of a store that a CSV's own columns must not overwrite.
RESERVED = frozenset(
    {"row", "path", "label", "width", "height", "bytes", "mtime_ns", "content_hash", "status", "error", "uncertainty"}
    | {"thumb_offset", "thumb_bytes", "similarity", "percentile", "map_x", "map_y"}
)
# Share of the images that must lie at one depth for their folders to be taken as labels: a few strays do not decide.
_LABEL_DEPTH_SHARE = 0.9


def resolve_source(
    source: str | os.PathLike[str],
    *,
    progress: ProgressCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """The folder behind a source: a folder of images itself, or where a .zip or tables are unpacked, under PVU_HOME.

    Tables are .parquet or .arrow files with an image in every row, or a folder of them: what Hugging Face's
    ``datasets.save_to_disk`` writes, or a snapshot of its hub. Unpacked once, after safety checks.

    Args:
        source: a path.
        progress: gets a Progress while tables are unpacked.
        should_stop: asked meanwhile.

    Raises:
        PVUError: if there is nothing at the path, or nothing of these kinds.
        Cancelled: if should_stop said so.
    """
    path = typed_path(source)
    if not _is_utf8(str(path)):
        raise SourceError(f"The name of {os.fsencode(path)!r} is not valid UTF-8. Rename it.")
    if path.is_file() and path.suffix.lower() == ".zip":
        return extract_zip(path)
    is_table = path.is_file() and path.suffix.lower() in SUFFIXES
    if is_table or (path.is_dir() and tables_in(path)):
        return unpack_tables(path.resolve(), progress=progress, should_stop=should_stop)
    if path.is_dir():
        return path.resolve()
    if not path.exists():
        raise SourceError(f"There is no folder or .zip at {path}. Check the path.")
    raise SourceError(
        f"{path} is neither a folder nor a .zip, .parquet or .arrow file. Give the folder that holds the images."
    )


def find_images(root: Path, *, table: Path | None = None) -> pd.DataFrame:
    """List every file of a folder, recursively: the images, and the rest with the reason why they are left out.

    Labels come from the table if there is one (a CSV with the columns ``path`` and perhaps ``label``; its other columns
    are kept), else from the folder names where the tree is folder-per-label, else there are none. Hidden files and
    folders are ignored, and links to folders listed, since they may lead in a circle.

    Args:
        root: an existing folder.
        table: the CSV; None looks for labels.csv, metadata.csv or images.csv in the folder.

    Returns:
        One row a file, sorted by path: ``path`` (relative, with /), ``label`` (str or None), ``bytes`` and ``mtime_ns``
        (int64), ``error`` (str, or None for images to decode), and the table's other columns.

    Raises:
        SourceError: if the folder has no images, or the table cannot be used.
    """
    table = table or _table_in(root)
    unread: list[OSError] = []
    found = [path for path in _files(root, unread) if table is None or path != table.resolve()]
    rows = sorted([_describe(root, path) for path in found] + [_describe_folder(root, error) for error in unread])
    files = pd.DataFrame([row[:3] for row in rows], columns=["path", "bytes", "mtime_ns"])
    files["error"] = pd.Series([row[3] for row in rows], dtype=object)
    if files["error"].isna().sum() == 0:
        listed = f" ({len(files)} other files)" if len(files) else ""
        raise SourceError(
            f"Found 0 images in {root}{listed}. Supported extensions: {', '.join(sorted(EXTENSIONS))}. "
            "Give the folder that holds the images; folders inside it are searched too."
        )
    if table is not None:
        files = _join_table(files, root, table)
    else:
        images = [path for path, _, _, error in rows if error is None]  # what else lies there has no say in labels
        labels = dict(zip(images, folder_labels(images), strict=True))
        files["label"] = pd.Series([labels.get(path) for path in files["path"]], dtype=object)
    first = ["path", "label", "bytes", "mtime_ns", "error"]
    return files[first + [column for column in files if column not in first]]


def _table_in(root: Path) -> Path | None:
    """A CSV of one of the usual names that has a column of paths; any other CSV is just a file that is no image."""
    for name in TABLE_NAMES:
        path = root / name
        if path.is_file() and not _leads_outside(root, path) and path_column(read_table(path, nrows=0)):
            return path.resolve()
    return None


def read_table(path: Path, *, nrows: int | None = None) -> pd.DataFrame:
    """A CSV with its label as text, and each other column of one type. An empty file has no columns.

    Raises:
        SourceError: if it cannot be read.
    """
    try:
        table = pd.read_csv(path, nrows=nrows, encoding="utf-8-sig", low_memory=False)
        if "label" in table:
            # "7" and "007" are two labels, and "None" and "NA" are labels too: only an empty field is none.
            written = {"usecols": ["label"], "dtype": str, "keep_default_na": False}
            text = pd.read_csv(path, nrows=nrows, encoding="utf-8-sig", **written)["label"]
            table["label"] = pd.Series([label.strip() or None for label in text], dtype=object)
        return table
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise SourceError(f"Cannot read the table {path}: {error}. Expected a CSV in UTF-8.") from error


def path_column(table: pd.DataFrame) -> str | None:
    """The name of the column of paths, if a table has one."""
    return next((name for name in ("path", "file_name", "filename") if name in table.columns), None)


def _files(root: Path, unread: list[OSError]) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root, onerror=unread.append):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name != "__MACOSX")
        linked = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
        for name in sorted(names + linked):
            if not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini"):
                yield Path(folder, name)


def _describe_folder(root: Path, error: OSError) -> tuple[str, int, int, str | None]:
    relative = os.path.relpath(error.filename, root)
    return f"{relative}/", 0, 0, f"a folder that cannot be read ({error.strerror or error})"


def _describe(root: Path, path: Path) -> tuple[str, int, int, str | None]:
    relative = path.relative_to(root).as_posix()
    if not _is_utf8(relative):
        return os.fsencode(relative).decode(errors="backslashreplace"), 0, 0, "its name is not valid UTF-8: rename it"
    if path.suffix.lower() not in EXTENSIONS:
        if path.is_dir():
            return f"{relative}/", 0, 0, "a link to a folder, which is not followed: embed that folder itself"
        return relative, 0, 0, f"not an image type that is read ({path.suffix or 'no extension'})"
    if _leads_outside(root, path):
        return relative, 0, 0, "a link that leads outside the folder"
    try:
        stat = path.stat()
    except OSError as error:
        return relative, 0, 0, f"cannot be read ({error.strerror or error})"
    return relative, stat.st_size, stat.st_mtime_ns, "empty file" if stat.st_size == 0 else None


def _leads_outside(root: Path, path: Path) -> bool:
    target = Path(os.path.realpath(path))  # unlike resolve(), it takes links that lead in a circle
    return path.is_symlink() and not (target.is_relative_to(root) or is_allowed(target))


def _is_utf8(name: str) -> bool:
    """Linux takes any bytes as a name; those that are no UTF-8 can be written neither to JSON nor to Parquet."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def folder_labels(paths: list[str]) -> list[str | None]:
    """Labels from folder names, where the tree is folder-per-label; None for each image otherwise.

    The label is the parent folder (``train/cat/1.jpg`` is a cat); where all parents have one name
    (``cat/images/1.jpg``), it is the folder above. Images away from the common depth get no label.
    """
    folders = [PurePosixPath(path).parts[:-1] for path in paths]
    depth, at_depth = Counter(len(parts) for parts in folders).most_common(1)[0]
    if depth == 0 or at_depth < _LABEL_DEPTH_SHARE * len(paths):
        return [None] * len(paths)
    for level in range(depth - 1, -1, -1):
        labels = [parts[level] if len(parts) == depth else None for parts in folders]
        if len({label for label in labels if label is not None}) > 1:
            return labels
    return [None] * len(paths)


def _join_table(files: pd.DataFrame, root: Path, table: Path) -> pd.DataFrame:
    listed = read_table(table)
    column = path_column(listed)
    if column is None:
        raise SourceError(f"The table {table} has the columns {list(listed.columns)}, but needs one named 'path'.")
    listed = listed.rename(columns={column: "path"})
    listed["path"] = [_relative(str(path), root) for path in listed["path"]]
    listed = listed.drop_duplicates("path", keep="last")
    listed = listed.rename(columns=free_names(list(listed.columns)))
    if "label" in listed:
        labels = listed["label"]
        listed["label"] = [None if pd.isna(label) else str(label) for label in labels]
    else:
        listed["label"] = None
    joined = files.merge(listed, on="path", how="left", sort=False)
    joined["label"] = pd.Series([None if pd.isna(v) else v for v in joined["label"]], dtype=object, index=joined.index)
    absent = listed.loc[~listed["path"].isin(files["path"]), "path"]
    if absent.empty:
        return joined
    missing = pd.DataFrame({"path": absent, "bytes": 0, "mtime_ns": 0, "label": None})
    missing["error"] = f"listed in {table.name}, but not in the folder"
    return pd.concat([joined, missing], ignore_index=True)


def free_names(columns: list[str]) -> dict[str, str]:
    """New names for a table's columns that would overwrite a store's own."""
    renamed: dict[str, str] = {}
    for name in columns:
        if name in RESERVED - {"path", "label"}:
            renamed[name] = f"{name}_from_table"
            while renamed[name] in columns:
                renamed[name] += "_"
    return renamed


def _relative(path: str, root: Path) -> str:
    given = Path(path)
    if given.is_absolute() and given.is_relative_to(root):
        return given.relative_to(root).as_posix()
    return PurePosixPath(path.replace("\\", "/")).as_posix()


def table_hash(files: pd.DataFrame) -> str:
    """A hash of everything that :func:`find_images` found: paths, sizes, times, labels, other columns."""
    return hashlib.blake2b(files.to_json(orient="split").encode(), digest_size=16).hexdigest()
