"""The configuration: what ships can be read, and what cannot be is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from training.hybrid.config import DistillConfig, Shape, load_distill_config

SHIPPED = Path(__file__).parents[3] / "training" / "configs" / "hybrid_vit.yaml"


def test_the_shipped_configuration_is_read() -> None:
    config = load_distill_config(SHIPPED)
    assert config.shape == Shape(width=384, depth=4, heads=6)
    assert {source.name for source in config.cache.sources} >= {"tiny_imagenet_train", "unlabelled_photos"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "above zero"),
        ({"neighbours": 30}, "neighbours <= among"),
        ({"ema": 1.0}, "shares of one"),
        ({"label": -1.0}, "must not be negative"),
    ],
)
def test_values_out_of_range_are_named(config: DistillConfig, changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        Shape(width=100, heads=6)


def test_unknown_keys_and_missing_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no configuration at"):
        load_distill_config(tmp_path / "none.yaml")
    path = tmp_path / "x.yaml"
    path.write_text("cache: {sources: [{name: a, passes: 0}]}\nstep: 3\n")
    with pytest.raises(ValueError, match="there is no step"):
        load_distill_config(path)
