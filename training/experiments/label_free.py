"""How much of a head is kept without any label? Task losses that need none, on the bench of recipes.

    python -m training.experiments.label_free training/configs/efficientnet_lite0_linear.yaml --cache CACHE \
        --data DATA --work WORK --out label_free.json

instance is InfoNCE of finding a view's own whole picture among all of its source; crops gives a whole picture the mean
of its views' as well; distance is 1 - cosine of a view and its whole picture. The last two recipes see the unlabelled
photographs alone, as somebody with a folder of images and no labels would; a fold that leaves all of these out cannot
be judged. The labelled ones are here to be compared with.
"""

from __future__ import annotations

from training.command import one_sentence
from training.experiments.recipes import LINEAR, Recipe, parse, run

UNLABELLED = ("unlabelled_photos",)


def _recipe(losses: dict[str, float], *, sources: tuple[str, ...] = ()) -> Recipe:
    return Recipe(LINEAR | {"task_losses": losses}, statistics=True, sources=sources)


RECIPES: dict[str, Recipe] = {
    "labels: cross-entropy": _recipe({"cross_entropy": 1.0}),
    "labels: retrieval": _recipe({"retrieval": 1.0}),
    "none: instance": _recipe({"instance": 1.0}),
    "none: crops": _recipe({"crops": 1.0}),
    "none: distance": _recipe({"distance": 1.0}),
    "none: crops, z alone": Recipe(LINEAR | {"task_losses": {"crops": 1.0}}),
    "none, unlabelled photographs alone: instance": _recipe({"instance": 1.0}, sources=UNLABELLED),
    "none, unlabelled photographs alone: crops": _recipe({"crops": 1.0}, sources=UNLABELLED),
}


def main() -> None:
    """The command line."""
    arguments = parse((__doc__ or "").partition("\n")[0], "training.experiments.label_free", RECIPES)
    with one_sentence():
        run(RECIPES, arguments)


if __name__ == "__main__":
    main()
