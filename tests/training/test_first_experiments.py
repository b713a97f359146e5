from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from pvu.head import UncertaintyHead
from pvu.images import Preprocessing
from pvu.metrics import recall_at_1
from pvu.models import Model
from pvu.registry import ModelSpec
from tests.training.small_cache import NAMES, QUICK, make_bench, make_set
from training.config import CacheConfig, Config
from training.data import SourceConfig, imagenet_classes
from training.evaluation.encoding import encode_set
from training.evaluation.sets import find_set
from training.experiments import first_experiments
from training.experiments.first_experiments import compare_backbones, markdown, rank_sets, top_1
from training.experiments.workbench import trained_head, uncertainty

CONFIG = Config("fake", CacheConfig(sources=tuple(SourceConfig(name, passes=1) for name in NAMES)), QUICK)


def backbone(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_vit", pretrained=False, img_size=32, num_classes=1000)


def headed(body: torch.nn.Module) -> Model:
    spec = ModelSpec("fake", "test_vit", "hub")
    return Model(spec, body, UncertaintyHead(64, 8), Preprocessing(size=32), precision="float32", device="cpu")


def test_each_seed_is_ranked_by_its_own_head(tmp_path: Path) -> None:
    bench, sets = make_bench(tmp_path), {"one": make_set(21)}
    found = rank_sets(bench, {"quick": CONFIG}, [1, 2], sets, repeats=20)["quick"]["one"]
    by_hand = []
    for seed in (1, 2):
        head = trained_head(bench, type(QUICK)(**(QUICK.__dict__ | {"seed": seed})), "quick-ranking")
        by_hand.append(sets["one"].r_auroc(uncertainty(head, sets["one"].encoded)))
    assert found["r_auroc"] == pytest.approx(by_hand)
    assert by_hand[0] != by_hand[1]
    assert found["over_seeds"]["mean"] == pytest.approx(np.mean(by_hand))
    assert found["over_images"]["mean"] == pytest.approx(by_hand[0])


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch, data: Path) -> Model:
    model = headed(backbone())
    monkeypatch.setattr(first_experiments, "load_model", lambda *_, **__: model)
    monkeypatch.setattr(first_experiments, "load_backbone", lambda _: backbone())
    monkeypatch.setattr(first_experiments, "CLASSIFIED", ("labelled",))
    return model


def test_a_head_leaves_the_backbone_alone(small_model: Model, data: Path) -> None:
    found = compare_backbones(CONFIG, Path("head"), data, ["labelled"], workers=0)
    assert len(set(found["weights"])) == 1
    assert found["labelled"]["images"] == 20
    assert found["labelled"]["differing"] == 0
    images = find_set(data, "labelled")
    z = encode_set(small_model, images, workers=0)[0]["whole"]
    assert found["labelled"]["recall_at_1"] == [recall_at_1(z, images.labels)] * 2
    assert found["labelled"]["top_1"][0] == found["labelled"]["top_1"][1]
    assert "| labelled | 20 | 0 |" in markdown({"ranking": {}, "backbone": found})


def test_a_backbone_that_changed_is_noticed(small_model: Model, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = backbone()
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1
    monkeypatch.setattr(first_experiments, "load_backbone", lambda _: changed)
    found = compare_backbones(CONFIG, Path("head"), data, ["labelled"], workers=0)
    assert found["weights"][0] != found["weights"][1]
    assert found["labelled"]["differing"] == 20


def test_top_1_counts_wnids(encoder) -> None:
    encoder.device = "cpu"
    z = np.random.default_rng(0).normal(size=(30, 48)).astype(np.float32)
    guesses = encoder.logits(torch.from_numpy(z)).argmax(1).numpy()
    wnids = np.array(list(imagenet_classes()))
    labels = wnids[guesses]
    assert top_1(encoder, z, labels) == 1
    labels[:6] = wnids[(guesses[:6] + 1) % 1000]
    assert top_1(encoder, z, labels) == pytest.approx(0.8)
