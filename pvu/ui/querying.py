"""The query of the retrieval page: images of the set, pictures that the user brings, or several of them together."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from pvu.errors import BadImageError, PVUError
from pvu.images import EXTENSIONS, open_rgb, thumbnail_bytes
from pvu.progress import counted
from pvu.store import EmbeddedDataset, Query
from pvu.ui.filtering import matching
from pvu.ui.gallery import Card, gallery_of, picking_gallery, unpick
from pvu.ui.linking import PICTURES
from pvu.ui.pasting import pasted_picture
from pvu.ui.serving import address
from pvu.ui.state import search_with, selection
from pvu.ui.text import plain
from pvu.ui.view import MOST_QUERIES, View

SHOWN = 16
_UPLOAD_MB = 50
_PROBLEMS = "query_problems"


@dataclass(frozen=True)
class Picture:
    """A picture that the user has brought.

    Args:
        name: of its file.
        digest: of its bytes.
        vector: (D,) float32.
        uncertainty: u; NaN if the model has no head.
        shown: a JPEG of it.
    """

    name: str
    digest: str
    vector: np.ndarray
    uncertainty: float
    shown: bytes


@dataclass(frozen=True)
class ChosenQuery:
    """What is searched with: rows of the set, or pictures from elsewhere; one, or several together.

    Args:
        dataset: the set.
        rows: images of the set.
        pictures: others; empty if there are rows.
    """

    dataset: EmbeddedDataset
    rows: tuple[int, ...]
    pictures: tuple[Picture, ...]

    @property
    def count(self) -> int:
        return len(self.rows) + len(self.pictures)

    @property
    def search_key(self) -> list[Query]:
        """What ``EmbeddedDataset.search`` takes."""
        return [*self.rows, *(picture.vector for picture in self.pictures)]

    @property
    def cache_key(self) -> str:
        """A string for what is searched with."""
        return ",".join([*map(str, self.rows), *(picture.digest for picture in self.pictures)])

    @property
    def names(self) -> list[str]:
        paths = self.dataset.images["path"]
        return [*(str(paths.iloc[row]) for row in self.rows), *(picture.name for picture in self.pictures)]

    @property
    def title(self) -> str:
        """What to call it: the label of an image of the set that has one, or the name."""
        if self.count > 1:
            return f"{self.count} images together"
        return self.label or self.names[0]

    @property
    def label(self) -> str | None:
        """The label of all its images, where they are of the set and have the same."""
        labels = {self.dataset.labels[row] for row in self.rows}
        return labels.pop() if len(labels) == 1 else None

    @property
    def uncertainty(self) -> float:
        """The highest u of its images; NaN if the model has no head."""
        return float(max([*self.dataset.uncertainty[list(self.rows)], *(each.uncertainty for each in self.pictures)]))


def choose_query(dataset: EmbeddedDataset, view: View) -> ChosenQuery | None:
    """Let the user choose a query; None while there is none."""
    version, pictures = st.session_state.get(PICTURES, ("", ()))
    pictures = () if view.rows or version != dataset.version else pictures
    query = ChosenQuery(dataset, view.rows, pictures) if view.rows or pictures else None
    for problem in st.session_state.pop(_PROBLEMS, []):
        st.error(plain(problem), icon=":material/broken_image:")
    with st.expander("Choose another picture" if query else "Choose a picture to search with", expanded=query is None):
        pick, upload = st.tabs([":material/grid_view: From this data set", ":material/upload: A new picture"])
        with pick:
            _pick(dataset)
        with upload:
            _bring(dataset)
    return query


def show_query(query: ChosenQuery) -> None:
    """The query, large; several of them small."""
    if query.pictures:
        width = "stretch" if query.count == 1 else 96
        st.image([picture.shown for picture in query.pictures], width=width)  # type: ignore[arg-type]
        st.caption("A link to this page cannot hold your own pictures.")
    elif query.count == 1:
        source = f"{address(query.dataset)}/image/{query.rows[0]}"
        name = html.escape(query.names[0], quote=True)
        st.html(f'<img src="{source}" alt="{name}" style="width:100%; max-height:40vh; object-fit:contain">')
    else:
        clicked = gallery_of(query.dataset, np.array(query.rows), key="query", width=72)
        if clicked is not None:
            search_with(clicked)


def _pick(dataset: EmbeddedDataset) -> None:
    find, order_by, again = st.columns([3, 2, 1], vertical_alignment="bottom")
    text = find.text_input("Find in paths and labels", key="find", placeholder="cat, 2021/05, ...").strip()
    orders = ["any", *(["most uncertain", "most certain"] if dataset.has_uncertainty else [])]
    order = order_by.selectbox("Show", orders, key="pick_order")
    if again.button("Others", icon=":material/casino:", width="stretch", help="Show other images"):
        st.session_state["pick_seed"] = st.session_state.get("pick_seed", 0) + 1
    rows = _offered(dataset, text, order, st.session_state.get("pick_seed", 0))
    if len(rows) == 0:
        st.info(plain(f"No path or label holds “{text}”."))
        return
    event = picking_gallery(dataset, [Card(int(row)) for row in rows], key="pick", action="search with it", width=104)
    st.caption("Click an image to search with it. Tick several to search for what they have in common.")
    _together(event.picked, "ticked", "pick_ticked")
    _together(selection(dataset), "selected on the map", "pick_selected")
    if event.clicked is not None:
        search_with(event.clicked)


def _offered(dataset: EmbeddedDataset, text: str, order: str, seed: int) -> np.ndarray:
    rows = np.flatnonzero(matching(dataset.version, text, dataset))
    if order == "any":
        return np.random.default_rng(seed).permutation(rows)[:SHOWN]
    sign = -1 if order == "most uncertain" else 1
    rows = rows[np.argsort(sign * dataset.uncertainty[rows], kind="stable")]
    return np.roll(rows, -(seed * SHOWN % max(len(rows), 1)))[:SHOWN]


def _together(rows: Sequence[int] | np.ndarray, how: str, key: str) -> None:
    """A button to search with several images of the set."""
    if len(rows) == 0:
        return
    too_many = len(rows) > MOST_QUERIES
    pressed = st.button(
        f"Search with the {counted(len(rows), 'image')} {how}",
        key=key,
        icon=":material/image_search:",
        disabled=too_many,
        help=f"At most {MOST_QUERIES} at once." if too_many else "With the mean of their normalised embeddings.",
    )
    if pressed:
        unpick("pick")
        st.session_state["query_row"] = tuple(int(row) for row in rows)
        st.rerun()


def _bring(dataset: EmbeddedDataset) -> None:
    if not dataset.has_encoder:
        st.info(
            plain(
                f"The embeddings of {dataset.name} were brought, not made here, so no new picture can be compared with "
                "them. Search with images of the set."
            )
        )
        return
    files, paste = st.columns([3, 2], gap="medium")
    with files:
        uploads = st.file_uploader(
            "Pictures, by a click or dragged here",
            type=sorted(suffix.lstrip(".") for suffix in EXTENSIONS),
            accept_multiple_files=True,
            key="picture",
            max_upload_size=_UPLOAD_MB,
            help="What is dropped here together is searched with together.",
        )
    arrived = [(upload.name, upload.getvalue()) for upload in _new(uploads)]
    with paste:
        try:
            pasted = pasted_picture(key="paste")
            arrived += [] if pasted is None else [("pasted picture", pasted)]
        except BadImageError as error:
            st.error(plain(f"pasted picture: {error}"), icon=":material/broken_image:")
    if arrived:
        _take(dataset, arrived)


def _new(uploads: list[UploadedFile]) -> list[UploadedFile]:
    """The files that have come since the last run; the uploader goes on holding those before."""
    before = st.session_state.get("seen_uploads", ())
    st.session_state["seen_uploads"] = tuple(upload.file_id for upload in uploads)
    return [upload for upload in uploads if upload.file_id not in before]


def _take(dataset: EmbeddedDataset, arrived: list[tuple[str, bytes]]) -> None:
    """Make brought pictures the query; those that cannot be used are named in the next run."""
    pictures, problems = [], []
    if len(arrived) > MOST_QUERIES:
        problems.append(f"{len(arrived)} pictures are too many to search with at once; at most {MOST_QUERIES} are.")
        arrived = []
    for name, data in arrived:
        try:
            pictures.append(_encode(dataset.version, hashlib.blake2b(data).hexdigest(), name, dataset, data))
        except PVUError as error:
            problems.append(f"{name}: {error}")
    st.session_state[_PROBLEMS] = problems
    if pictures:
        st.session_state["query_row"] = ()
        st.session_state[PICTURES] = (dataset.version, tuple(pictures))
    st.rerun()


@st.cache_data(max_entries=64, show_spinner="Looking at your picture …")
def _encode(version: str, digest: str, name: str, _dataset: EmbeddedDataset, _data: bytes) -> Picture:
    del version  # part of the key
    image, _ = open_rgb(_data)
    vector, uncertainty, _ = _dataset.encode_query(image)
    return Picture(name, digest, vector, uncertainty, thumbnail_bytes(image, 800))
