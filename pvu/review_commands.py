"""The review lists on the command line: what is worth a look, and why."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvu.terminal import (
    DatasetArgument,
    InputError,
    JsonOption,
    StoreModelOption,
    open_dataset,
    print_json,
    quiet_stdout,
)

if TYPE_CHECKING:
    from pvu.lists import ReviewList
    from pvu.store import EmbeddedDataset

PRINTED = 20


class ListName(StrEnum):
    """The lists by name."""

    ambiguous = "ambiguous"
    mislabelled = "mislabelled"
    duplicates = "duplicates"
    outliers = "outliers"


def review(
    dataset: DatasetArgument,
    name: Annotated[
        ListName | None, typer.Option("--list", help="Which list to print in full. Without it: how long each is.")
    ] = None,
    cutoff: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            help="The lowest score listed: a percentile for ambiguous and outliers, the support for the other label "
            "(0.5 to 1) for mislabelled, the similarity for duplicates. Default: as in the app.",
        ),
    ] = None,
    model: StoreModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the images worth a look: ambiguous, likely mislabelled, duplicates or outliers, each with its reason."""
    if name is None and cutoff is not None:
        raise InputError("--cutoff goes with --list: each list has a score of its own.")
    from pvu import review as lists

    with quiet_stdout():
        opened = open_dataset(dataset, model)
        if name is None:
            found = list(lists.review(opened).lists.values())
        else:
            make = getattr(lists, name.value)
            found = [make(opened) if cutoff is None else make(opened, cutoff=cutoff)]
    if name is None:
        _print_counts(opened, found, as_json)
    elif as_json:
        print_json(_as_json(opened, found[0]))
    else:
        _print_list(opened, found[0])


def _print_counts(dataset: EmbeddedDataset, found: list[ReviewList], as_json: bool) -> None:
    if as_json:
        print_json({"dataset": str(dataset.source), "lists": {each.name: len(each) for each in found}})
        return
    for each in found:
        print(f"{each.name:12}{len(each):>9,}  {each.missing or each.sentence}")


def _print_list(dataset: EmbeddedDataset, found: ReviewList) -> None:
    print(found.missing or found.sentence)
    for image in _images(dataset, found)[:PRINTED]:
        label = f" [{image['label']}]" if image["label"] is not None else ""
        suggested = f" -> {image['suggested_label']}" if image["suggested_label"] is not None else ""
        print(f"{image['score']:8.3f}  {image['path']}{label}{suggested}: {image['evidence']}")
    if len(found) > PRINTED:
        print(f"and {len(found) - PRINTED:,} more (--json lists all).")


def _as_json(dataset: EmbeddedDataset, found: ReviewList) -> dict[str, Any]:
    return {
        "dataset": str(dataset.source),
        "list": found.name,
        "sentence": found.sentence,
        "missing": found.missing or None,
        "cutoff": found.cutoff,
        "images": _images(dataset, found),
    }


def _images(dataset: EmbeddedDataset, found: ReviewList) -> list[dict[str, Any]]:
    from pvu.tags import Tags

    paths = dataset.images["path"].to_numpy()
    tags = Tags.of(dataset).values.tag
    grouped = found.name == "duplicates"
    return [
        {
            "path": paths[row],
            "score": float(found.scores[place]),
            "label": dataset.labels[row],
            "suggested_label": found.suggested[place],
            "group": int(found.group[place]) if grouped else None,
            "leak": bool(found.leak[place]) if grouped else None,
            "tag": tags[row],
            "evidence": found.text(place),
            "beside": [paths[other] for other in found.beside[place] if other >= 0],
        }
        for place, row in enumerate(found.rows.tolist())
    ]
