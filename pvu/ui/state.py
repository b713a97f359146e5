"""Which data set is open, which images are selected: kept across pages, reloads and shared links."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import streamlit as st

from pvu.catalog import find_stores, read_manifest, stores_folder
from pvu.errors import PVUError, StoreError
from pvu.progress import counted
from pvu.store import EmbeddedDataset
from pvu.ui.text import plain

_STORE = "pvu_store"
_PARAM = "dataset"
_VERSION = "pvu_version"
_NAMES = ("dataset", "map", "retrieval", "review", "compare", "evaluation", "training", "export")
PAGES = {name: f"{name}.py" for name in _NAMES}
"""The pages' files, as seen from pages/navigation.py."""


@st.cache_resource(max_entries=4, show_spinner="Opening the data set …")
def _open(path: str, created: str) -> EmbeddedDataset:
    del created  # part of the key: a new run of the same folder is opened anew
    return EmbeddedDataset(Path(path))


def opened(path: Path) -> EmbeddedDataset:
    """A store beside the open one, opened once for all pages and visitors.

    Raises:
        StoreError: if it is gone or damaged.
    """
    return _open(str(path), read_manifest(path)["created"])


def open_store(path: Path) -> None:
    """Make a store the one that every page shows."""
    st.session_state[_STORE] = str(path)
    st.query_params[_PARAM] = path.name
    st.query_params.pop("query", None)
    _forget_rows()


def close_store() -> None:
    """Show no data set, so that another can be chosen."""
    st.session_state.pop(_STORE, None)
    st.query_params.pop(_PARAM, None)


def current_dataset() -> EmbeddedDataset | None:
    """The open data set, or None. The address names it, so a reload or a shared link opens it again."""
    _restore()
    if _STORE not in st.session_state:
        return None
    path = Path(st.session_state[_STORE])
    try:
        dataset = opened(path)
    except PVUError as error:
        close_store()
        st.error(plain(error))
        return None
    if st.query_params.get(_PARAM) != path.name:
        st.query_params[_PARAM] = path.name
    if st.session_state.setdefault(_VERSION, dataset.version) != dataset.version:
        st.session_state[_VERSION] = dataset.version
        _forget_rows()  # the folder was embedded anew
    return dataset


def _restore() -> None:
    """Open what the address names: it comes from a link, a reload, or the browser's Back button.

    Only a name, looked up among the stores: it cannot point anywhere else.
    """
    wanted = st.query_params.get(_PARAM)
    if wanted is None or Path(st.session_state.get(_STORE, "")).name == wanted:
        return
    match = next((path for path in find_stores() if path.name == wanted), None)
    if match is None:
        st.query_params.pop(_PARAM)
        st.warning("The data set that this link names is not on this computer. Choose one on the first page.")
        return
    if _STORE in st.session_state:
        _forget_rows()
    st.session_state[_STORE] = str(match)


def _forget_rows() -> None:
    """A row of another data set is another image."""
    for key in ("query_row", "pvu_panel", "pvu_last_image"):
        st.session_state.pop(key, None)


def require_dataset(what: str) -> EmbeddedDataset:
    """The open data set; without one, says what this page would show and where to begin, and ends the page.

    Args:
        what: what the page shows, to end the sentence "Once a data set is open, this page shows ...".
    """
    dataset = current_dataset()
    if dataset is None:
        st.info(f"No data set is open yet. Once one is, this page shows {what}.", icon=":material/info:")
        st.page_link(PAGES["dataset"], label="Choose images, or try the demo", icon=":material/folder_open:")
        st.stop()
    return dataset


def sidebar() -> None:
    """The open data set, and the way to another one that was embedded before."""
    stores = [path for path in find_stores() if path.is_relative_to(stores_folder())]
    if not stores:
        return
    _restore()
    current = st.session_state.get(_STORE)
    names = _describe(stores)
    options = list(names)
    with st.sidebar:
        chosen = st.selectbox(
            "Open data set",
            options,
            index=options.index(current) if current in options else None,  # type: ignore[arg-type]
            format_func=lambda path: names[path],
            placeholder="choose one",
            help="Every folder that was embedded on this computer. Nothing is computed again.",
        )
    if chosen is not None and chosen != current:
        open_store(Path(chosen))
        st.rerun()


def _describe(paths: list[Path]) -> dict[str, str]:
    """What to call each store: short, with the model only where one folder was embedded with several."""
    manifests = {}
    for path in paths:
        with suppress(StoreError):  # deleted or replaced in this moment
            manifests[str(path)] = read_manifest(path)
    times = Counter(manifest["name"] for manifest in manifests.values())
    return {
        path: f"{manifest['name']} · {counted(manifest['counts']['images'], 'image')}"
        + (" · own head" if "fitted_head" in manifest else "")
        + (f" · {manifest['model']}" if times[manifest["name"]] > 1 else "")
        for path, manifest in manifests.items()
    }


def selection(dataset: EmbeddedDataset) -> np.ndarray:
    """The rows selected on the map, kept across pages and colours. (s,) int."""
    rows: np.ndarray = st.session_state.get(f"selection:{dataset.version}", np.empty(0, np.int64))
    return rows


def set_selection(dataset: EmbeddedDataset, rows: np.ndarray) -> None:
    """Replace the selection."""
    st.session_state[f"selection:{dataset.version}"] = rows


def search_with(row: int) -> None:
    """Take an image as the query and go to the retrieval page."""
    st.session_state["query_row"] = row
    st.switch_page(PAGES["retrieval"], query_params=st.query_params.to_dict())  # emptied, it were a step of the browser


def show_on_map(row: int) -> None:
    """Go to the map, with a ring around an image."""
    st.session_state["pvu_last_image"] = row
    st.switch_page(PAGES["map"])
