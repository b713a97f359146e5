"""Percentiles among the pictures that a head was measured on, also for stores that were made before they kept them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pvu.checkpoint import load_head, save_head
from pvu.head import UncertaintyHead
from pvu.models import fingerprint_of, load_model
from pvu.pipeline import embed
from pvu.reference import COUNT, as_quantiles, percentile_among, quantiles_of
from pvu.registry import DEFAULT, own_head_path, resolve
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder

STEPS = np.linspace(0, 100, COUNT)


@dataclass
class Measured(FakeEncoder):
    """A fake whose head knows its reference pictures: u = percentile / 50 there."""

    @property
    def reference_quantiles(self) -> np.ndarray:
        return STEPS / 50


def share_at_most(reference: np.ndarray, u: float) -> float:
    return 100 * float(np.mean(reference <= u))


def test_it_is_the_share_of_the_reference_pictures_that_is_at_most_as_uncertain() -> None:
    reference = np.random.default_rng(0).lognormal(size=20_000)
    quantiles = np.quantile(reference, np.linspace(0, 1, COUNT))
    asked = np.random.default_rng(1).lognormal(size=(5, 40))
    expected = [[share_at_most(reference, u) for u in row] for row in asked]
    error = np.abs(percentile_among(quantiles, asked) - expected)
    assert error.max() < 1  # between two of the 101 it is a guess
    assert error.mean() < 0.1


def test_between_the_quantiles_it_is_interpolated_and_beyond_them_it_is_0_or_100() -> None:
    quantiles = STEPS * 2
    found = percentile_among(quantiles, [0, 1, 2, 3.5, 199, 200, 1000, -1, np.nan])
    np.testing.assert_allclose(found, [0, 0.5, 1, 1.75, 99.5, 100, 100, 0, np.nan])
    assert found.dtype == np.float32
    assert percentile_among(quantiles, 50.0).shape == ()


def test_of_equal_quantiles_the_last_counts() -> None:
    quantiles = np.where(STEPS < 40, 1.0, np.where(STEPS < 70, 2.0, 3.0))
    np.testing.assert_allclose(percentile_among(quantiles, [1, 2, 3]), [39, 69, 100])


def test_unknown_quantiles_give_nan_of_the_same_shape() -> None:
    found = percentile_among(None, np.ones((2, 3)))
    assert found.shape == (2, 3)
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    "values",
    [None, "0.1", [1.0, 2.0], list(STEPS[::-1]), [float("nan")] * COUNT, ["a"] * COUNT, [[1.0]] * COUNT, {"a": 1}],
)
def test_what_are_no_quantiles_counts_as_unknown(values: object) -> None:
    assert as_quantiles(values) is None


@pytest.mark.usefixtures("quick_map")
def test_a_store_keeps_those_of_its_model(photos: Path) -> None:
    dataset = embed(photos, model=Measured(), workers=0)
    np.testing.assert_array_equal(dataset.reference_quantiles, STEPS / 50)
    np.testing.assert_allclose(dataset.reference_percentile(dataset.uncertainty), 50 * dataset.uncertainty, rtol=1e-5)


@pytest.mark.usefixtures("quick_map")
def test_a_head_that_says_nothing_of_them_gives_nan(photos: Path) -> None:
    dataset = embed(photos, model=FakeEncoder(), workers=0)
    assert dataset.manifest["reference_quantiles"] is None
    assert dataset.reference_quantiles is None
    assert np.isnan(dataset.reference_percentile([0.1, 0.2])).all()


def rewrite(dataset: EmbeddedDataset, **changes: object) -> EmbeddedDataset:
    """The store as an earlier version of pvu wrote it, without quantiles, and with other changes."""
    manifest = {name: value for name, value in dataset.manifest.items() if name != "reference_quantiles"}
    (dataset.path / "manifest.json").write_text(json.dumps(manifest | changes))
    return EmbeddedDataset(dataset.path)


@pytest.mark.usefixtures("quick_map")
def test_an_older_store_has_them_from_its_head_unless_that_is_another_now(photos: Path) -> None:
    made = embed(photos, model=FakeEncoder(), workers=0)
    model = load_model()
    older = rewrite(made, model=model.name, fingerprint=model.fingerprint)
    np.testing.assert_array_equal(older.reference_quantiles, model.reference_quantiles)
    assert older.reference_percentile(np.median(model.reference_quantiles)) == pytest.approx(50)
    assert rewrite(made, model=model.name, fingerprint="another").reference_quantiles is None
    assert rewrite(made, model="no model", fingerprint=model.fingerprint).reference_quantiles is None


@pytest.mark.parametrize("name", ["hybrid-vit", "efficientnet-lite0"])
def test_the_fingerprint_from_a_heads_file_is_that_of_the_loaded_model(name: str) -> None:
    model = load_model(name)
    np.testing.assert_array_equal(quantiles_of(name, model.fingerprint), model.reference_quantiles)


def test_a_users_own_head_is_asked_first_and_must_be_the_stores(tmp_path: Path) -> None:
    _, facts = load_head(resolve(DEFAULT).head)
    own = own_head_path(DEFAULT)
    own.parent.mkdir(parents=True)
    torch.manual_seed(0)
    head = UncertaintyHead(facts["dim"], facts["hidden"])
    save_head(head, own, metadata=facts | {"reference_quantiles": list(STEPS)}, dtype=torch.float32)
    spec = resolve(DEFAULT)
    assert spec.preprocessing is not None
    fingerprint = fingerprint_of(spec.architecture, facts["backbone_hash"], head, spec.preprocessing)
    np.testing.assert_array_equal(quantiles_of(DEFAULT, fingerprint), STEPS)
    save_head(head, own, metadata={"dim": facts["dim"]}, dtype=torch.float32)  # a head that does not say whose it is
    assert quantiles_of(DEFAULT, fingerprint) is None
    own.write_bytes(b"damaged")
    assert quantiles_of(DEFAULT, fingerprint) is None
