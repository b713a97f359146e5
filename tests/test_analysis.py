"""What labels say about uncertainties: each number against a loop that anyone can check by reading it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pvu.analysis import KEEPS, evaluate, nearest_in, recall_by_kept, why_not
from pvu.errors import QueryError
from pvu.pipeline import embed
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, write_pictures

pytestmark = pytest.mark.usefixtures("quick_map")

PARTS = ("gallery", "queries", "both")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 72 images: 4 labels of 16, and 8 images that a table lists without a label."""
    root = tmp_path_factory.mktemp("analysis")
    names = [f"{label}/{number}.png" for label in ("cat", "dog", "owl", "yak") for number in range(16)]
    names += [f"none/{number}.png" for number in range(8)]
    write_pictures(root / "images", names)
    rows = "".join(f"{name},{'' if name.startswith('none') else name.split('/')[0]}\n" for name in names)
    (root / "images" / "labels.csv").write_text("path,label\n" + rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVU_HOME", str(root / "home"))
        patch.setattr("pvu.assemble.project", lambda z, *_: np.asarray(z[:, :2], np.float32))
        return embed(root / "images", model=FakeEncoder(), workers=0).path


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> EmbeddedDataset:
    """A copy whose labels are shuffled a little, so that some answers are wrong, and whose u has ties."""
    shutil.copytree(made, tmp_path / "store")
    opened = EmbeddedDataset(tmp_path / "store")
    generator = np.random.default_rng(3)
    labels = opened.labels.copy()
    some = generator.choice(np.flatnonzero(labels != None), 20, replace=False)  # noqa: E711
    labels[some] = labels[generator.permutation(some)]
    opened.__dict__["labels"] = labels
    opened.__dict__["uncertainty"] = generator.integers(1, 25, len(opened)).astype(np.float32) / 10
    return opened


def cosines(dataset: EmbeddedDataset) -> np.ndarray:
    z = np.asarray(dataset.embeddings, np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return z @ z.T


def naive_nearest(similarity: np.ndarray, query: int, gallery: np.ndarray) -> int:
    """The allowed row with the largest cosine, leaving the query out; -1 if there is none."""
    best, row = -np.inf, -1
    for other in range(len(similarity)):
        if other != query and gallery[other] and similarity[query, other] > best:
            best, row = similarity[query, other], other
    return row


def same_distance(similarity: np.ndarray, query: int, one: int, other: int) -> bool:
    """Rows that float32 cannot tell apart are both right."""
    return one == other or (min(one, other) >= 0 and abs(similarity[query, one] - similarity[query, other]) < 1e-6)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.03])
@pytest.mark.parametrize("seed", range(5))
def test_nearest_in_agrees_with_a_loop(dataset: EmbeddedDataset, share: float, seed: int) -> None:
    gallery = np.random.default_rng(seed).random(len(dataset)) < share
    similarity = cosines(dataset)
    queries = np.arange(len(dataset))
    answers = nearest_in(dataset, queries, gallery)
    for query, answer in zip(queries, answers, strict=True):
        assert same_distance(similarity, query, answer, naive_nearest(similarity, query, gallery))
        assert answer == -1 or (gallery[answer] and answer != query)


def test_nearest_in_searches_on_where_the_whole_neighbourhood_is_hidden(dataset: EmbeddedDataset) -> None:
    similarity = cosines(dataset)
    assert dataset.neighbors.shape == (72, 30)
    for query in range(0, 72, 7):
        gallery = np.ones(len(dataset), bool)
        gallery[dataset.neighbors[query]] = False
        (answer,) = nearest_in(dataset, np.array([query]), gallery)
        assert answer not in dataset.neighbors[query]
        assert same_distance(similarity, query, answer, naive_nearest(similarity, query, gallery))


def test_nearest_in_of_an_empty_gallery_and_of_the_query_alone(dataset: EmbeddedDataset) -> None:
    empty = np.zeros(len(dataset), bool)
    assert nearest_in(dataset, np.array([0, 5]), empty).tolist() == [-1, -1]
    alone = empty.copy()
    alone[5] = True
    assert nearest_in(dataset, np.array([0, 5]), alone).tolist() == [5, -1]
    assert nearest_in(dataset, np.array([], np.int64), ~empty).tolist() == []


