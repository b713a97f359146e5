from __future__ import annotations

from training.experiments.label_free import RECIPES

NEED_LABELS = {"cross_entropy", "retrieval"}


def test_what_is_called_label_free_uses_no_label() -> None:
    for name, recipe in RECIPES.items():
        uses_labels = bool(NEED_LABELS & set(recipe.changes["task_losses"]))
        assert uses_labels == name.startswith("labels"), name
    assert any(recipe.sources == ("unlabelled_photos",) for recipe in RECIPES.values())
