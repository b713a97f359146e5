"""Weights come back as they were saved, and nothing but tensors is ever loaded."""

from __future__ import annotations

import os
import pickle
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from pvu.checkpoint import load_authors_checkpoint, load_head, load_state_dict, save_head
from pvu.errors import CheckpointError
from pvu.head import UncertaintyHead
from tests.authors import uncertainties, write_checkpoint


@pytest.fixture
def head() -> UncertaintyHead:
    torch.manual_seed(0)
    return UncertaintyHead(12, 7)


def test_a_head_comes_back_exactly_in_float32(head: UncertaintyHead, tmp_path: Path) -> None:
    save_head(
        head, tmp_path / "h.safetensors", metadata={"backbone": "x", "r_auroc": {"cub": 0.6}}, dtype=torch.float32
    )
    loaded, metadata = load_head(tmp_path / "h.safetensors")
    z = torch.randn(5, 12)
    torch.testing.assert_close(loaded(z), head(z), rtol=0, atol=0)
    assert metadata == {"format": "pvu.head/1", "dim": 12, "hidden": 7, "backbone": "x", "r_auroc": {"cub": 0.6}}
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert [entry.name for entry in tmp_path.iterdir()] == ["h.safetensors"]


def test_half_precision_halves_the_file_and_keeps_the_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    head, z = UncertaintyHead(64), torch.randn(50, 64)
    for dtype in (torch.float16, torch.float32):
        save_head(head, tmp_path / f"{dtype}.safetensors", metadata={}, dtype=dtype)
    sizes = [(tmp_path / f"{dtype}.safetensors").stat().st_size for dtype in (torch.float16, torch.float32)]
    assert sizes[0] < 0.51 * sizes[1]
    loaded, _ = load_head(tmp_path / "torch.float16.safetensors")
    assert next(loaded.parameters()).dtype == torch.float32
    torch.testing.assert_close(loaded(z), head(z), rtol=1e-3, atol=1e-3)


def test_saving_replaces_an_older_head(head: UncertaintyHead, tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    path.write_bytes(b"old")
    save_head(head, path, metadata={}, dtype=torch.float32)
    assert load_head(path)[0].dim == 12


def test_files_that_are_no_head_are_refused(head: UncertaintyHead, tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    with pytest.raises(CheckpointError, match=r"Cannot read the head .*h\.safetensors"):
        load_head(path)
    for content in (b"", b"garbage", pickle.dumps({"a": 1})):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="Expected a safetensors file"):
            load_head(path)
    save_head(head, path, metadata={}, dtype=torch.float32)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="Expected a safetensors file"):
        load_head(path)


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        (None, "its format is None, expected 'pvu.head/1'"),
        ({"other": "x"}, "its format is None"),
        ({"pvu": '{"format": "pvu.head/9"}'}, "its format is 'pvu.head/9'"),
        ({"pvu": "not json"}, "Expected a safetensors file"),
        ({"pvu": "[]"}, "is not an uncertainty head"),
        ({"pvu": '{"format": "pvu.head/1"}'}, "does not have the tensors that its header names"),
        ({"pvu": '{"format": "pvu.head/1", "dim": 0, "hidden": 7}'}, "does not have the tensors"),
        ({"pvu": '{"format": "pvu.head/1", "dim": 12, "hidden": 8}'}, "does not have the tensors"),
    ],
)
def test_foreign_safetensors_are_refused(tmp_path: Path, metadata: dict[str, str] | None, match: str) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"layers.0.weight": torch.zeros(7, 12)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=match):
        load_head(path)


# Other people's checkpoints


TENSORS = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors")
    loaded = load_state_dict(tmp_path / "w.safetensors")
    assert set(loaded) == set(TENSORS)
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": tensors, "optimizer": {"lr": 0.1}},
        lambda tensors: {"state_dict": {"model": tensors}},
        lambda tensors: {f"module.{name}": value for name, value in tensors.items()},
        lambda tensors: {f"module.model.{name}": value for name, value in tensors.items()},
        lambda tensors: {"state_dict": {f"model.{name}": value for name, value in tensors.items()}},
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.pth.tar", "w.bin"])
def test_pytorch_checkpoints_are_unwrapped(tmp_path: Path, wrap: object, name: str) -> None:
    torch.save(wrap(TENSORS), tmp_path / name)  # type: ignore[operator]
    assert same(load_state_dict(tmp_path / name), TENSORS)


