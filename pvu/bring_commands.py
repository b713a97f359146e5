"""The command that brings embeddings computed elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pvu.progress import counted
from pvu.terminal import Interruptible, JsonOption, ProgressBar, print_json, quiet_stdout

if TYPE_CHECKING:
    from pvu.store import EmbeddedDataset

LISTED = 10


def bring(
    embeddings: Annotated[
        str, typer.Argument(metavar="EMBEDDINGS", help="A .npy of shape (N, D), or a .parquet with a column of lists.")
    ],
    table: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="A .csv or .parquet with a row for each: path, label, uncertainty, other columns."
        ),
    ] = None,
    uncertainty: Annotated[
        str | None, typer.Option(metavar="FILE", help="A .npy of shape (N,); default: the table's column.")
    ] = None,
    uncertainty_model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Let a model's head look at the images, such as default.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="What the table's paths are relative to. Only read.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the data set. Default: the file's name.")] = None,
    space: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What made the embeddings: two sets of one such name can be compared."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Decoding processes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data set of embeddings that are there already."""
    from pvu.bring import bring as make

    with quiet_stdout(), ProgressBar() as bar, Interruptible(bar) as run:
        dataset = make(
            embeddings,
            table=table,
            uncertainty=uncertainty,
            uncertainty_model=uncertainty_model,
            images=images,
            name=name,
            space=space,
            workers=workers,
            progress=run.progress,
            should_stop=run.should_stop,
        )
    _print(dataset, as_json)


def _print(dataset: EmbeddedDataset, as_json: bool) -> None:
    facts = dataset.manifest["brought"]
    if as_json:
        known = {"dataset": dataset.name, "store": dataset.path, "images": len(dataset), "failed": len(dataset.failed)}
        print_json(known | {"pictures": facts["pictures"], "uncertainty": facts["uncertainty"]})
        return
    print(f"{dataset.name}: {counted(len(dataset), 'embedding')}, {counted(facts['pictures'], 'image file')} found.")
    if not dataset.has_uncertainty:
        print("No uncertainties came along: add a column, or --uncertainty-model default with --images.")
    if len(dataset.failed):
        print(f"Left out, {counted(len(dataset.failed), 'row')}:")
        for row in dataset.failed.head(LISTED).itertuples():
            print(f"  {row.path}: {row.error}")
        if len(dataset.failed) > LISTED:
            print(f"  and {len(dataset.failed) - LISTED:,} more (--json counts them).")
    print(f"Store: {dataset.path}")
