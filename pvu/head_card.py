"""The card of a head that was fitted here: what it was made of, what it reaches, and what it is not good for."""

from __future__ import annotations

import math
from typing import Any

from pvu.fitting import HEAD, NAMES


def write_card(facts: dict[str, Any]) -> str:
    """A model card.

    Args:
        facts: the head's metadata, as :mod:`pvu.own_heads` writes it.

    Returns:
        Markdown.
    """
    config = facts["config"]
    recipe = (
        f"Ranking loss on pairs (arXiv 2402.16569), {config['steps']:,} steps of {config['batch']} images, hidden "
        f"width {config['hidden']}, learning rate {config['lr']:g}, dropout {config['dropout']:g}, seed "
        f"{config['seed']}."
    )
    rows = "\n".join(f"| {NAMES[name]} | {_cell(numbers)} |" for name, numbers in facts["r_auroc"].items())
    return f"""# Uncertainty head for `{facts["backbone"]}`

Fitted on the labelled data set `{facts["fitted_on"]}`: {facts["images"]:,} images with {facts["labels"]:,} labels, on
{facts["created"]}, with pvu {facts["pvu"]}. Weights of the backbone: {facts["backbone_hash"]}.

    {facts["command"]}

## What it is

A small network on the frozen backbone's representation z that gives u > 0, high where the label of an image is hard to
tell. Task loss: cross-entropy of a linear probe (shrunken linear discriminant) that has not seen the image,
{config["folds"]} folds, accuracy {facts["probe_accuracy"]:.3f}.

{recipe}

## What it reaches

R-AUROC: how well a number tells whether the nearest other image has the same label (0.5 knows nothing, 1 is perfect),
with a 95 % bootstrap interval over images. The head's is of images that the measured heads have not seen, nor copies
of their files. Recall@1 of the representation is {facts["recall_at_1"]:.3f}.

| by | R-AUROC |
| --- | --- |
{rows}

The probe knows the labels of the other images, and the similarity needs a gallery; the head needs the image alone.

## Limits

- It was taught on `{facts["fitted_on"]}` alone: on images of other subjects it can be no better than chance.
  Measure it there.
- Images with wrong labels teach it that clear pictures are hard. Look through the likely mislabelled ones first.
- Of bursts or frames of a video the measured heads have seen the neighbouring pictures: then the number above is too
  good.
- The scale of u has no meaning and differs from that of every other head. Its percentiles refer to images of this data
  set that a head had not seen.
- In the store made with it, the images that it was fitted on have their u by heads that have not seen them. A new
  picture, or a fresh run over the folder, has it by this head, which knows its own images too well.
"""


def _cell(numbers: list[float]) -> str:
    value, low, high = numbers
    if math.isnan(value):
        return "not defined"
    return f"{value:.3f}" if low == high or math.isnan(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def headline(facts: dict[str, Any]) -> str:
    """One line: what a head was fitted on, and its R-AUROC there."""
    return f"{facts['images']:,} images of {facts['fitted_on']}, R-AUROC {_cell(facts['r_auroc'][HEAD])}"
