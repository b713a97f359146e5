"""Measure a model's uncertainty on labelled sets by the URL protocol (arXiv 2307.03810), beside what needs no head.

    python -m training.evaluate --model default --data DATA --out results.json

prints Markdown tables and writes results.json, results/tables.md, results/figures.html (R-AUROC with intervals, and
risk-coverage curves), and results/encodings/: representations, so that another head of the same backbone takes seconds.

    ... --head a=A.safetensors b=B.safetensors     several heads of one backbone in one table
    ... --model default OTHER                      several models, each with its own head, in one table
    ... --sets cub cars --classes second-half      any folders of DATA; URL's test half of the labels
    ... --humans cifar10=cifar10h-probs.npy        rank correlation with human entropies (evaluation/humans.py)
    ... --ood tiny_imagenet_val:cub_dev+flowers17  OOD AUROC and mixed R-AUROC
    ... --sheets DIR                               the 24 most and least certain images of each set
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pvu.checkpoint import load_head
from pvu.models import load_model
from training.command import one_sentence
from training.evaluation.models import SKIPPABLE, Options, evaluate_model
from training.evaluation.plots import r_auroc_bars, write_page
from training.evaluation.results import as_json
from training.evaluation.sets import HALVES
from training.evaluation.tables import markdown
from training.shards import write_json

SETS = ("tiny_imagenet_val", "cub_dev", "flowers17", "cifar10_dev")
OOD = "tiny_imagenet_val:cub_dev+flowers17"


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    summary, _, usage = (__doc__ or "").partition("\n")
    made = argparse.ArgumentParser(
        prog="training.evaluate",
        description=summary,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--model", nargs="+", default=["default"], help="names of pvu's registry")
    made.add_argument("--head", nargs="+", default=[], metavar="[NAME=]FILE", help="other heads of the one model")
    made.add_argument("--data", type=Path, required=True, help="the folder that holds the sets")
    made.add_argument("--sets", nargs="+", default=list(SETS), help="their names")
    made.add_argument("--classes", choices=HALVES, default="all", help="labels of each set, in class order")
    made.add_argument("--humans", nargs="+", default=[], metavar="SET=FILE", help="human labels, .npy or .csv")
    made.add_argument(
        "--ood", nargs="*", metavar="UPSTREAM:SET+SET", help=f"if left out, {OOD}, where --sets has these"
    )
    made.add_argument("--skip", nargs="+", choices=SKIPPABLE, default=[], help="what costs extra forward passes")
    made.add_argument("--sheets", type=Path, metavar="DIR", help="write contact sheets there")
    made.add_argument("--resamples", type=int, default=1000, help="of the bootstrap; 0 gives no intervals")
    made.add_argument("--seed", type=int, default=0, help="of every draw")
    made.add_argument("--workers", type=int, default=1, help="decoding processes")
    made.add_argument("--encodings", type=Path, metavar="DIR", help="where representations are kept")
    made.add_argument("--out", type=Path, required=True, help="FILE.json (the rest goes into FILE/), or a folder")
    return made


def options_of(arguments: argparse.Namespace, folder: Path) -> Options:
    """What is measured, from parsed arguments; folder is where representations are kept unless they say otherwise."""
    known = set(arguments.sets) >= {name for part in OOD.split(":") for name in part.split("+")}
    mixtures = arguments.ood if arguments.ood is not None else [OOD] if known else []
    return Options(
        classes=arguments.classes,
        humans=_named_files(arguments.humans, unnamed=lambda path: str(path)),
        mixtures=mixtures,
        skip=arguments.skip,
        resamples=arguments.resamples,
        seed=arguments.seed,
        workers=arguments.workers,
        kept=arguments.encodings or folder / "encodings",
        sheets=arguments.sheets,
    )


def _named_files(texts: Sequence[str], *, unnamed: Callable[[Path], str]) -> dict[str, Path]:
    """NAME=FILE or FILE, each, to a dictionary."""
    found: dict[str, Path] = {}
    for text in texts:
        name, _, file = text.rpartition("=")
        path = Path(file)
        name = name or unnamed(path)
        if name in found:
            raise ValueError(f"Two files are named {name}. Write NAME=FILE with different names.")
        found[name] = path
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    arguments = parser().parse_args(argv)
    out: Path = arguments.out
    folder = out.with_suffix("") if out.suffix == ".json" else out
    with one_sentence():
        options = options_of(arguments, folder)
        files = _named_files(arguments.head, unnamed=lambda path: path.stem if len(arguments.head) > 1 else "u")
        if files and len(arguments.model) > 1:
            raise ValueError(f"--head goes with one --model, got {', '.join(arguments.model)}.")
        heads = {name: load_head(file)[0] for name, file in files.items()}
        reports, figures = [], []
        for name in arguments.model:
            report, drawn = evaluate_model(
                load_model(name), arguments.data, arguments.sets, heads=heads, options=options
            )
            reports.append(report)
            figures += drawn
        shown: dict[str, Any] = {name: _plain(value) for name, value in vars(arguments).items()}
        write_json(out if out.suffix == ".json" else folder / "results.json", as_json(reports, shown))
        tables = markdown(reports)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tables.md").write_text(tables, encoding="utf-8")
        write_page(folder / "figures.html", [r_auroc_bars(reports), *figures])
    print(tables)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


if __name__ == "__main__":
    main()
