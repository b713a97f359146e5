"""Tag images with keys, or in bulk from what is ticked; take it back; see how many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from pvu.errors import PVUError
from pvu.progress import counted
from pvu.store import EmbeddedDataset
from pvu.tags import DROP, FIX, KEEP, TAGS, UNSURE, Tags
from pvu.ui.gallery import GalleryEvent, unpick
from pvu.ui.text import plain

KEYS = {"k": KEEP, "d": DROP, "f": FIX, "u": UNSURE, "z": "undo"}
LEGEND = (
    "Keys, for the framed image or those ticked: **K** keep, **D** drop, **F** fix label, **U** unsure, **Z** undo; "
    "arrows move, the space bar ticks."
)
_ICONS = {KEEP: ":material/check:", DROP: ":material/delete:", UNSURE: ":material/help:", FIX: ":material/edit:"}
_ERROR = "tagging_error"
_SAID = "tagging_said"
_RELABEL = "tagging_relabel"


def take_presses(
    dataset: EmbeddedDataset, event: GalleryEvent, *, key: str, suggested: Mapping[int, str] | None = None
) -> None:
    """Do what the keys pressed in a gallery mean, then run again to show it.

    Call it right after the gallery, before anything else is shown: the next key can end this run at any call of
    Streamlit, and the gallery does not tell of a press twice. For the same reason nothing is shown in here.

    Args:
        dataset: where the gallery's images are from.
        event: what the gallery returned.
        key: of its :func:`tag_bar`, which asks for a label.
        suggested: the label that F gives to a row; for other rows F asks for one.
    """
    if not event.pressed:
        return
    notes: dict[str, Any] = {}
    for press in event.pressed:
        rows = list(press.rows)
        if press.key == "z":
            notes |= _undone(dataset)
        elif press.key != "f":
            notes |= _tagged(dataset, rows, KEYS[press.key])
        elif suggested and all(row in suggested for row in rows):
            notes |= _tagged(dataset, rows, FIX, [suggested[row] for row in rows])
        else:
            notes[_RELABEL] = (dataset.version, key, rows)
    st.session_state.update(notes)
    st.rerun()


def tag_bar(
    dataset: EmbeddedDataset,
    picked: Sequence[int],
    *,
    key: str,
    suggested: Mapping[int, str] | None = None,
    legend: str = LEGEND,
) -> None:
    """Buttons that tag what is ticked in a gallery or chosen elsewhere, the undo button, and the count of each tag.

    Args:
        dataset: the data set.
        picked: the rows.
        key: the gallery's, whose ticks are taken off afterwards.
        suggested: labels that can be accepted, by row.
        legend: which keys do the same.
    """
    _show_what_happened()
    count = len(picked)
    on = f"Tags the {counted(count, 'chosen image')}." if count else "Tick images first; shift and click ticks a range."
    buttons = st.container(horizontal=True, vertical_alignment="center")
    offer = partial(_bulk_button, buttons, dataset, key)
    for tag in (KEEP, DROP, UNSURE):
        offer(tag, tag.capitalize(), list(picked), tag, icon=_ICONS[tag], help=on)
    if suggested is not None:
        known = [row for row in picked if row in suggested]
        labels = [suggested[row] for row in known]
        help_ = on + " They get the label that each card suggests."
        offer("accept", "Accept suggested label", known, FIX, labels, icon=":material/auto_fix_high:", help=help_)
    buttons.button(
        "Fix label …",
        key=f"{key}_fix",
        icon=_ICONS[FIX],
        disabled=not count,
        help=on + " Asks for the label.",
        on_click=_ask,
        args=((dataset.version, key, list(picked)),),
    )
    offer("clear", "Take tag off", list(picked), None, help=on.replace("Tags", "Takes the tag off"))
    _undo_button(dataset, buttons, key)
    st.caption(f"{tag_counts(dataset)} {legend}")
    _relabel(dataset, key)


def _bulk_button(
    holder: st.delta_generator.DeltaGenerator,
    dataset: EmbeddedDataset,
    key: str,
    name: str,
    words: str,
    rows: list[int],
    tag: str | None,
    labels: list[str] | None = None,
    *,
    icon: str | None = None,
    help: str,
) -> None:
    """A button that tags rows, or takes their tags off."""
    holder.button(
        words,
        key=f"{key}_{name}",
        icon=icon,
        disabled=not rows,
        help=help,
        on_click=_bulk,
        args=(dataset, rows, tag, labels, key),
    )


def tag_counts(dataset: EmbeddedDataset) -> str:
    """How many images carry each tag, as a sentence."""
    counts = Tags.of(dataset).counts
    said = ", ".join(f"{counts[tag]:,} {tag}" for tag in TAGS if counts[tag])
    return f"Tagged so far: {said}." if said else "No image is tagged yet."


def drop_others(dataset: EmbeddedDataset, rows: np.ndarray, *, key: str) -> None:
    """A button that tags these images, all but the best of each group, as to be dropped; one action to undo."""
    st.button(
        f"Drop all but the first of each group ({counted(len(rows), 'image')})",
        key=f"{key}_others",
        icon=":material/filter_1:",
        disabled=len(rows) == 0,
        help="The first of a group is its largest picture, and of equals the most certain. Tags only; no file is "
        "touched, and one undo takes it back.",
        on_click=_bulk,
        args=(dataset, rows.tolist(), DROP, None, key),
    )


def _undo_button(dataset: EmbeddedDataset, holder: st.delta_generator.DeltaGenerator, key: str) -> None:
    undoable = Tags.of(dataset).undoable
    holder.button(
        "Undo",
        key=f"{key}_undo",
        icon=":material/undo:",
        disabled=undoable is None,
        help=f"Takes back the last tagging, whoever did it: {plain(undoable)}."
        if undoable
        else "Nothing to take back.",
        on_click=_undo,
        args=(dataset,),
    )
    if undoable:
        holder.caption(f"last: {plain(undoable)}")


def _relabel(dataset: EmbeddedDataset, key: str) -> None:
    version, asked_by, rows = st.session_state.get(_RELABEL) or ("", "", [])
    if not rows or (version, asked_by) != (dataset.version, key):  # a row of another data set is another image
        return
    with st.container(border=True, horizontal=True, vertical_alignment="bottom"):
        label = st.selectbox(
            f"Right label of {counted(len(rows), 'image')}",
            sorted({str(label) for label in dataset.labels if label is not None}),
            index=None,
            accept_new_options=True,
            placeholder="choose or type",
            key=f"{key}_label",
        )
        st.button("Save", type="primary", disabled=not label, on_click=_bulk, args=(dataset, rows, FIX, label, key))
        st.button("Cancel", on_click=_ask, args=(None,))


def _ask(what: tuple[str, str, list[int]] | None) -> None:
    """Ask for the label of some images, as (version of the data set, key of the bar that asks, rows); None asks no
    more."""
    st.session_state[_RELABEL] = what


def _bulk(dataset: EmbeddedDataset, rows: list[int], tag: str | None, label: str | list[str] | None, key: str) -> None:
    failed = _tagged(dataset, rows, tag, label)
    st.session_state.update(failed)
    if not failed:
        unpick(key)
        st.session_state.pop(_RELABEL, None)


def _tagged(
    dataset: EmbeddedDataset, rows: list[int], tag: str | None, label: str | list[str] | None = None
) -> dict[str, str]:
    """Tag or untag; returns what to remember for the next run: nothing, if all is well."""
    try:
        tags = Tags.of(dataset)
        if tag is None:
            tags.clear(rows)
        else:
            tags.set(rows, tag, label)
    except PVUError as error:
        return {_ERROR: str(error)}
    return {}


def _undo(dataset: EmbeddedDataset) -> None:
    st.session_state.update(_undone(dataset))


def _undone(dataset: EmbeddedDataset) -> dict[str, str]:
    try:
        return {_SAID: Tags.of(dataset).undo() or "There is nothing to undo."}
    except PVUError as error:
        return {_ERROR: str(error)}


def _show_what_happened() -> None:
    message, said = st.session_state.pop(_ERROR, None), st.session_state.pop(_SAID, None)
    if message:
        st.error(plain(message), icon=":material/error:")
    if said:
        st.toast(plain(said), icon=":material/undo:")
