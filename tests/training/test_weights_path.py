"""`make weights` and `make head` in small: generated pictures, from the folder to a model that can be used."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from pvu.metrics import auroc
from pvu.models import load_model
from pvu.neighbors import nearest_neighbors
from training import cache, pretrain
from training.data import imagenet_classes
from training.hybrid import cache as hybrid_cache
from training.hybrid import distill, maps

ROOT = Path(__file__).parents[2]
LABELS = 6
EACH = 40


def draw(label: int, noise: float, rng: np.random.Generator) -> Image.Image:
    """Stripes of the label's colour and direction under noise: the more, the harder to tell the label."""
    across, down = np.meshgrid(np.arange(64), np.arange(64))
    wave = np.sin((across * np.cos(label) + down * np.sin(label)) / 3)[..., None]
    colour = np.array([label % 2, label // 2 % 2, label // 4], np.float32) - 0.5
    pixels = 128 + 60 * wave + 90 * colour + rng.normal(0, 1 + 1200 * noise, (64, 64, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_source(folder: Path, seed: int, *, each: int = EACH) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Pictures in folders named by wnid: their files, labels and noise, in one order."""
    rng = np.random.default_rng(seed)
    paths, labels = [], np.repeat(np.arange(LABELS), each)
    noise = rng.random(len(labels))
    for number, label in enumerate(labels):
        path = folder / list(imagenet_classes())[label] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(int(label), float(noise[number]), rng).save(path)
        paths.append(path)
    return paths, labels, noise


def write_backbone(path: Path, pictures: list[Path], labels: np.ndarray) -> str:
    """A small ViT whose 1,000-way classifier, fitted by least squares, knows the labels. Returns the model's name."""
    torch.manual_seed(0)
    backbone = timm.create_model("test_vit", num_classes=1000)
    save_file(dict(backbone.state_dict()), path)
    z, _ = load_model(f"test_vit@{path}", precision="float32").encode([Image.open(file) for file in pictures])
    centred = np.column_stack([z - z.mean(axis=0), np.ones(len(z))])
    fitted = np.linalg.solve(centred.T @ centred + 1e-3 * np.eye(z.shape[1] + 1), centred.T @ np.eye(LABELS)[labels])
    with torch.no_grad():
        backbone.head.weight.zero_()
        backbone.head.bias.fill_(-20)
        backbone.head.weight[:LABELS] = torch.from_numpy(10 * fitted[:-1].T)
        backbone.head.bias[:LABELS] = torch.from_numpy(10 * (fitted[-1] - z.mean(axis=0) @ fitted[:-1]))
    save_file(dict(backbone.state_dict()), path)
    return f"test_vit@{path}"


def run_make(
    target: str, mains: dict[str, Callable[[], None]], monkeypatch: pytest.MonkeyPatch, **variables: object
) -> None:
    """Run in this process what make would run of training: ``mains`` by the names of their modules, in that order."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make")
    commands = commands_of_make(make, target, **variables)
    assert [name for name, *_ in commands] == list(mains)
    for (name, *arguments), main in zip(commands, mains.values(), strict=True):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        main()


def commands_of_make(make: str, target: str, **variables: object) -> list[list[str]]:
    command = [make, "-n", target, *(f"{name}={value}" for name, value in variables.items())]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    return [shlex.split(line)[2:] for line in printed.replace("\\\n", " ").splitlines() if " -m training." in line]


def test_the_whole_path_from_a_folder_to_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out, config = tmp_path / "data", tmp_path / "out", tmp_path / "small.yaml"
    paths, labels, _ = write_source(data / "stripes", 0)
    model = write_backbone(tmp_path / "backbone.safetensors", paths, labels)
    config.write_text(
        f"model: {model}\n"
        "cache:\n  sources: [{name: stripes, passes: 2, held_out: 0.3}]\n  shard: 128\n"
        "train: {epochs: 30, batch: 64, base_lr: 2e-3, standardize: true}\n"
    )
    mains = {"training.cache": cache.main, "training.pretrain": pretrain.main}
    run_make("head", mains, monkeypatch, CONFIG=config, DATA=data, OUT=out)

    trained = load_model(model, head=out / "small" / "head.safetensors", precision="float32")
    unseen, labels, noise = write_source(tmp_path / "unseen", 1)
    z, u = trained.encode([Image.open(path) for path in unseen])
    assert u is not None
    right = trained.logits(torch.from_numpy(z)).argmax(1).numpy() == labels
    assert 0.3 < right.mean() < 0.97
    assert auroc(right, -u) > 0.65  # .5 would know nothing
    assert auroc(noise > 0.5, u) > 0.65


def test_the_whole_path_from_a_folder_to_a_vision_transformer_with_its_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, vit = tmp_path / "data", tmp_path / "out", tmp_path / "small"
    write_source(data / "stripes", 0, each=16)
    cached = "cache:\n  sources: [{name: stripes, passes: 1, held_out: 0.3}]\n  shard: 64\n"
    vit.with_suffix(".yaml").write_text(
        f"shape: {{width: 64, depth: 1, heads: 1}}\n{cached}steps: 60\nbatch: 32\nneighbours: 3\namong: 5\n"
        "lr: 3e-3\nema: 0.9\nlabel: 5\nlogits: 0\n"
    )
    (tmp_path / "small_head.yaml").write_text(
        f"model: hybrid-vit\n{cached}  statistics: true\ntrain: {{head: linear, standardize: true}}\n"
    )
    mains = {
        "training.hybrid.maps": maps.main,
        "training.hybrid.distill": distill.main,
        "training.hybrid.cache": hybrid_cache.main,
        "training.pretrain": pretrain.main,
    }
    run_make("weights", mains, monkeypatch, VIT=vit, DATA=data, OUT=out)

    made = out / "hybrid-vit"
    model = load_model(f"hybrid-vit@{made / 'hybrid-vit.safetensors'}", head=made / "head.safetensors")
    assert model.head_metadata["backbone"] == "hybrid-vit"
    assert model.head_metadata["backbone_hash"] == model.backbone_hash  # its own, not that of the one that ships
    unseen, labels, noise = write_source(tmp_path / "unseen", 1)
    clear = np.flatnonzero(noise < 0.1)
    z, u = model.encode([Image.open(unseen[index]) for index in clear])
    neighbors, _ = nearest_neighbors(z, 1)
    assert (labels[clear][neighbors[:, 0]] == labels[clear]).mean() > 0.5  # .17 would know nothing
    assert u is not None
    assert u.std() > 0.01 * u.mean() > 0
