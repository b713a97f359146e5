"""A labelled data set, embedded by a backbone without a head: timm's smallest network, with weights from a seed."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from pvu.fitting import FitConfig
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from tests.fakes import write_pictures

QUICK = FitConfig(steps=30, hidden=8, batch=32)


def write_weights(path: Path, seed: int = 0) -> Path:
    """Weights of "test_resnet", random but always the same."""
    torch.manual_seed(seed)
    save_file(dict(timm.create_model("test_resnet").state_dict()), path)
    return path


def embed_pets(folder: Path, weights: Path) -> EmbeddedDataset:
    """Sixty pictures with four labels that mean little, so that many nearest neighbours are wrong; one is broken."""
    names = [f"{number:02d}.png" for number in range(60)]
    write_pictures(folder / "pets", names)
    lines = [f"{name},{['cat', 'dog', 'owl', 'yak'][number % 4]}" for number, name in enumerate(names)]
    (folder / "pets" / "labels.csv").write_text("\n".join(["path,label", *lines, "99.png,yak"]))
    (folder / "pets" / "broken.png").write_text("no picture")
    return embed(folder / "pets", model=f"test_resnet@{weights}", workers=0)
