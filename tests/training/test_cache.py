from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training import cache as cache_module
from training.cache import build_cache
from training.cached import load_views
from training.config import CacheConfig
from training.data import SourceConfig
from training.shards import CacheError

VIEWS = 20 * 3 + 7 * 2


def test_every_view_is_there_with_its_facts(data: Path, cache_config: CacheConfig, encoder, tmp_path: Path) -> None:
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    views = load_views(tmp_path / "cache", cache_config)
    assert len(views) == encoder.encoded == VIEWS
    assert views.z.dtype == np.float16
    for source, passes, count in ((0, 3, 20), (1, 2, 7)):
        for pass_index in range(passes):
            rows = (views.source == source) & (views.pass_index == pass_index)
            assert views.facts["image"][rows].tolist() == list(range(count))
    whole = views.pass_index == 0
    assert np.isnan(views.facts["instance"][whole]).all()
    assert np.isfinite(views.facts["retrieval"][views.source == 0]).all()  # 5 pictures a label
    assert (views.facts["area"][whole & np.isfinite(views.facts["cross_entropy"])] == 1).all()
    assert (views.facts["area"][~whole] < 1).any()


def test_losses_are_those_of_the_classifier_and_the_whole_pictures(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    views = load_views(tmp_path / "cache", cache_config)
    rows = np.flatnonzero((views.source == 0) & (views.pass_index == 1))
    z = views.z[rows].astype(np.float64)
    whole = views.z[(views.source == 0) & (views.pass_index == 0)].astype(np.float64)
    scores = z @ encoder.backbone.weight.detach().numpy().T.astype(np.float64)
    for place, row in enumerate(rows):
        facts = views.facts[row]
        assert facts["label"] == place // 5
        p = np.exp(scores[place]) / np.exp(scores[place]).sum()
        assert facts["cross_entropy"] == pytest.approx(-np.log(p[place // 5]), abs=0.02)
        cosines = whole @ z[place] / np.linalg.norm(whole, axis=1) / np.linalg.norm(z[place])
        q = np.exp(cosines / 0.05) / np.exp(cosines / 0.05).sum()
        assert facts["instance"] == pytest.approx(-np.log(q[place]), abs=0.05)
        assert facts["distance"] == pytest.approx(1 - cosines[place], abs=2e-3)
        q[place] = 0
        of_the_label = q[np.arange(20) // 5 == place // 5].sum() / q.sum()
        assert facts["retrieval"] == pytest.approx(-np.log(of_the_label), abs=0.05)


def test_unlabelled_views_have_the_guess_on_their_whole_picture(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    views = load_views(tmp_path / "cache", cache_config)
    rows = {p: (views.source == 1) & (views.pass_index == p) for p in (0, 1)}
    np.testing.assert_array_equal(views.facts["label"][rows[0]], views.facts["label"][rows[1]])
    decoded = np.isfinite(views.facts["cross_entropy"][rows[0]])
    assert decoded.tolist() == [True] * 6 + [False]  # broken.png is the last
    assert views.facts["correct"][rows[0]][decoded].all()
    assert not views.known[rows[0]].any()


def test_a_run_that_was_killed_goes_on_where_it_was(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cache"
    represent = encoder.represent

    def dies(pixels: torch.Tensor) -> torch.Tensor:
        if encoder.encoded >= 30:
            raise KeyboardInterrupt
        return represent(pixels)

    monkeypatch.setattr(encoder, "represent", dies)
    with pytest.raises(KeyboardInterrupt):
        build_cache(cache_config, encoder, data, out, workers=0)
    before = {path: path.stat().st_mtime_ns for path in out.glob("shards/*/z.npy")}
    finished = encoder.encoded
    (out / "shards" / "labelled-01-0000016.partial").mkdir()  # what a kill in the middle of a write leaves
    monkeypatch.setattr(encoder, "represent", represent)
    build_cache(cache_config, encoder, data, out, workers=0)
    assert encoder.encoded == VIEWS
    assert 0 < finished < VIEWS
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    uninterrupted = tmp_path / "other"
    build_cache(cache_config, encoder, data, uninterrupted, workers=0)
    np.testing.assert_array_equal(load_views(out, cache_config).z, load_views(uninterrupted, cache_config).z)
    # As bytes: the NaNs are to be equal too.
    assert load_views(out, cache_config).facts.tobytes() == load_views(uninterrupted, cache_config).facts.tobytes()


def test_workers_make_the_same_cache(data: Path, cache_config: CacheConfig, encoder, tmp_path: Path) -> None:
    build_cache(cache_config, encoder, data, tmp_path / "one", workers=0)
    build_cache(cache_config, encoder, data, tmp_path / "two", workers=2)
    np.testing.assert_array_equal(
        load_views(tmp_path / "one", cache_config).z, load_views(tmp_path / "two", cache_config).z
    )


def test_more_passes_are_added_without_redoing_the_others(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    labelled, plain = cache_config.sources
    more = replace(cache_config, sources=(labelled, replace(plain, passes=3)))
    assert build_cache(more, encoder, data, tmp_path / "cache", workers=0) == 2
    assert len(load_views(tmp_path / "cache", more)) == VIEWS + 14


@pytest.mark.parametrize("changed", ["backbone", "seed", "augmentation", "images", "format"])
def test_a_foreign_cache_is_refused(
    changed: str, data: Path, cache_config: CacheConfig, encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cache"
    build_cache(cache_config, encoder, data, out, workers=0)
    if changed == "backbone":
        encoder = type(encoder)(seed=1)
    elif changed == "seed":
        cache_config = replace(cache_config, seed=1)
    elif changed == "augmentation":
        cache_config = replace(cache_config, augmentation=replace(cache_config.augmentation, jitter=0.0))
    elif changed == "images":
        (data / "plain" / "5.png").rename(data / "plain" / "6.png")
    else:
        monkeypatch.setattr(cache_module.shards, "FORMAT", "pvu.cache/2")
    with pytest.raises(CacheError, match=f"was made with another {changed}"):
        build_cache(cache_config, encoder, data, out, workers=0)


def test_training_refuses_an_unfinished_missing_or_foreign_cache(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    with pytest.raises(CacheError, match="There is no cache"):
        load_views(tmp_path / "cache", cache_config)
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    labelled, plain = cache_config.sources
    more = replace(cache_config, sources=(replace(labelled, passes=3), plain))
    with pytest.raises(CacheError, match="not finished: labelled-03-0000000 is missing"):
        load_views(tmp_path / "cache", more)
    with pytest.raises(CacheError, match="has no source third"):
        load_views(tmp_path / "cache", replace(cache_config, sources=(SourceConfig("third", passes=1),)))
    with pytest.raises(CacheError, match="another temperature"):
        load_views(tmp_path / "cache", replace(cache_config, temperature=0.1))
