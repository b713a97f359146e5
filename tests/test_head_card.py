"""The card of a fitted head holds the numbers it is given."""

from __future__ import annotations

from typing import Any

from pvu.head_card import headline, write_card

FACTS: dict[str, Any] = {
    "backbone": "resnet@w",
    "backbone_hash": "abc123",
    "fitted_on": "birds",
    "images": 1234,
    "labels": 56,
    "created": "2026-01-02T03:04:05+00:00",
    "pvu": "9.9",
    "command": "python -m pvu fit birds --model 'resnet@w' --seed 3",
    "config": {"folds": 5, "steps": 300, "batch": 256, "hidden": 64, "lr": 0.003, "dropout": 0.5, "seed": 3},
    "probe_accuracy": 0.8125,
    "recall_at_1": 0.75,
    "r_auroc": {
        "head": [0.7654, 0.7, 0.81],
        "similarity": [float("nan"), float("nan"), float("nan")],
        "random": [0.5, 0.5, 0.5],
    },
}


def test_every_number_is_in_it() -> None:
    card = write_card(FACTS)
    for text in (
        "# Uncertainty head for `resnet@w`",
        "`birds`: 1,234 images with 56 labels",
        "abc123",
        FACTS["command"],
        "accuracy 0.812",
        "300 steps of 256 images, hidden width 64, learning rate 0.003, dropout 0.5, seed 3.",
        "the representation is 0.750.",
        "| this head | 0.765 (0.700 to 0.810) |",
        "| similarity to the nearest image | not defined |",
        "| random | 0.500 |",
        "## Limits",
    ):
        assert text in card


def test_the_headline_is_one_line() -> None:
    assert headline(FACTS) == "1,234 images of birds, R-AUROC 0.765 (0.700 to 0.810)"
