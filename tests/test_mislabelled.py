"""Likely mislabelled images: the vote against a slow loop, planted wrong labels, and the part that u plays."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from pvu.mislabelled import label_support, mislabelled, suspicion
from pvu.neighbors import nearest_neighbors
from tests.reviewing import clusters, dataset_of


def slow_support(neighbors: np.ndarray, similarities: np.ndarray, codes: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """The same vote, image by image: what i said to j is left out of what j says to i."""
    count, labels = len(codes), codes.max() + 1
    weight = np.zeros((count, count))
    for i in range(count):
        for j, similarity in zip(neighbors[i], similarities[i], strict=True):
            closeness = np.exp((similarity - similarities[i, 0]) / 0.1)
            weight[i, j] += closeness
            weight[j, i] += closeness

    def voice(j: int) -> float:
        return trust[j] if codes[j] >= 0 else 0.0

    def votes(i: int, without: int | None = None) -> np.ndarray:
        """The shares of j's vote; the total still counts whom it leaves out, so that shares can be taken apart."""
        total = sum(weight[i, j] * voice(j) for j in range(count))
        result = np.zeros(labels)
        for j in range(count):
            if j != without and voice(j) and total:
                result[codes[j]] += weight[i, j] * voice(j) / total
        return result

    result = np.zeros((count, labels))
    for i in range(count):
        further = sum((weight[i, j] * voice(j) * votes(j, without=i) for j in range(count)), np.zeros(labels))
        result[i] = (votes(i) + (further / further.sum() if further.sum() else 0)) / 2
    return result


@pytest.mark.parametrize("unlabelled", [0.0, 0.3, 0.9])
def test_the_vote_agrees_with_a_slow_loop(unlabelled: float) -> None:
    rng = np.random.default_rng(int(10 * unlabelled))
    embeddings, codes = clusters(4, 15, spread=1.0)
    codes = np.where(rng.random(60) < unlabelled, -1, codes)
    codes[0] = 3
    neighbors, similarities = nearest_neighbors(embeddings, 6)
    trust = rng.uniform(0.5, 1, 60)
    fast = label_support(neighbors, similarities, codes, trust).toarray()
    np.testing.assert_allclose(fast, slow_support(neighbors, similarities, codes, trust), atol=2e-5)


def test_an_images_own_label_says_nothing_about_itself() -> None:
    embeddings, codes = clusters(3, 20, spread=1.0)
    neighbors, similarities = nearest_neighbors(embeddings, 8)
    before = label_support(neighbors, similarities, codes, np.ones(60)).toarray()
    for row in range(0, 60, 7):
        changed = codes.copy()
        changed[row] = (codes[row] + 1) % 3
        after = label_support(neighbors, similarities, changed, np.ones(60)).toarray()
        np.testing.assert_allclose(after[row], before[row], atol=1e-5)
        assert np.abs(after - before).max() > 0.01  # but much about others


