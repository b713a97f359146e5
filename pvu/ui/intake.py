"""Choose images: the demo, a folder on this computer, or an upload; and the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from pvu.archives import extract_zip, save_upload
from pvu.errors import PVUError
from pvu.images import EXTENSIONS
from pvu.jobs import DEMO
from pvu.progress import counted
from pvu.registry import DEFAULT, REGISTRY, availability, resolve
from pvu.ui.bringing import embeddings_form
from pvu.ui.runs import start
from pvu.ui.text import plain
from pvu.ui.typed import checked, roots_text

_OTHER = "another timm model …"


def demo_button() -> None:
    """Starts the demo, with the default model."""
    if st.button("Try the demo", type="primary", icon=":material/play_arrow:", key="demo"):
        start("embed", source=DEMO, model=DEFAULT, table=None)


def choose_source() -> None:
    """The form for images of one's own. Starts a run, or says in one sentence what is wrong."""
    model = _choose_model()
    folder, upload, brought = st.tabs(
        [
            ":material/folder: A folder on this computer",
            ":material/upload: Upload",
            ":material/dataset: Embeddings of your own",
        ]
    )
    with folder:
        _folder_form(model)
    with upload:
        _upload_form(model)
    with brought:
        embeddings_form()


def _choose_model() -> str:
    names = [*REGISTRY, _OTHER]
    chosen = st.selectbox(
        "Model",
        names,
        key="model",
        help="The frozen network that turns an image into an embedding. The first works offline and has an "
        "uncertainty head.",
    )
    if chosen == _OTHER:
        chosen = st.text_input(
            "timm model name, or ARCHITECTURE@FILE", placeholder="resnet50.a1_in1k", key="other_model"
        )
        if not chosen:
            st.stop()
    try:
        spec = resolve(chosen)
        if spec.source == "file":
            checked(spec.location, "file of weights")
    except PVUError as error:
        st.error(plain(error))
        st.stop()  # nothing can be started before the name is right
    ready, reason = availability(spec)
    has_head = spec.head is not None and spec.head.is_file()
    notes = [spec.note, reason if not ready else "", "" if has_head else "It has no uncertainty head yet."]
    st.caption(plain(" ".join(note for note in notes if note)))
    return chosen


def _folder_form(model: str) -> None:
    with st.form("folder_form", border=False):
        path = st.text_input(
            "Folder, or a file with images",
            placeholder="/home/me/photos",
            key="folder_path",
            persist_state="session",
            help="A folder of images, a .zip of one; or a data set of Hugging Face's datasets: a folder that "
            "save_to_disk has written, a snapshot of the hub, a .parquet or .arrow file. Their images are unpacked "
            "once, into pvu's own folder.",
        )
        table = st.text_input(
            "CSV with labels (optional)",
            placeholder="found by itself if it is named labels.csv and lies in the folder",
            key="table_path",
            persist_state="session",
            help="Columns: path, and label if there are labels; all others become columns to colour by. Without it, "
            "folder names are the labels.",
        )
        go = st.form_submit_button("Start", type="primary", icon=":material/play_arrow:")
    allowed = plain(roots_text())
    st.caption(f"Searched with all folders inside. Nothing in it is changed. Allowed: anything under {allowed}.")
    if go:
        _begin(lambda: checked(path, "folder"), model, str(_checked_table(table)) if table.strip() else None)


def _checked_table(text: str) -> Path | None:
    try:
        return checked(text, "CSV")
    except PVUError as error:
        st.error(plain(error))
        st.stop()


def _upload_form(model: str) -> None:
    kind = st.segmented_control("What to upload", ["Folder", ".zip"], default="Folder", key="upload_kind")
    if kind == ".zip":
        archive = st.file_uploader("A .zip of images", type=["zip"], key="upload_zip")
        if archive is not None and st.button("Start", type="primary", key="start_zip"):
            _begin(lambda: extract_zip(archive, name=Path(archive.name).stem), model)
    else:
        files = st.file_uploader(
            "A folder of images",
            type=[*sorted(suffix.lstrip(".") for suffix in EXTENSIONS), "csv"],
            accept_multiple_files="directory",
            key="upload_folder",
        )
        if files and st.button(f"Start with {counted(len(files), 'file')}", type="primary", key="start_upload"):
            _begin(lambda: save_upload(files), model)
    st.caption("For some thousand images. For more, give the path of a folder: nothing is copied then.")


def _begin(get_source: Callable[[], Path], model: str, table: str | None = None) -> None:
    try:
        source = get_source()
    except PVUError as error:
        st.error(plain(error), icon=":material/error:")
        return
    start("embed", source=str(source), model=model, table=table)
