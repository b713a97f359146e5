from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.training.cached_views import QUICK, make_views, train
from training.config import TrainConfig
from training.experiments.label_free import RECIPES
from training.pretrain import predict

NEED_LABELS = {"cross_entropy", "retrieval"}


def test_what_is_called_label_free_uses_no_label() -> None:
    for name, recipe in RECIPES.items():
        uses_labels = bool(NEED_LABELS & set(recipe.changes["task_losses"]))
        assert uses_labels == name.startswith("labels"), name
    assert any(recipe.sources == ("unlabelled_photos",) for recipe in RECIPES.values())


def test_a_head_is_trained_on_images_of_which_none_has_a_label() -> None:
    views = replace(make_views(), known=np.zeros(2000, bool))
    trained = train(views, TrainConfig(head="linear", task_losses={"instance": 1.0}, pairs="within"))
    held_out = np.flatnonzero(views.held_out)
    u = predict(trained.head, views.z, rows=held_out)
    assert spearmanr(u, views.facts["instance"][held_out]).statistic > 0.95
    assert np.isnan(trained.history[0]["auroc"])


def test_the_best_epoch_by_labels_needs_labels() -> None:
    views = replace(make_views(), known=np.zeros(2000, bool))
    with pytest.raises(ValueError, match="no held-out image has a true label"):
        train(views, replace(QUICK, task_losses={"instance": 1.0}))