@pytest.mark.parametrize("seed", range(3))
def test_planted_wrong_labels_come_first_and_the_right_one_is_suggested(seed: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings, codes = clusters(8, 60, spread=0.8, seed=seed)
    wrong = rng.choice(len(codes), 15, replace=False)
    given = codes.copy()
    given[wrong] = (codes[wrong] + rng.integers(1, 8, 15)) % 8
    data = dataset_of(embeddings, labels=[f"label {code}" for code in given])
    found = mislabelled(data, cutoff=0.5)
    is_wrong = np.isin(np.arange(len(codes)), wrong)
    scores = np.zeros(len(codes))
    scores[found.rows] = found.scores
    disagreement = (given[data.neighbors] != given[:, None]).mean(axis=1)
    precision = average_precision_score(is_wrong, scores)
    assert precision > 0.95
    assert precision >= average_precision_score(is_wrong, disagreement)
    right = [found.suggested[found.place(row)] == f"label {codes[row]}" for row in wrong]
    assert sum(right) >= 14


def test_the_evidence_is_the_neighbours_that_carry_the_other_label() -> None:
    embeddings, codes = clusters(3, 40)
    names = [f"label {code}" for code in codes]
    names[5] = "label 2"
    data = dataset_of(embeddings, labels=names, uncertainty=np.linspace(0.1, 0.9, 120))
    found = mislabelled(data)
    place = found.place(5)
    assert place == 0
    carriers = [row for row in data.neighbors[5] if names[row] == "label 0"]
    assert found.beside[place].tolist() == carriers[:5]
    text = (
        f"{len(carriers)} of its 30 nearest images are “label 0”, 0 are “label 2”; the nearest and clearest count "
        f"most, which makes {100 * found.scores[place]:.0f} % for “label 0”; 95 % of the images are less clear."
    )
    assert found.text(place) == text
    names[5], names[118] = "label 0", "label 1"
    found = mislabelled(dataset_of(embeddings, labels=names, uncertainty=np.linspace(0.1, 0.9, 120)))
    assert found.rows.tolist() == [118]
    assert found.text(0).endswith("% for “label 2”; but the picture itself is hard to tell.")


def test_of_two_equal_cases_the_uncertain_one_is_less_suspect() -> None:
    embeddings, codes = clusters(2, 40)
    embeddings[3] = embeddings[4]
    codes[[3, 4]] = 1
    neighbors, similarities = nearest_neighbors(embeddings, 20)
    percentiles = np.full(80, 50.0)
    percentiles[3], percentiles[4] = 100, 1
    score = suspicion(neighbors, similarities, codes, percentiles).score
    assert 0.5 < score[3] < score[4]
    same = suspicion(neighbors, similarities, codes, np.full(80, 50.0)).score
    assert same[3] == pytest.approx(same[4], abs=1e-5)


def test_an_uncertain_neighbour_has_less_of_a_say() -> None:
    """Half of the neighbours say one thing, half the other: the clear ones win."""
    embeddings = np.eye(1, 8) + 0.05 * np.random.default_rng(0).standard_normal((41, 8))
    codes = np.array([0] * 20 + [1] * 20 + [2])
    neighbors, similarities = nearest_neighbors(embeddings, 40)
    for clear, label in ((codes == 0, 0), (codes == 1, 1)):
        found = suspicion(neighbors, similarities, codes, np.where(clear, 0.0, 100.0))
        assert found.other[40] == label


def test_images_without_a_label_are_neither_listed_nor_heard() -> None:
    embeddings, codes = clusters(2, 30)
    codes[10:30] = -1
    neighbors, similarities = nearest_neighbors(embeddings, 10)
    found = suspicion(neighbors, similarities, codes, np.zeros(60))
    assert (found.score[10:30] == 0).all()
    lonely = suspicion(neighbors, similarities, np.where(np.arange(60) == 0, 0, -1), np.zeros(60))
    assert (lonely.score == 0).all()
    assert (lonely.other == -1).all()


def test_a_higher_cut_off_is_the_beginning_of_the_list() -> None:
    embeddings, codes = clusters(5, 40, spread=1.4)
    data = dataset_of(
        embeddings, labels=[str(code) for code in codes], uncertainty=np.random.default_rng(0).random(200)
    )
    everything = mislabelled(data, cutoff=0.5)
    strict = mislabelled(data, cutoff=0.7)
    assert 0 < len(strict) < len(everything)
    part = everything.above(0.7)
    for name in ("rows", "scores", "beside", "suggested"):
        assert getattr(part, name).tolist() == getattr(strict, name).tolist()
    assert part.text(0) == strict.text(0)
    assert (np.diff(everything.scores) <= 0).all()


@pytest.mark.parametrize(("labels", "has"), [(None, "none"), (["cat"] * 12, "one label only")])
def test_without_labels_to_compare_it_says_what_to_do(labels: list[str] | None, has: str) -> None:
    found = mislabelled(dataset_of(clusters(2, 6)[0], labels=labels))
    assert len(found) == 0
    assert f"set has {has}. Put the images into one folder per label" in found.missing
