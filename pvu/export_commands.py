"""The command that gives out what was found and decided: tables, embeddings, copies of the images, a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvu.paths import typed_path
from pvu.terminal import (
    DatasetArgument,
    InputError,
    Interruptible,
    JsonOption,
    KeepOption,
    ProgressBar,
    StoreModelOption,
    open_dataset,
    print_json,
    quiet_stdout,
    require_folder,
)

if TYPE_CHECKING:
    import numpy as np

    from pvu.copying import CopyReport
    from pvu.store import EmbeddedDataset

_SUFFIXES = {
    "out": (".csv", ".parquet", ".txt"),
    "embeddings": (".npy",),
    "report": (".html", ".htm"),
}
_LISTED_FAILURES = 20


def export(
    dataset: DatasetArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .csv, a .parquet, or a .txt with one path a line.")
    ] = None,
    what: Annotated[
        str,
        typer.Option(
            metavar="TAG",
            help="Which images, by their tags: all, kept, not-dropped, dropped, fix-label, unsure, tagged or untagged.",
        ),
    ] = "all",
    keep: KeepOption = None,
    embeddings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .npy of their embeddings, in the table's order.")
    ] = None,
    copy_to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Copy the images to a new folder. Repeat it to go on.")
    ] = None,
    link_to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="As --copy-to, with hard links where the disk has them.")
    ] = None,
    by_label: Annotated[bool, typer.Option("--by-label", help="A folder per label, not the originals' folders.")] = (
        False
    ),
    fix_labels: Annotated[
        bool, typer.Option("--fix-labels", help="Images tagged 'fix label' go to the folder of their new label.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A self-contained .html about the whole data set.")
    ] = None,
    model: StoreModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the images' original paths with all that is known of them; their embeddings; copies; a report."""
    files = {
        name: typed_path(path)
        for name, path in (("out", out), ("embeddings", embeddings), ("report", report))
        if path is not None
    }
    folder = _folder(copy_to, link_to, options=by_label or fix_labels)
    if not files and folder is None:
        raise InputError("Say what to write: --out, --embeddings, --copy-to, --link-to or --report.")
    for name, path in files.items():
        _check_file(name, path)
    from pvu.export import choose_rows

    with quiet_stdout():
        opened = open_dataset(dataset, model)
        rows = choose_rows(opened, what, keep=1.0 if keep is None else keep)
        copied = None
        if folder is not None:
            layout = {"layout": "labels" if by_label else "paths", "corrected": fix_labels}
            copied = _copy(opened, rows, folder, link=link_to is not None, **layout)
        _write_files(opened, rows, files)
    if as_json:
        print_json(_result(opened, rows, files, copied))
    else:
        _print(opened, rows, files, copied)


def _folder(copy_to: Path | None, link_to: Path | None, *, options: bool) -> Path | None:
    if copy_to is not None and link_to is not None:
        raise InputError("Give --copy-to or --link-to, not both.")
    folder = copy_to or link_to
    if folder is None and options:
        raise InputError("--by-label and --fix-labels lay out a copy: give --copy-to or --link-to too.")
    return folder


def _check_file(name: str, path: Path) -> None:
    allowed = _SUFFIXES[name]
    if path.suffix.lower() not in allowed:
        raise InputError(f"{path} ends in {path.suffix!r}, but the export writes {', '.join(allowed)}.")
    require_folder(path)


def _write_files(dataset: EmbeddedDataset, rows: np.ndarray, files: dict[str, Path]) -> None:
    from pvu.export import export_table, write_embeddings, write_table
    from pvu.report import write_report

    if "out" in files:
        write_table(export_table(dataset, rows), files["out"])
    if "embeddings" in files:
        write_embeddings(dataset, rows, files["embeddings"])
    if "report" in files:
        write_report(dataset, files["report"])


def _copy(dataset: EmbeddedDataset, rows: np.ndarray, folder: Path, *, link: bool, **layout: Any) -> CopyReport:
    from pvu.copy_plan import plan_copy
    from pvu.copying import copy_images

    plan = plan_copy(dataset, rows, folder, anywhere=True, **layout)
    with ProgressBar() as bar, Interruptible(bar) as run:
        return copy_images(plan, link=link, progress=run.progress, should_stop=run.should_stop)


def _result(
    dataset: EmbeddedDataset, rows: np.ndarray, files: dict[str, Path], copied: CopyReport | None
) -> dict[str, Any]:
    written = {name: str(path.resolve()) for name, path in files.items()}
    result: dict[str, Any] = {"dataset": str(dataset.source), **written, "images": len(rows)}
    if copied is not None:
        result["copy"] = {
            "folder": str(copied.folder),
            "copied": copied.copied,
            "linked": copied.linked,
            "there": copied.there,
            "changed": copied.changed,
            "others": copied.others,
            "failed": copied.failed,
            "no_links": copied.no_links or None,
        }
    return result


def _print(dataset: EmbeddedDataset, rows: np.ndarray, files: dict[str, Path], copied: CopyReport | None) -> None:
    count = f"{len(rows):,} of {len(dataset):,} images"
    texts = {"out": f"{count} written to", "embeddings": f"Embeddings of {count} written to", "report": "Report:"}
    for name, path in files.items():
        print(f"{texts[name]} {path}")
    if copied is None:
        return
    print(copied)
    for image, reason in list(copied.failed.items())[:_LISTED_FAILURES]:
        print(f"  {image}: {reason}")
    if len(copied.failed) > _LISTED_FAILURES:
        print(f"  and {len(copied.failed) - _LISTED_FAILURES:,} more (--json lists all).")
