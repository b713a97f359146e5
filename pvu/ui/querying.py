"""The query of the retrieval page: an image of the set, or a picture that the user brings."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import streamlit as st

from pvu.errors import BadImageError, PVUError
from pvu.images import open_rgb, read_bytes, thumbnail_bytes
from pvu.paths import is_allowed
from pvu.store import WARN_ABOVE, EmbeddedDataset
from pvu.ui.gallery import gallery_of
from pvu.ui.text import plain

SHOWN = 16
_PARAM = "query"


@dataclass(frozen=True)
class ChosenQuery:
    """What is searched with.

    Args:
        row: its row, if it is an image of the set.
        vector: (D,) float32, if it is a new picture.
        picture: JPEG bytes to show.
        uncertainty: u; NaN if the model has no head.
        name: what to call it.
    """

    row: int | None
    vector: np.ndarray | None
    picture: bytes
    uncertainty: float
    name: str

    @property
    def search_key(self) -> int | np.ndarray:
        """What ``EmbeddedDataset.search`` takes."""
        if self.row is not None:
            return self.row
        assert self.vector is not None
        return self.vector

    def label(self, dataset: EmbeddedDataset) -> str | None:
        """Its label, where it is an image of the set that has one."""
        return None if self.row is None else dataset.labels[self.row]


def choose_query(dataset: EmbeddedDataset) -> ChosenQuery | None:
    """Let the user choose a query; None while there is none."""
    query = _current(dataset)
    with st.expander("Choose another picture" if query else "Choose a picture to search with", expanded=query is None):
        pick, upload = st.tabs([":material/grid_view: From this data set", ":material/upload: A new picture"])
        with pick:
            _pick(dataset)
        with upload:
            _upload(dataset)
    return query


def show_query(query: ChosenQuery) -> None:
    """The query, large."""
    st.image(query.picture, width="stretch")


def show_uncertainty(dataset: EmbeddedDataset, query: ChosenQuery) -> None:
    """The query's own uncertainty, with a warning when it is high."""
    if not np.isfinite(query.uncertainty):
        return
    percentile = float(dataset.percentile(query.uncertainty))
    st.markdown(
        f"This picture is at least as uncertain as **{percentile:.0f} %** of the data set.",
        help=f"u = {query.uncertainty:.3f}. Its scale has no unit; what counts is the rank among the images.",
    )
    if percentile >= WARN_ABOVE:
        st.warning("The picture is itself uncertain, so its results may be of little use.", icon=":material/warning:")


def _current(dataset: EmbeddedDataset) -> ChosenQuery | None:
    upload = st.session_state.get("query_upload")
    if upload is not None:
        return _from_upload(dataset, upload)
    row = st.session_state.get("query_row", _row_of_link())
    if row is None or row >= len(dataset):
        return None
    st.session_state["query_row"] = row
    st.query_params[_PARAM] = str(row)
    return _from_row(dataset.version, row, dataset)


def _row_of_link() -> int | None:
    text = st.query_params.get(_PARAM, "")
    return int(text) if text.isdecimal() and len(text) < 10 else None


@st.cache_data(max_entries=64, show_spinner=False)
def _from_row(version: str, row: int, _dataset: EmbeddedDataset) -> ChosenQuery:
    del version  # the key
    path = _dataset.image_path(row)
    picture = _dataset.thumbnail(row)
    if is_allowed(path):  # the command line may have embedded a folder that the app may not read
        with suppress(BadImageError):  # the original has moved; the thumbnail is what is left
            picture = thumbnail_bytes(open_rgb(read_bytes(path), at_least=800)[0], 800)
    name = str(_dataset.images["path"].iloc[row])
    return ChosenQuery(row, None, picture, float(_dataset.uncertainty[row]), name)


def _from_upload(dataset: EmbeddedDataset, upload: tuple[str, bytes]) -> ChosenQuery | None:
    name, data = upload
    try:
        return _encode(dataset.version, hashlib.blake2b(data).hexdigest(), name, dataset, data)
    except PVUError as error:
        st.error(plain(f"{name}: {error}"), icon=":material/broken_image:")
        st.session_state.pop("query_upload")
        return None


@st.cache_data(max_entries=32, show_spinner="Looking at your picture …")
def _encode(version: str, digest: str, name: str, _dataset: EmbeddedDataset, _data: bytes) -> ChosenQuery:
    del version, digest  # the key
    image, _ = open_rgb(_data)
    vector, uncertainty, _ = _dataset.encode_query(image)
    return ChosenQuery(None, vector, thumbnail_bytes(image, 800), uncertainty, name)


def _pick(dataset: EmbeddedDataset) -> None:
    find, order_by, again = st.columns([3, 2, 1], vertical_alignment="bottom")
    text = find.text_input("Find in paths and labels", key="find", placeholder="cat, 2021/05, ...")
    orders = ["any", *(["most uncertain", "most certain"] if dataset.has_uncertainty else [])]
    order = order_by.selectbox("Show", orders, key="pick_order")
    if again.button("Others", icon=":material/casino:", width="stretch", help="Show other images"):
        st.session_state["pick_seed"] = st.session_state.get("pick_seed", 0) + 1
    rows = _matching(dataset, text)
    if len(rows) == 0:
        st.info(plain(f"No path or label holds “{text}”."))
        return
    if order in ("most uncertain", "most certain"):
        sign = -1 if order == "most uncertain" else 1
        rows = rows[np.argsort(sign * dataset.uncertainty[rows], kind="stable")]
        start = st.session_state.get("pick_seed", 0) * SHOWN % max(len(rows), 1)
        rows = np.roll(rows, -start)[:SHOWN]
    else:
        generator = np.random.default_rng(st.session_state.get("pick_seed", 0))
        rows = generator.permutation(rows)[:SHOWN]
    clicked = gallery_of(dataset, rows, key="pick", width=104)
    if clicked is not None:
        st.session_state["query_row"] = clicked
        st.session_state.pop("query_upload", None)
        st.rerun()


def _matching(dataset: EmbeddedDataset, text: str) -> np.ndarray:
    if not text:
        return np.arange(len(dataset))
    found = dataset.images["path"].str.contains(text, case=False, regex=False)
    found |= dataset.images["label"].fillna("").astype(str).str.contains(text, case=False, regex=False)
    return np.flatnonzero(found)


def _upload(dataset: EmbeddedDataset) -> None:
    file = st.file_uploader(
        "A picture", type=["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"], key="picture", max_upload_size=50
    )
    if file is not None and st.session_state.get("last_upload") != file.file_id:
        st.session_state["last_upload"] = file.file_id
        st.session_state["query_upload"] = (file.name, file.getvalue())
        st.session_state.pop("query_row", None)
        st.query_params.pop(_PARAM, None)
        st.rerun()
