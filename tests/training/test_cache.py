from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import packing
import pytest
import torch
from filelock import FileLock
from PIL import Image

from pvu.images import Preprocessing
from pvu.models import load_model
from training import cache as cache_module
from training.cache import build_cache
from training.cached import CachedViews, load_views
from training.config import CacheConfig, load_config
from training.data import SourceConfig, SourceImage
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


def test_a_shard_of_several_batches_is_the_same(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(cache_config, shard=20)
    build_cache(config, encoder, data, tmp_path / "one", workers=0)
    monkeypatch.setattr(cache_module, "BATCH", 16)
    batches: list[int] = []
    represent = encoder.represent
    monkeypatch.setattr(encoder, "represent", lambda pixels: batches.append(len(pixels)) or represent(pixels))
    build_cache(config, encoder, data, tmp_path / "two", workers=0)
    assert batches == [16, 4, 7] * 2 + [16, 4]
    one, two = load_views(tmp_path / "one", config), load_views(tmp_path / "two", config)
    assert one.z.tobytes() == two.z.tobytes()
    assert one.facts.tobytes() == two.facts.tobytes()


def test_more_passes_are_added_without_redoing_the_others(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    labelled, plain = cache_config.sources
    more = replace(cache_config, sources=(labelled, replace(plain, passes=3)))
    assert build_cache(more, encoder, data, tmp_path / "cache", workers=0) == 2
    assert len(load_views(tmp_path / "cache", more)) == VIEWS + 14


@pytest.mark.parametrize(
    "changed",
    ["backbone", "preprocessing", "seed", "augmentation", "images", "sizes", "uncompared", "temperature", "format"],
)
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
    elif changed == "sizes":  # another picture under the same name
        Image.new("RGB", (9, 9)).save(data / "plain" / "5.png")
    elif changed == "preprocessing":
        encoder.preprocessing = Preprocessing(size=encoder.preprocessing.size, crop_pct=0.9)
    elif changed == "uncompared":
        cache_config = replace(
            cache_config, sources=(*cache_config.sources[:1], SourceConfig("plain", 1, compare=False))
        )
    elif changed == "temperature":
        cache_config = replace(cache_config, temperature=0.1)
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


def test_images_of_another_class_are_not_mixed_in(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    packing.write_webdataset(data / "plain", packing.files_of(data / "labelled"), extension="cls")
    for path in (data / "plain").glob("*.png"):
        path.unlink()
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    numbered = replace(cache_config.sources[1], class_numbers=True)
    config = replace(cache_config, sources=(cache_config.sources[0], numbered))
    with pytest.raises(CacheError, match="20 images of plain have another class"):
        build_cache(config, encoder, data, tmp_path / "cache", workers=0)


@pytest.mark.parametrize("form", packing.FORMS)
def test_every_form_of_a_source_gives_the_same_whole_pictures(
    form: str, data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    list(packing.forms(data / "labelled", tmp_path / "packed"))
    plain = (SourceConfig("labelled", passes=0),)
    build_cache(replace(cache_config, sources=plain), encoder, data, tmp_path / "folder", workers=0)
    source = (SourceConfig(form, passes=0, class_numbers=form == "webdataset_cls"),)
    config = replace(cache_config, sources=source)
    build_cache(config, encoder, tmp_path / "packed", tmp_path / "other", workers=0)
    folder = load_views(tmp_path / "folder", replace(cache_config, sources=plain))
    other = load_views(tmp_path / "other", config)

    def views(found: CachedViews) -> list[tuple[bytes, int]]:
        return sorted((z.tobytes(), int(label)) for z, label in zip(found.z, found.facts["label"], strict=True))

    assert views(other) == views(folder)  # tables and shards have an order of their own


def test_a_source_that_is_not_compared_has_the_classifiers_loss_alone(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    alone = replace(cache_config, sources=tuple(replace(source, compare=False) for source in cache_config.sources))
    build_cache(alone, encoder, data, tmp_path / "alone", workers=0)
    compared, views = load_views(tmp_path / "cache", cache_config).facts, load_views(tmp_path / "alone", alone).facts
    for name in ("label", "cross_entropy", "correct", "area"):
        np.testing.assert_array_equal(views[name], compared[name])
    for name in ("retrieval", "instance", "distance"):
        assert np.isnan(views[name]).all()


def test_a_cache_of_before_goes_on(data: Path, cache_config: CacheConfig, encoder, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    build_cache(cache_config, encoder, data, out, workers=0)
    manifest = json.loads((out / "manifest.json").read_text())
    early = {name: value for name, value in manifest.items() if name not in ("classifier", "sizes", "uncompared")}
    (out / "manifest.json").write_text(json.dumps(early))
    for path in (out / "images").iterdir():
        path.write_text(json.dumps([row[:2] for row in json.loads(path.read_text())]))
    assert load_views(out, cache_config).label_names == ()
    assert build_cache(cache_config, encoder, data, out, workers=0) == 0
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert len(load_views(out, cache_config).label_names) == 4


def test_a_damaged_shard_is_made_again(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cache"
    build_cache(cache_config, encoder, data, out, workers=0)
    before = load_views(out, cache_config)
    for name, file in (("labelled-00-0000008", "facts.npy"), ("plain-01-0000000", "z.npy")):
        os.truncate(out / "shards" / name / file, 300)
    assert build_cache(cache_config, encoder, data, out, workers=0) == 2
    assert "labelled-00-0000008 of the cache" in capsys.readouterr().out
    after = load_views(out, cache_config)
    np.testing.assert_array_equal(before.z, after.z)
    assert before.facts.tobytes() == after.facts.tobytes()


def test_two_runs_do_not_write_to_one_cache(data: Path, cache_config: CacheConfig, encoder, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with (
        FileLock(tmp_path / "cache" / "cache.lock"),
        pytest.raises(CacheError, match="Another run is filling the cache"),
    ):
        build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)


@pytest.mark.parametrize("look_every", [2, 100])
def test_weights_that_change_are_noticed_and_what_they_gave_is_thrown_away(
    look_every: int, data: Path, cache_config: CacheConfig, encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cache"
    monkeypatch.setattr(cache_module, "_LOOK_EVERY", look_every)
    represent = encoder.represent
    good: set[str] = set()

    def learns(pixels: torch.Tensor) -> torch.Tensor:
        if encoder.encoded == 20 * 2 + 7 - 4:  # before the last shard of labelled's first augmented pass
            good.update(path.name for path in out.glob("shards/*"))
            with torch.no_grad():
                encoder.backbone.weight += 1e-3
        return represent(pixels)

    monkeypatch.setattr(encoder, "represent", learns)
    with pytest.raises(CacheError, match="The classifier has changed while the cache was made"):
        build_cache(cache_config, encoder, data, out, workers=0)
    left = {path.name for path in out.glob("shards/*")}
    assert len(good) == 6
    assert left == (good if look_every == 2 else {name for name in good if "-00-" in name})
    with pytest.raises(CacheError, match="was made with another backbone"):
        build_cache(cache_config, encoder, data, out, workers=0)


def test_representations_that_are_not_finite_end_the_run(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    represent = encoder.represent

    def breaks(pixels: torch.Tensor) -> torch.Tensor:
        z = represent(pixels)
        z[2] = torch.nan
        return z

    monkeypatch.setattr(encoder, "represent", breaks)
    with pytest.raises(CacheError, match=r"1 of 8 images are not finite .* labelled/n01440764/2\.png"):
        build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)
    assert not list((tmp_path / "cache").glob("shards/*"))


def test_a_classifier_without_weights_ends_the_run(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    torch.nn.init.zeros_(encoder.backbone.weight)
    with pytest.raises(CacheError, match="the same logits for all of 8 different images"):
        build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)


def test_images_that_vanish_meanwhile_end_the_run(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = cache_module.list_images

    def unplugged(data: Path, source: SourceConfig, **rest: int) -> list[SourceImage]:
        images = listed(data, source, **rest)
        for image in images:
            image.path.unlink()
        return images

    monkeypatch.setattr(cache_module, "list_images", unplugged)
    with pytest.raises(CacheError, match=r"None of the 8 images from labelled/n01440764/0\.png on could"):
        build_cache(cache_config, encoder, data, tmp_path / "cache", workers=0)


CONFIG = """
model: efficientnet-lite0
cache:
  sources:
    - {name: labelled, passes: 1, held_out: 0.5}
    - {name: plain, passes: 2}
  augmentation: {degrade: 0.5}
  shard: 6
"""


def launch(processes: int, config: Path, data: Path, out: Path) -> str:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = ["-m", "training.cache", str(config), "--data", str(data), "--out", str(out), "--workers", "0"]
    done = subprocess.run(
        [sys.executable, *torchrun, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_go_on_where_one_stopped_and_make_the_same_cache(data: Path, tmp_path: Path) -> None:
    """Bit for bit, with the real backbone, all but two shards being made by the two processes."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "config.yaml").cache
    model = load_model("efficientnet-lite0", device="cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        build_cache(config, model, data, tmp_path / "one", workers=0)
    finally:
        torch.set_num_threads(threads)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    kept = {"labelled-00-0000006", "plain-01-0000000"}
    for folder in (tmp_path / "two" / "shards").iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder)
    output = launch(2, tmp_path / "config.yaml", data, tmp_path / "two")
    one, two = load_views(tmp_path / "one", config), load_views(tmp_path / "two", config)
    assert one.z.tobytes() == two.z.tobytes()
    assert one.facts.tobytes() == two.facts.tobytes()
    # Shards of 6 images of 20 and of 7: whole pictures 4 + 2, views 4 + 2 x 2. Each process counts to its own total.
    # Not line by line: the two write to one pipe, and one's end of line may come behind the other's next line.
    totals = [int(total) for total in re.findall(r"/(\d+) views, ", output)]
    assert len(totals) == 14 - len(kept)
    assert len(set(totals)) == 2
    assert sum(set(totals)) == 20 * 2 + 7 * 3 - 12
    assert build_cache(config, model, data, tmp_path / "two", workers=0) == 0


def test_another_table_of_as_many_images_is_refused(
    data: Path, cache_config: CacheConfig, encoder, tmp_path: Path
) -> None:
    files = packing.files_of(data / "labelled")
    config = replace(cache_config, sources=(SourceConfig("table", passes=0),))
    packing.write_parquet(data / "table", files)
    build_cache(config, encoder, data, tmp_path / "cache", workers=0)
    shutil.rmtree(data / "table")
    packing.write_parquet(data / "table", [(name, content + b"more") for name, content in files])
    with pytest.raises(CacheError, match="was made with another sizes"):
        build_cache(config, encoder, data, tmp_path / "cache", workers=0)
