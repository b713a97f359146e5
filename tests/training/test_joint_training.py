from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from training.data import imagenet_classes
from training.experiments import joint_training
from training.experiments.joint_training import (
    ConflictError,
    Method,
    Pictures,
    ViTConfig,
    ViTWithHead,
    batches,
    crops,
    gradient_cosine,
    load_pictures,
    losses,
    measure,
    schedule,
    train,
)

TINY = ViTConfig(classes=3, size=8, patch=4, width=32, depth=1, epochs=2, batch=8, hidden=8)

STOP, JOINT = Method("stop-gradient", 1.0, stop=True), Method("joint, 1", 1.0, stop=False)


@pytest.fixture
def pictures() -> Pictures:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (20, 12, 12, 3), generator=generator, dtype=torch.uint8)
    return Pictures(pixels, torch.arange(20) % 3)


def gradients(model: ViTWithHead, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    shared = [p for name, p in model.backbone.named_parameters() if not name.startswith("head.")]
    return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in shared])


def both(pictures: Pictures) -> dict[bool, ViTWithHead]:
    """The same weights with the stop-gradient and without."""
    models = {}
    for stop in (True, False):
        torch.manual_seed(0)
        models[stop] = ViTWithHead(TINY, stop=stop).eval()
    return models


def test_the_stop_gradient_keeps_the_uncertainty_out_of_the_backbone(pictures: Pictures) -> None:
    images = crops(pictures.pixels, TINY.size, None)
    for stop, model in both(pictures).items():
        classification, uncertainty = losses(model, images, pictures.labels)
        alone = gradients(model, classification)
        with_it = gradients(model, classification + 10 * uncertainty)
        assert torch.equal(alone, with_it) == stop
        assert (gradients(model, uncertainty) == 0).all() == stop
        assert any(p.grad is not None and (p.grad != 0).any() for p in model.head.parameters())


def test_both_methods_compute_the_same_numbers(pictures: Pictures) -> None:
    images = crops(pictures.pixels, TINY.size, None)
    found = [model(images) for model in both(pictures).values()]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    cross_entropy, error = losses(both(pictures)[True], images, pictures.labels)
    per_image = F.cross_entropy(found[0][0], pictures.labels, reduction="none")
    assert float(cross_entropy.detach()) == pytest.approx(float(per_image.detach().mean()))
    assert float(error.detach()) == pytest.approx(float(((found[0][1] - per_image) ** 2).detach().mean()), rel=1e-5)


def test_gradient_cosine_is_that_of_the_two_gradients(pictures: Pictures) -> None:
    images = crops(pictures.pixels, TINY.size, None)
    models = both(pictures)
    classification, uncertainty = losses(models[False], images, pictures.labels)
    a, b = gradients(models[False], classification).numpy(), gradients(models[False], uncertainty).numpy()
    expected = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    for stop, model in models.items():  # with the stop-gradient: of what is stopped
        assert gradient_cosine(model, images, pictures.labels) == pytest.approx(expected, abs=1e-5)
        assert model.stop == stop


def test_crops_are_parts_of_the_pictures(pictures: Pictures) -> None:
    centre = crops(pictures.pixels, 8, None)
    naive = (pictures.pixels[:, 2:10, 2:10].permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.26
    assert torch.equal(centre, naive)
    random = crops(pictures.pixels, 8, torch.Generator().manual_seed(0))
    places = set()
    for picture, crop in zip(pictures.pixels, random, strict=True):
        restored = ((crop * 0.26 + 0.45) * 255).round().to(torch.uint8).permute(1, 2, 0)
        found = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if torch.equal(picture[top : top + 8, left : left + 8].flip(1 if mirrored else ()), restored)
        ]
        assert len(found) == 1
        places |= set(found)
    assert len(places) > 10
    assert {mirrored for _, _, mirrored in places} == {False, True}


def test_an_epoch_shows_every_image_once_and_in_another_order(pictures: Pictures) -> None:
    numbered = Pictures(pictures.pixels, torch.arange(20))
    first, second = (torch.cat([labels for _, labels in batches(numbered, TINY, 1, epoch)]) for epoch in (0, 1))
    assert sorted(first.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()


def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(TINY, JOINT, 1, pictures, pictures, tmp_path / "whole.pt")
    assert len(whole) == 2

    save = joint_training._save

    def killed(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(joint_training, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, JOINT, 1, pictures, pictures, tmp_path / "part.pt")
    monkeypatch.setattr(joint_training, "_save", save)
    assert train(TINY, JOINT, 1, pictures, pictures, tmp_path / "part.pt") == whole
    weights = [torch.load(tmp_path / name, weights_only=True)["model"] for name in ("whole.pt", "part.pt")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_checkpoint_of_other_settings_is_refused(pictures: Pictures, tmp_path: Path) -> None:
    train(replace(TINY, epochs=1), STOP, 1, pictures, pictures, tmp_path / "run.pt")
    with pytest.raises(ConflictError, match="made with other settings"):
        train(replace(TINY, epochs=1, lr=1e-2), STOP, 1, pictures, pictures, tmp_path / "run.pt")


def test_measure_counts_right_answers(pictures: Pictures) -> None:
    model = both(pictures)[True]
    found = measure(model, pictures, TINY.size)
    with torch.inference_mode():
        guesses = [int(model(crops(one[None], TINY.size, None))[0].argmax()) for one in pictures.pixels]
    assert found["accuracy"] == pytest.approx(np.mean(np.array(guesses) == pictures.labels.numpy()))
    assert 0 <= found["auroc"] <= 1


def test_learning_rate_rises_and_falls() -> None:
    assert schedule(0) == 0
    assert schedule(0.05) == pytest.approx(0.5)
    assert schedule(0.1) == pytest.approx(1)
    assert schedule(0.55) == pytest.approx(0.5)
    assert schedule(1) == pytest.approx(0, abs=1e-9)


def test_pictures_are_read_with_their_labels_and_odd_ones_refused(tmp_path: Path) -> None:
    wnids = list(imagenet_classes())[:3]
    for shade, wnid in enumerate(wnids):
        (tmp_path / "set" / wnid).mkdir(parents=True)
        Image.new("RGB", (12, 12), (50 * shade,) * 3).save(tmp_path / "set" / wnid / "0.png")
    found = load_pictures(tmp_path, "set", 2)
    assert found.labels.tolist() == [0, 1]
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 50]
    with pytest.raises(ConflictError, match="Found 3 labels"):
        load_pictures(tmp_path, "set", 4)
    Image.new("RGB", (16, 12)).save(tmp_path / "set" / wnids[0] / "1.png")
    with pytest.raises(ConflictError, match="several sizes"):
        load_pictures(tmp_path, "set", 2)