def test_a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    tensors = {"model.a": torch.ones(1), "head.b": torch.ones(1)}
    torch.save(tensors, tmp_path / "w.pth")
    assert set(load_state_dict(tmp_path / "w.pth")) == set(tensors)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("hacked",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": Hostile()}}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Hostile()))
    for name in ("evil.pth", "evil.pkl"):
        with pytest.raises(CheckpointError, match="checkpoint that holds tensors alone"):
            load_state_dict(tmp_path / name)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\n", b"garbage", b"PK\x03\x04", bytes(100)])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"Cannot read the weights in .* Expected a safetensors file"):
        load_state_dict(tmp_path / name)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights file at .*absent\.pth"):
        load_state_dict(tmp_path / "absent.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2), {"a": {"b": torch.ones(1)}}])
def test_what_is_not_a_dictionary_of_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds no dictionary of tensors"):
        load_state_dict(tmp_path / "w.pth")


# The authors' checkpoints


def small_vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=11).eval()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_authors_checkpoint_gives_the_backbone_and_the_head_of_the_described_forward_pass(
    tmp_path: Path, prefix: str
) -> None:
    vit, path = small_vit(), tmp_path / "model_best.pth.tar"
    layers = write_checkpoint(path, vit, "vit_of_the_test", dim=24, prefix=prefix)
    loaded = load_authors_checkpoint(path)
    torch.manual_seed(9)
    fresh = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=11).eval()
    fresh.load_state_dict(loaded.backbone)
    x = torch.randn(5, 3, 32, 32)
    with torch.inference_mode():
        expected = uncertainties(vit.forward_head(vit.forward_features(x), pre_logits=True), layers)
        z = fresh.forward_head(fresh.forward_features(x), pre_logits=True)
        torch.testing.assert_close(fresh(x), vit(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(loaded.head(z), expected, rtol=0, atol=1e-5)
    assert loaded.architecture == "vit_of_the_test"
    assert loaded.facts["args"] == {
        "model": "vit_of_the_test",
        "seed": 1,
        "lr_base": 1e-3,
        "opt_betas": [0.8, 0.95],
        "unc_width": 512,
    }
    assert (loaded.facts["epoch"], loaded.facts["metric"]) == (12, 0.607)
    assert not any(parameter.requires_grad for parameter in loaded.head.parameters())


@pytest.mark.parametrize("place", ["args", "optimizer", "state_dict", "inside args"])
def test_an_authors_checkpoint_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = Namespace(seed=Hostile()) if place == "inside args" else {"x": Hostile()}
    write_checkpoint(tmp_path / "evil.pth.tar", small_vit(), "vit", dim=24, **{place.removeprefix("inside "): hostile})
    with pytest.raises(CheckpointError, match=r"it asks for \w+\.mkdir, .* Expected a checkpoint of"):
        load_authors_checkpoint(tmp_path / "evil.pth.tar")
    assert not (tmp_path / "hacked").exists()


def test_a_namespace_is_taken_from_the_authors_checkpoints_alone(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "w.pth.tar", small_vit(), "vit", dim=24)
    load_authors_checkpoint(tmp_path / "w.pth.tar")
    with pytest.raises(CheckpointError, match="checkpoint that holds tensors alone"):
        load_state_dict(tmp_path / "w.pth.tar")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"arch": None}, "expected the entries state_dict and arch, found epoch, arch"),
        ({"state_dict": {}}, "expected the entries state_dict and arch"),
        ({"state_dict": {"model.a": torch.ones(1)}}, "no uncertainty head: expected .* found none of them"),
        ({"state_dict": {"a": torch.ones(1)}}, r"holds no backbone: none of its 1 tensors is named model\.\*"),
    ],
)
def test_what_an_authors_checkpoint_lacks_is_named(tmp_path: Path, changes: dict[str, object], match: str) -> None:
    write_checkpoint(tmp_path / "w.pth.tar", small_vit(), "vit", dim=24, **changes)
    with pytest.raises(CheckpointError, match=match):
        load_authors_checkpoint(tmp_path / "w.pth.tar")


def test_a_head_of_other_shapes_is_refused(tmp_path: Path) -> None:
    vit, name = small_vit(), "unc_module.unc_module."
    layers = write_checkpoint(tmp_path / "w.pth.tar", vit, "vit", dim=24)
    tensors = {f"model.{key}": value for key, value in vit.state_dict().items()}
    tensors |= {name + key: value for key, value in layers.items()} | {name + "2.weight": torch.ones(3, 3)}
    write_checkpoint(tmp_path / "w.pth.tar", vit, "vit", dim=24, state_dict=tensors)
    with pytest.raises(CheckpointError, match=r"is not the paper's: .*size mismatch"):
        load_authors_checkpoint(tmp_path / "w.pth.tar")