@pytest.mark.parametrize("part", PARTS)
def test_recall_by_kept_agrees_with_a_loop(dataset: EmbeddedDataset, part: str) -> None:
    similarity = cosines(dataset)
    keeps = (*KEEPS, 0.1, 0.05)
    expected = []
    for keep in keeps:
        ranked = np.sort(dataset.uncertainty)
        limit = ranked[int(np.ceil(keep * len(ranked) - 1e-9)) - 1]
        kept = dataset.uncertainty <= limit
        gallery = np.ones(len(dataset), bool) if part == "queries" else kept
        right = []
        for query in range(len(dataset)):
            if dataset.labels[query] is None or (part != "gallery" and not kept[query]):
                continue
            answer = naive_nearest(similarity, query, gallery)
            right.append(answer >= 0 and dataset.labels[answer] == dataset.labels[query])
        expected.append(np.mean(right))
    assert recall_by_kept(dataset, part, keeps) == pytest.approx(expected, abs=1e-12)  # type: ignore[arg-type]


def test_recall_by_kept_starts_at_recall_and_says_nothing_where_no_query_is_left(dataset: EmbeddedDataset) -> None:
    for part in PARTS:
        assert recall_by_kept(dataset, part, (1.0,))[0] == pytest.approx(evaluate(dataset).recall_at_1)
    labels = dataset.labels
    labels[dataset.uncertainty <= dataset.threshold(0.1)] = None
    assert np.isnan(recall_by_kept(dataset, "queries", (0.1,))[0])
    assert recall_by_kept(dataset, "gallery", (0.1,))[0] == 0


def test_evaluate_agrees_with_scikit_learn_and_a_loop(dataset: EmbeddedDataset) -> None:
    similarity = cosines(dataset)
    everything = np.ones(len(dataset), bool)
    rows = [row for row in range(len(dataset)) if dataset.labels[row] is not None]
    nearest = [naive_nearest(similarity, row, everything) for row in rows]
    correct = np.array(
        [dataset.labels[row] == dataset.labels[answer] for row, answer in zip(rows, nearest, strict=True)]
    )
    assert 0.2 < correct.mean() < 0.95
    u = dataset.uncertainty[rows]
    result = evaluate(dataset)
    assert (result.images, result.labels) == (64, 4)
    assert result.recall_at_1 == pytest.approx(correct.mean())
    assert result.r_auroc == pytest.approx(roc_auc_score(correct, -u))
    best = [similarity[row, answer] for row, answer in zip(rows, nearest, strict=True)]
    assert result.similarity_r_auroc == pytest.approx(roc_auc_score(correct, best), abs=1e-3)
    assert result.curve.risk[-1] == pytest.approx(1 - correct.mean())
    assert result.oracle.aurc <= result.curve.aurc
    assert result.oracle.aurc < result.random.aurc == pytest.approx(1 - correct.mean())


def test_an_uncertainty_that_knows_the_answers_reaches_the_oracle(dataset: EmbeddedDataset) -> None:
    correct = dataset.labels == dataset.labels[dataset.neighbors[:, 0]]
    dataset.__dict__["uncertainty"] = np.where(correct, 1, 2).astype(np.float32)
    result = evaluate(dataset)
    assert result.r_auroc == 1
    assert result.curve.aurc == pytest.approx(result.oracle.aurc)


def test_r_auroc_is_undefined_where_every_answer_is_right(dataset: EmbeddedDataset) -> None:
    dataset.__dict__["labels"] = np.array([None] * 70 + ["cat"] * 2, dtype=object)
    dataset.neighbors = dataset.neighbors.copy()
    dataset.neighbors[70:, 0] = (71, 70)
    dataset.labels[0] = "dog"
    dataset.neighbors[0, 0] = 1
    assert 0 < evaluate(dataset).recall_at_1 < 1
    dataset.labels[:2] = "dog"
    dataset.neighbors[:2, 0] = (1, 0)
    result = evaluate(dataset)
    assert result.recall_at_1 == 1
    assert np.isnan(result.r_auroc)


def test_why_not(dataset: EmbeddedDataset, tmp_path: Path) -> None:
    assert why_not(dataset) is None
    dataset.manifest["has_head"] = False
    assert str(why_not(dataset)).startswith("The model fake has no uncertainty head.")
    with pytest.raises(QueryError, match="no uncertainty head"):
        evaluate(dataset)
    dataset.labels[:] = "cat"
    assert str(why_not(dataset)).endswith("has one label only (cat), so every answer is correct.")
    dataset.labels[3:] = None
    assert "one label only (cat)" in str(why_not(dataset))
    dataset.labels[:] = None
    reason = str(why_not(dataset))
    assert reason.startswith("images has no labels")
    assert "one folder per label, or add a labels.csv" in reason
