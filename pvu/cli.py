"""The command line: what the app does, without a browser. Thin: every command calls the library and prints.

Bad input ends with exit code 2 and one line on standard error; Ctrl-C with 130, and finished work is kept. With
``--json`` standard output holds one JSON value and nothing else.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from pvu import __version__
from pvu.bring_commands import bring
from pvu.errors import Cancelled, PVUError
from pvu.export_commands import export
from pvu.fit_commands import fit
from pvu.model_commands import export_onnx, import_checkpoint, list_models
from pvu.paths import typed_path
from pvu.review_commands import review
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

# torch, faiss and pandas take seconds to import: the commands import what they need, so that --help is quick.
if TYPE_CHECKING:
    from pvu.pipeline import Report
    from pvu.store import EmbeddedDataset

INTERRUPTED = 130
LISTED_FAILURES = 20

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what stands behind ``python -m pvu``; None takes the process's own.

    Returns:
        The exit code.
    """
    program = "pvu" if Path(sys.argv[0]).name == "pvu" else "python -m pvu"
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name=program, standalone_mode=False)
    except Cancelled as error:
        return _say(str(error), INTERRUPTED)
    except (PVUError, TyperException) as error:
        return _say(error.format_message() if isinstance(error, TyperException) else str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer itself turns Ctrl-C into this code
        return _say("Interrupted: what was finished is kept, the same command goes on from there.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _say(message: str, code: int) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return code


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number.")
    return value


ModelOption = Annotated[str, typer.Option(help="A model's name, see the command models; or ARCHITECTURE@FILE.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pvu {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Explore image data sets with pretrained visual uncertainties."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def demo(
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report to this HTML file.")] = None,
    model: ModelOption = "default",
    workers: Annotated[int | None, typer.Option(min=0, help="Decoding processes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the demo data set, embed it, and perhaps write a report about it."""
    from pvu.demo import make_demo
    from pvu.report import write_report

    html = None if html is None else typed_path(html)
    require_folder(html)
    with quiet_stdout():
        report = _embed(str(make_demo()), model=model, workers=workers)
        if html is not None:
            write_report(report.dataset, html)
    result = _embed_result(report) | ({} if html is None else {"html": str(html.resolve())})
    if as_json:
        print_json(result)
        return
    _print_embed(report)
    if html is not None:
        print(f"Report: {html}")


@app.command()
def embed(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder of images, searched recursively, or a .zip.")],
    model: ModelOption = "default",
    table: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Labels: columns path, label, and any others.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Decoding processes. Default: one a core.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute embeddings, uncertainties, neighbours and the map of a folder's images. Only what is new is computed."""
    with quiet_stdout():
        report = _embed(folder, model=model, table=table, workers=workers)
    if as_json:
        print_json(_embed_result(report))
        return
    _print_embed(report)


def _embed(folder: str, **options: Any) -> Report:
    from pvu.pipeline import embed_with_report

    with ProgressBar() as bar, Interruptible(bar) as run:
        return embed_with_report(folder, progress=run.progress, should_stop=run.should_stop, **options)


def _embed_result(report: Report) -> dict[str, Any]:
    dataset = report.dataset
    return {
        "dataset": str(dataset.source),
        "store": str(dataset.path),
        "model": dataset.manifest["model"],
        "images": len(dataset),
        "failed": len(dataset.failed),
        "reused": report.reused,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(report.images_per_second, 2),
        "failures": [
            {"path": path, "reason": reason}
            for path, reason in zip(dataset.failed["path"], dataset.failed["error"], strict=True)
        ],
    }


def _print_embed(report: Report) -> None:
    from pvu.progress import counted, format_seconds

    dataset = report.dataset
    speed = f", {report.images_per_second:.0f} images/s" if report.images_per_second else ""
    reused = f", {report.reused:,} of them from before" if report.reused else ""
    print(f"{dataset.name}: {counted(len(dataset), 'image')}{reused} ({format_seconds(report.seconds)}{speed}).")
    if len(dataset.failed):
        print(f"Left out, {counted(len(dataset.failed), 'file')}:")
        for row in dataset.failed.head(LISTED_FAILURES).itertuples():
            print(f"  {row.path}: {row.error}")
        if len(dataset.failed) > LISTED_FAILURES:
            print(f"  and {len(dataset.failed) - LISTED_FAILURES:,} more (--json lists all).")
    print(f"Store: {dataset.path}")


@app.command()
def search(
    dataset: DatasetArgument,
    query: Annotated[str, typer.Argument(help="An image of the data set, any image file, or a row number.")],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many results.")] = 10,
    keep: KeepOption = None,
    max_uncertainty: Annotated[
        float | None, typer.Option(callback=_finite, metavar="U", help="Only images with at most this uncertainty.")
    ] = None,
    model: StoreModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the images most similar to a picture, with or without the uncertain ones."""
    if keep is not None and max_uncertainty is not None:
        raise InputError("Give --keep or --max-uncertainty, not both.")
    with quiet_stdout():
        opened = open_dataset(dataset, model)
        vector, uncertainty, row = opened.encode_query(_as_query(opened, query))
        limit = opened.threshold(keep) if keep is not None else max_uncertainty
        found = opened.search(vector if row is None else row, k, max_uncertainty=limit)
    asked = {
        "path": query if row is None else str(opened.images["path"].iloc[row]),
        "uncertainty": uncertainty,
        "percentile": float(opened.percentile(uncertainty)) if math.isfinite(uncertainty) else None,
    }
    results = found[["path", "similarity", "uncertainty", "label"]].to_dict("records")
    if as_json:
        print_json({"query": asked, "results": results})
        return
    _print_search(opened, asked, results)


def _as_query(dataset: EmbeddedDataset, query: str) -> str | int:
    """A path if there is such an image, else a row number if it looks like one."""
    if query.isdecimal() and dataset.find_row(query) is None and not Path(query).exists():
        return int(query)
    return query


def _print_search(dataset: EmbeddedDataset, asked: dict[str, Any], results: list[dict[str, Any]]) -> None:
    from pvu.store import WARN_ABOVE

    print(f"Query: {asked['path']}")
    if asked["percentile"] is not None:
        warning = ". Its results may be of little use." if asked["percentile"] >= WARN_ABOVE else "."
        print(f"At least as uncertain as {asked['percentile']:.0f} % of {dataset.name}{warning}")
    if not results:
        print("No other image passes the filter." if len(dataset) > 1 else "There is no other image.")
        return
    print(f"{'similarity':>10}  {'uncertainty':>11}  {'label':20}  path")
    for row in results:
        label = "-" if row["label"] is None else str(row["label"])
        print(f"{row['similarity']:10.3f}  {row['uncertainty']:11.4f}  {label[:20]:20}  {row['path']}")


@app.command()
def evaluate(dataset: DatasetArgument, model: StoreModelOption = None, as_json: JsonOption = False) -> None:
    """Recall@1, R-AUROC and the area under the risk-coverage curve of a labelled data set."""
    with quiet_stdout():
        opened = open_dataset(dataset, model)
        result = _evaluation(opened)
    if as_json:
        print_json(result)
        return
    print(
        f"{opened.name}: {result['images']:,} labelled images, {result['labels']:,} labels, {opened.manifest['model']}"
    )
    for key, text in _METRIC_NAMES.items():
        if result[key] is not None and not math.isnan(result[key]):
            print(f"{text:62}{result[key]:.4f}")


_METRIC_NAMES = {
    "recall_at_1": "Recall@1",
    "r_auroc": "R-AUROC of the uncertainty (.5 knows nothing)",
    "r_auroc_similarity": "R-AUROC of the similarity to the nearest neighbour",
    "aurc": "AURC (lower is better)",
    "aurc_random": "AURC of a random order",
    "aurc_oracle": "AURC of the best possible order",
}


def _evaluation(dataset: EmbeddedDataset) -> dict[str, Any]:
    from pvu import analysis
    from pvu.metrics import correct_at_1

    if dataset.has_labels and not dataset.has_uncertainty:  # Recall@1 needs no head
        correct, rows = correct_at_1(dataset.neighbors, dataset.labels)
        known = {"images": len(rows), "labels": len(set(dataset.labels[rows])), "recall_at_1": float(correct.mean())}
        return known | {key: None for key in _METRIC_NAMES if key not in known}
    result = analysis.evaluate(dataset)
    return {
        "images": result.images,
        "labels": result.labels,
        "recall_at_1": result.recall_at_1,
        "r_auroc": result.r_auroc,
        "r_auroc_similarity": result.similarity_r_auroc,
        "aurc": result.curve.aurc,
        "aurc_random": result.random.aurc,
        "aurc_oracle": result.oracle.aurc,
    }


app.command()(bring)
app.command("models")(list_models)
app.command()(import_checkpoint)
app.command()(export_onnx)
app.command()(export)
app.command()(fit)
app.command()(review)


@app.command("app")
def start_app(port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8501) -> int:
    """Open the app in the browser, for this computer only."""
    script = Path(__file__).resolve().parent.parent / "app.py"
    if not script.is_file():
        raise InputError(f"The app is not beside the package ({script} is missing): run this in a checkout of pvu.")
    command = [sys.executable, "-m", "streamlit", "run", str(script)]
    options = ["--server.address", "127.0.0.1", "--server.port", str(port)]
    try:
        return subprocess.call([*command, *options])
    except KeyboardInterrupt:  # Streamlit has got it too, and has stopped
        return 0
