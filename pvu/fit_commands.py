"""The command that fits an uncertainty head to a backbone on a labelled data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvu.terminal import (
    DatasetArgument,
    JsonOption,
    ProgressBar,
    StoreModelOption,
    open_dataset,
    print_json,
    quiet_stdout,
)

if TYPE_CHECKING:
    from pvu.own_heads import Candidate
    from pvu.store import EmbeddedDataset


def fit(
    dataset: DatasetArgument,
    model: StoreModelOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds, the first weights and the draws.")] = 0,
    save: Annotated[
        bool, typer.Option("--save", help="Use the head from now on. One that is there already is kept as .bak.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit an uncertainty head on the labels of a data set, and measure it on images that it has not seen."""
    with quiet_stdout():
        from pvu.fitting import FitConfig
        from pvu.own_heads import fit_candidate, use
        from pvu.registry import own_head_path

        opened = open_dataset(dataset, model)
        with ProgressBar() as bar:
            candidate = fit_candidate(opened, FitConfig(seed=seed), progress=bar)
        result = _result(candidate)
        if save:
            result["store"] = use(opened, candidate).path
            result["head"] = own_head_path(candidate.facts["backbone"])
            result["card"] = result["head"].with_suffix(".md")
    if as_json:
        print_json(result)
        return
    _print(opened, candidate, result)


def _result(candidate: Candidate) -> dict[str, Any]:
    from pvu.fitting import advice, beats_chance

    facts, scores = candidate.facts, candidate.scores
    kept = ("images", "labels", "recall_at_1", "probe_accuracy", "spread", "seconds", "r_auroc")
    return {
        "model": facts["backbone"],
        **{name: facts[name] for name in kept},
        "beats_chance": beats_chance(scores),
        "advice": advice(scores),
        "head": candidate.head,
        "card": candidate.card,
        "store": None,
    }


def _print(dataset: EmbeddedDataset, candidate: Candidate, result: dict[str, Any]) -> None:
    from pvu.fitting import NAMES
    from pvu.progress import format_seconds

    print(
        f"{dataset.name}: a head for {result['model']} from {result['images']:,} images with {result['labels']:,} "
        f"labels ({format_seconds(result['seconds'])})."
    )
    print(f"{'R-AUROC on images it has not seen (.5 knows nothing)':62}value  95 % interval")
    for name, score in candidate.scores.items():
        interval = f"  {score.low:.4f} to {score.high:.4f}" if score.low < score.high else ""
        print(f"  {NAMES[name]:60}{score.value:.4f}{interval}")
    print(result["advice"])
    print(f"Head: {result['head']}\nCard: {result['card']}")
    if result["store"] is not None:
        print(f"Store: {result['store']}")
    else:
        print("It is not in use: add --save to use it.")
