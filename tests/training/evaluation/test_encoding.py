from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pvu.images import decode_file
from training.degradations import KINDS, LEVELS
from training.evaluation.crops import crop_like_url
from training.evaluation.encoding import backbone_fingerprint, encode_degraded, encode_set, head_output
from training.evaluation.sets import find_set


def test_each_image_is_encoded_whole_and_cropped(model, sets: Path) -> None:
    images = find_set(sets, "birds")
    z, decoded = encode_set(model, images, ("whole", "crop"), workers=0)
    broken = images.paths.index("2.bird/3.png")
    assert np.flatnonzero(~decoded).tolist() == [broken]
    for row in (0, 17, 39):
        pixels = decode_file(images.files[row], model.preprocessing).pixels
        crop = crop_like_url(pixels, images.paths[row])
        expected = model.represent(torch.from_numpy(np.stack([pixels, crop])))
        np.testing.assert_allclose([z["whole"][row], z["crop"][row]], expected, rtol=1e-6)


def test_workers_change_nothing(model, sets: Path) -> None:
    images = find_set(sets, "birds")
    alone, together = (encode_set(model, images, workers=workers) for workers in (0, 1))
    np.testing.assert_array_equal(alone[0]["whole"], together[0]["whole"])
    np.testing.assert_array_equal(alone[1], together[1])


def test_a_second_call_encodes_nothing(model, sets: Path, tmp_path: Path) -> None:
    images, kept = find_set(sets, "birds"), tmp_path / "kept"
    first = encode_set(model, images, kept=kept, workers=0)
    assert model.encoder.encoded == 40
    again = encode_set(model, images, kept=kept, workers=0)
    assert model.encoder.encoded == 40
    np.testing.assert_array_equal(first[0]["whole"], again[0]["whole"])
    np.testing.assert_array_equal(first[1], again[1])
    encode_set(model, images, ("whole", "crop"), kept=kept, workers=0)
    assert model.encoder.encoded == 80  # the crops alone
    swept = encode_degraded(model, images, kept=kept)
    count = model.encoder.encoded
    np.testing.assert_array_equal(encode_degraded(model, images, kept=kept)["blur"], swept["blur"])
    assert model.encoder.encoded == count


@pytest.mark.parametrize("change", ["weights", "preprocessing", "precision", "images"])
def test_nothing_of_another_backbone_or_other_images_is_taken(model, sets: Path, tmp_path: Path, change: str) -> None:
    kept = tmp_path / "kept"
    encode_set(model, find_set(sets, "birds"), kept=kept, workers=0)
    before, fingerprint = model.encoder.encoded, backbone_fingerprint(model)
    if change == "weights":
        model.backbone.weight.data[3, 3] += 1
    elif change == "preprocessing":
        model.preprocessing = type(model.preprocessing)(size=16, mean=(0.4, 0.4, 0.4))
    elif change == "precision":
        model.precision = torch.bfloat16
    else:
        (sets / "birds" / "1.bird" / "0.png").unlink()
    assert (backbone_fingerprint(model) == fingerprint) == (change == "images")
    images = find_set(sets, "birds")
    encode_set(model, images, kept=kept, workers=0)
    assert model.encoder.encoded == before + len(images)


def test_a_damaged_file_is_computed_again(model, sets: Path, tmp_path: Path) -> None:
    images, kept = find_set(sets, "birds"), tmp_path / "kept"
    first = encode_set(model, images, kept=kept, workers=0)
    (file,) = kept.iterdir()
    file.write_bytes(file.read_bytes()[:2000])
    again = encode_set(model, images, kept=kept, workers=0)
    np.testing.assert_array_equal(first[0]["whole"], again[0]["whole"])
    assert model.encoder.encoded == 80


def test_degraded_views_of_some_images(model, sets: Path) -> None:
    found = encode_degraded(model, find_set(sets, "birds"))
    assert list(found) == list(KINDS)
    # The broken picture is one of the 40 that are drawn.
    assert found["blur"].shape == (39 * len(LEVELS), 48)
    np.testing.assert_allclose(found["noise"][0], found["crop"][0], atol=1e-6)  # of strength 0


def test_head_output_in_blocks_is_that_at_once(make_head, monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.random.default_rng(0).normal(size=(20, 48)).astype(np.float32)
    head = make_head(1)
    monkeypatch.setattr("training.evaluation.encoding._BLOCK", 6)
    np.testing.assert_allclose(head_output(head, z), head(torch.from_numpy(z)).numpy(), rtol=1e-6)
    np.testing.assert_allclose(head_output(head, z.astype(np.float16)), head(torch.from_numpy(z)).numpy(), rtol=1e-2)


def test_a_head_takes_the_columns_it_was_made_for(make_head) -> None:
    narrow, wide = make_head(0), make_head(1, 60)
    features = np.random.default_rng(0).normal(size=(5, 60)).astype(np.float32)
    expected = narrow(torch.from_numpy(features[:, :48])).numpy()
    np.testing.assert_allclose(head_output(narrow, features), expected, rtol=1e-6)
    np.testing.assert_allclose(head_output(wide, features), wide(torch.from_numpy(features)).numpy(), rtol=1e-6)
