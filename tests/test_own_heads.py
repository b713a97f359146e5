"""A fitted head on its way to use, with a real (tiny) backbone: files, registry, and the store that belongs to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pvu import own_heads
from pvu.bootstrap import Estimate
from pvu.checkpoint import load_head
from pvu.errors import FitError, StoreError
from pvu.fitting import HEAD, FitConfig
from pvu.head import predict
from pvu.models import load_model
from pvu.own_heads import (
    Candidate,
    apply_head,
    candidate_folder,
    candidate_of,
    discard,
    fit_candidate,
    fit_job,
    head_to_apply,
    own_head_facts,
    use,
)
from pvu.pipeline import embed, embed_with_report
from pvu.progress import PHASES, Progress
from pvu.registry import own_head_path
from pvu.store import EmbeddedDataset
from tests.fakes import write_pictures
from tests.headless import QUICK, embed_pets, write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture
def dataset(weights: Path, tmp_path: Path, quick_map: None) -> EmbeddedDataset:
    made = embed_pets(tmp_path, weights)
    assert not made.has_uncertainty
    return made


def test_a_candidate_waits_until_somebody_decides(dataset: EmbeddedDataset) -> None:
    assert candidate_of(dataset) is None
    seen: list[Progress] = []
    candidate = fit_candidate(dataset, QUICK, progress=seen.append)
    assert [seen[0].phase, seen[-1].phase] == ["model", "save"]
    assert {progress.phase for progress in seen} <= set(PHASES)
    found = candidate_of(dataset)
    assert found == candidate
    assert found is not None
    assert (found.facts["images"], found.facts["labels"], found.facts["fitted_on"]) == (60, 4, "pets")
    assert isinstance(found.scores[HEAD], Estimate)
    assert not own_head_path(dataset.manifest["model"]).exists()  # not in use
    assert load_model(dataset.manifest["model"]).head is None
    discard(candidate)
    assert candidate_of(dataset) is None
    assert not candidate_folder(dataset).exists()


def test_a_head_in_use_is_found_by_the_registry_and_has_a_store_without_encoding(dataset: EmbeddedDataset) -> None:
    candidate = fit_candidate(dataset, QUICK)
    card = candidate.card.read_text()
    u = np.load(candidate.folder / "uncertainty.npy")
    made = use(dataset, candidate)
    model = load_model(dataset.manifest["model"])
    assert model.head is not None
    assert made.manifest["fingerprint"] == model.fingerprint
    assert made.path != dataset.path
    assert made.model.name == model.name  # opens it, so the fingerprints agree
    np.testing.assert_array_equal(made.uncertainty, u)
    assert made.has_uncertainty
    for name in ("embeddings", "neighbors", "similarities", "coords"):
        np.testing.assert_array_equal(getattr(made, name), getattr(dataset, name))
    assert made.thumbnail(3) == dataset.thumbnail(3)
    assert "broken.png" in made.failed["path"].tolist()
    assert made.failed.equals(dataset.failed)
    assert own_head_path(model.name).with_suffix(".md").read_text() == card
    assert candidate_of(dataset) is None
    again = embed_with_report(made.source, model=model.name, workers=0)
    assert (again.dataset.path, again.computed) == (made.path, 0)  # a new run over the folder finds it


def test_new_pictures_have_the_uncertainty_of_the_head(dataset: EmbeddedDataset) -> None:
    made = use(dataset, fit_candidate(dataset, QUICK))
    head, facts = load_head(own_head_path(dataset.manifest["model"]))
    picture = Image.open(dataset.image_path(5))
    z, u = made.model.encode([picture])
    assert u is not None
    np.testing.assert_allclose(u, predict(head, z), rtol=1e-5)
    np.testing.assert_allclose(made.reference_quantiles, facts["reference_quantiles"])
    assert 0 <= float(made.reference_percentile(u[0])) <= 100


def test_the_card_and_the_header_say_what_was_measured(dataset: EmbeddedDataset) -> None:
    candidate = fit_candidate(dataset, QUICK)
    text, facts = candidate.card.read_text(), candidate.facts
    assert facts["backbone_hash"] in text
    assert facts["command"] in text
    assert f"60 images with 4 labels, on\n{facts['created']}" in text
    value, low, high = facts["r_auroc"]["similarity"]
    assert f"| similarity to the nearest image | {value:.3f} ({low:.3f} to {high:.3f}) |" in text
    assert "## Limits" in text
    assert all(len(line) <= 130 for line in text.splitlines() if str(facts["backbone"]) not in line)
    header = load_head(candidate.head)[1]
    assert header["r_auroc"] == facts["r_auroc"]
    assert header["config"]["steps"] == 30
    json.dumps(facts)


def test_a_head_that_is_there_is_kept_and_the_store_before_it_can_be_fitted_again(dataset: EmbeddedDataset) -> None:
    first = use(dataset, fit_candidate(dataset, QUICK))
    path = own_head_path(dataset.manifest["model"])
    old = path.read_bytes()
    seed = FitConfig(steps=30, hidden=8, batch=32, seed=1)
    second = use(dataset, fit_candidate(dataset, seed))  # of the store without a head
    assert path.with_name(path.name + ".bak").read_bytes() == old
    third = use(first, fit_candidate(first, QUICK))  # of the store of a head that is only kept
    assert path.with_name(path.name + ".bak1").exists()
    assert path.with_name(path.with_suffix(".md").name + ".bak1").exists()
    assert path.read_bytes() != old  # its measured numbers know of the head before
    assert len({first.path, second.path}) == 2
    assert third.path == first.path
    facts = own_head_facts(third)
    assert facts is not None
    assert "present" in facts["r_auroc"]
    assert own_head_facts(dataset) is None


def test_other_weights_than_those_of_the_store_are_refused(dataset: EmbeddedDataset, weights: Path) -> None:
    before = weights.read_bytes()
    try:
        write_weights(weights, seed=1)
        with pytest.raises(StoreError, match=r"The weights of test_resnet@.* have changed since pets was embedded"):
            fit_candidate(dataset, QUICK)
    finally:
        weights.write_bytes(before)


def test_a_candidate_of_another_state_of_the_store_is_none(dataset: EmbeddedDataset) -> None:
    candidate = fit_candidate(dataset, QUICK)
    write_pictures(dataset.source, ["99.png"])
    newer = embed(dataset.source, model=dataset.manifest["model"], workers=0)
    assert newer.path == dataset.path
    assert candidate_of(newer) is None
    assert candidate.head.exists()


def test_a_store_that_a_run_has_replaced_since_is_not_mixed_with_the_head(dataset: EmbeddedDataset) -> None:
    candidate = fit_candidate(dataset, QUICK)
    write_pictures(dataset.source, ["99.png"])
    embed(dataset.source, model=dataset.manifest["model"], workers=0)
    with pytest.raises(StoreError, match="pets has been embedded again meanwhile"):
        use(dataset, candidate)
    assert not own_head_path(dataset.manifest["model"]).exists()
    assert candidate.head.exists()


def test_a_crash_while_the_store_is_made_costs_the_first_store_nothing(
    dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves hard links to the first store's files, which the next run over the folder must not write to."""
    files = ("thumbs.bin", "embeddings.npy", "neighbors.npz", "umap.npy", "images.parquet")
    before = {name: (dataset.path / name).read_bytes() for name in files}
    candidate = fit_candidate(dataset, QUICK)
    with monkeypatch.context() as crash:
        crash.setattr(own_heads, "commit", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        crash.setattr(own_heads, "MANIFEST", "not-yet.json")
        with pytest.raises(KeyboardInterrupt):
            use(dataset, candidate)
    (left,) = (dataset.path.parent).glob("*.partial")
    assert (left / "thumbs.bin").samefile(dataset.path / "thumbs.bin")
    write_pictures(dataset.source, ["000.png"])
    made = embed(dataset.source, model=dataset.manifest["model"], workers=0)
    assert made.path == left.with_suffix("")
    assert {name: (dataset.path / name).read_bytes() for name in files} == before


def test_a_damaged_candidate_is_none(dataset: EmbeddedDataset) -> None:
    fit_candidate(dataset, QUICK).head.write_bytes(b"nonsense")
    assert candidate_of(dataset) is None


def test_what_the_job_does(dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_heads, "FitConfig", lambda seed: FitConfig(steps=30, hidden=8, batch=32, seed=seed))
    arguments = {"store": str(dataset.path), "seed": 3, "name": "pets", "model": "m"}
    result = fit_job(arguments, lambda _: None, lambda: False)
    found = candidate_of(dataset)
    assert isinstance(found, Candidate)
    assert result == {"candidate": str(found.folder)}
    assert found.facts["config"]["seed"] == 3


def test_no_backbone_is_loaded_for_a_set_that_will_not_do(
    dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_heads, "load_backbone", lambda _: pytest.fail("loaded"))
    dataset.manifest["brought"] = {}
    with pytest.raises(FitError, match="brought along"):
        fit_candidate(dataset, QUICK)


def test_without_hard_links_files_are_copied(dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(own_heads.os, "link", refuse)
    made = use(dataset, fit_candidate(dataset, QUICK))
    np.testing.assert_array_equal(made.embeddings, dataset.embeddings)
    assert (made.path / "thumbs.bin").stat().st_ino != (dataset.path / "thumbs.bin").stat().st_ino


def test_the_head_of_a_store_is_remembered_when_images_are_added(dataset: EmbeddedDataset) -> None:
    made = use(dataset, fit_candidate(dataset, QUICK))
    write_pictures(made.source, ["99.png"])
    newer = embed(made.source, model=made.manifest["model"], workers=0)
    assert (newer.path, len(newer)) == (made.path, 61)
    assert own_head_facts(newer) == own_head_facts(made)
    before = dict(zip(made.images["path"], made.uncertainty, strict=True))
    assert [before.get(path, u) for path, u in zip(newer.images["path"], newer.uncertainty, strict=True)] == list(
        newer.uncertainty
    )


def test_another_data_set_of_the_backbone_gets_the_head_without_encoding(
    dataset: EmbeddedDataset, make_photos: Callable[..., Path]
) -> None:
    model = dataset.manifest["model"]
    other = embed(make_photos(9), model=model, workers=0)
    assert head_to_apply(other) is None
    made = use(dataset, fit_candidate(dataset, QUICK))
    facts = head_to_apply(other)
    assert facts is not None
    assert facts["fitted_on"] == "pets"
    assert head_to_apply(made) is None
    given = apply_head(other)
    _, u = given.model.encode([Image.open(given.image_path(row)) for row in range(9)])
    assert u is not None
    np.testing.assert_allclose(given.uncertainty, u, rtol=0.02)  # of embeddings kept as float16
    assert own_head_facts(given) == facts
    assert head_to_apply(given) is None


def test_the_head_of_other_weights_is_not_offered(
    dataset: EmbeddedDataset, make_photos: Callable[..., Path], weights: Path
) -> None:
    before, model = weights.read_bytes(), dataset.manifest["model"]
    use(dataset, fit_candidate(dataset, QUICK))
    own_head_path(model).rename(own_head_path(model).with_suffix(".kept"))
    try:
        write_weights(weights, seed=1)
        other = embed(make_photos(9), model=model, workers=0)
    finally:
        weights.write_bytes(before)
    own_head_path(model).with_suffix(".kept").rename(own_head_path(model))
    assert head_to_apply(other) is None


def test_the_set_that_it_was_fitted_on_keeps_the_numbers_of_heads_that_have_not_seen_it(
    dataset: EmbeddedDataset,
) -> None:
    made = use(dataset, fit_candidate(dataset, QUICK))
    assert head_to_apply(dataset) is not None
    again = apply_head(dataset)
    assert again.path == made.path
    np.testing.assert_array_equal(again.uncertainty, made.uncertainty)
    head, _ = load_head(own_head_path(made.manifest["model"]))
    assert not np.allclose(predict(head, made.embeddings), made.uncertainty, rtol=0.05)
