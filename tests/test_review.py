"""Ambiguous images, outliers, and the four lists together."""

from __future__ import annotations

import numpy as np
import pytest

from pvu.review import ambiguous, duplicates, mislabelled, outliers, review
from tests.reviewing import clusters, dataset_of


@pytest.mark.parametrize("cutoff", [0.0, 50.0, 90.0, 99.0])
def test_ambiguous_images_are_the_most_uncertain_in_order(cutoff: float) -> None:
    u = np.random.default_rng(0).permutation(np.linspace(0.1, 0.9, 200)).astype(np.float32)
    found = ambiguous(dataset_of(clusters(4, 50)[0], uncertainty=u), cutoff=cutoff)
    expected = [row for row in np.argsort(-u) if 100 * (u <= u[row]).mean() >= cutoff]
    assert found.rows.tolist() == expected
    assert found.scores[0] == 100
    assert found.text(0) == "At least as uncertain as 100 % of this data set."


def test_a_set_that_is_clear_beside_other_pictures_is_called_so() -> None:
    u = np.linspace(0.1, 0.9, 200).astype(np.float32)
    data = dataset_of(clusters(4, 50)[0], uncertainty=u)
    data.manifest["reference_quantiles"] = np.linspace(0, 4, 101).tolist()
    found = ambiguous(data)
    # The list's typical u is .858: as high as that of 21 % of the reference pictures.
    assert found.sentence.endswith(
        "This set is clear as a whole: the typical image of this list is as uncertain as 21 % of the pictures that its "
        "model was measured on."
    )
    assert found.text(0).endswith(
        "clear beside other pictures, though: as uncertain as 22 % of the pictures that its model was measured on."
    )
    data = dataset_of(clusters(4, 50)[0], uncertainty=u)
    data.manifest["reference_quantiles"] = np.linspace(0, 1, 101).tolist()
    assert "clear as a whole" not in ambiguous(data).sentence
    assert ambiguous(data).text(0).endswith(", and as 90 % of the pictures that its model was measured on.")


def test_outliers_are_clear_images_far_from_their_neighbours() -> None:
    embeddings, _ = clusters(3, 100, spread=0.3)
    rng = np.random.default_rng(1)
    embeddings[[7, 8, 250]] = rng.standard_normal((3, 16))
    u = rng.uniform(0.1, 0.4, 300)
    u[[7, 250]] = 0.2
    u[8] = 0.9  # just as far, but a bad picture
    data = dataset_of(embeddings, uncertainty=u)
    found = outliers(data)
    assert set(found.rows[:2]) == {7, 250}
    assert 8 not in found.rows
    assert (data.percentiles[found.rows] <= 50).all()
    assert 8 in outliers(data, clear_up_to=100).rows[:3]
    distance = 1 - data.similarities[:, :5].mean(axis=1)
    clear = np.flatnonzero(data.percentiles <= 50)
    expected = sorted(clear, key=lambda row: -distance[row])
    everyone = outliers(data, cutoff=0)
    assert everyone.rows.tolist() == expected
    for place in (0, 3, 60):
        assert everyone.scores[place] == pytest.approx(100 * (distance[clear] < distance[expected[place]]).mean())
    usual = np.median(data.similarities[:, 0])
    assert f"alike by {data.similarities[found.rows[0], 0]:.2f}, usual here is {usual:.2f}" in found.text(0)


def test_a_pair_of_rare_images_is_still_rare() -> None:
    embeddings, _ = clusters(3, 60, spread=0.3)
    embeddings[10] = np.random.default_rng(1).standard_normal(16)
    embeddings[11] = embeddings[10] + 0.05
    assert set(outliers(dataset_of(embeddings, uncertainty=np.full(180, 0.2)), clear_up_to=100).rows[:2]) == {10, 11}


def test_without_a_head_the_lists_say_so() -> None:
    data = dataset_of(clusters(3, 20)[0])
    assert "no uncertainty head" in ambiguous(data).missing
    assert "bad pictures are among them" in outliers(data).sentence
    assert len(outliers(data)) > 0


def test_a_single_image_is_on_no_list() -> None:
    data = dataset_of(np.ones((1, 4)), uncertainty=np.array([0.2]))
    assert {name: len(found) for name, found in review(data).lists.items()} == {
        "ambiguous": 1,
        "mislabelled": 0,
        "duplicates": 0,
        "outliers": 0,
    }


@pytest.mark.parametrize("has_head", [True, False])
def test_membership_agrees_with_the_lists(has_head: bool) -> None:
    embeddings, codes = clusters(4, 50, spread=0.9)
    embeddings[1] = embeddings[0]
    u = np.random.default_rng(0).random(200) if has_head else None
    data = dataset_of(embeddings, labels=[str(code) for code in codes[::-1]], uncertainty=u)
    whole = review(data)
    separate = {found.name: found for found in (make(data) for make in (ambiguous, mislabelled, duplicates, outliers))}
    assert list(whole.lists) == list(separate) == ["ambiguous", "mislabelled", "duplicates", "outliers"]
    seen = 0
    for row in range(200):
        findings = {finding.name: finding.text for finding in whole.membership(row)}
        assert set(findings) == {name for name, found in separate.items() if row in found.rows}
        for name, text in findings.items():
            assert text == separate[name].text(separate[name].rows.tolist().index(row))
            seen += 1
    assert seen == sum(len(found) for found in separate.values()) > 0


def test_every_list_has_as_many_of_everything_as_rows() -> None:
    embeddings, codes = clusters(4, 50, spread=1.2)
    data = dataset_of(
        embeddings, labels=[str(code) for code in codes], uncertainty=np.random.default_rng(0).random(200)
    )
    for found in review(data).lists.values():
        for name in ("scores", "beside", "suggested", "group", "leak"):
            assert len(getattr(found, name)) == len(found.rows), (found.name, name)
        assert found.beside.shape[1] == 5
        assert found.rows.dtype == np.int64
        assert found.sentence.endswith(".")
