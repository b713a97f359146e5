"""Clusters: those that are there are found, in any order and any number of points; their table against a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from pvu.clusters import COLUMNS, by_size, describe_clusters, find_clusters
from pvu.neighbors import nearest_neighbors
from pvu.pipeline import embed
from pvu.projection import project
from pvu.store import EmbeddedDataset
from tests.fakes import FakeEncoder, write_pictures

CENTRES = np.array([(0, 0), (10, 0), (0, 10), (10, 10), (5, 22)])


def blobs(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return make_blobs(sizes, centers=CENTRES[: len(sizes)], cluster_std=0.5, random_state=seed)


def test_blobs_are_found_and_numbered_by_size() -> None:
    points, truth = blobs([50, 200, 100, 30, 75])
    found = find_clusters(points)
    assert found.dtype == np.int32
    inside = found >= 0
    assert inside.mean() > 0.9
    assert adjusted_rand_score(truth[inside], found[inside]) == 1
    # The largest blob is truth 1, then 2, 4, 0, 3.
    for number, blob in enumerate((1, 2, 4, 0, 3)):
        assert (truth[found == number] == blob).all()


def test_points_far_from_all_are_in_no_cluster() -> None:
    points, _ = blobs([150, 150])
    far = np.array([[-80, 40], [90, -70], [60, 95]])
    assert (find_clusters(np.concatenate([points, far]))[-3:] == -1).all()


def test_it_is_the_same_every_time_and_does_not_change_its_input() -> None:
    points, _ = blobs([300, 200])
    before = points.copy()
    np.testing.assert_array_equal(find_clusters(points, limit=100), find_clusters(points, limit=100))
    np.testing.assert_array_equal(points, before)


def test_above_the_limit_a_sample_is_clustered_and_the_others_follow_it() -> None:
    points, truth = blobs([4000, 3000, 2000, 800, 200])
    found = find_clusters(points, limit=1000)
    inside = found >= 0
    assert inside.mean() > 0.9
    assert found.max() == 4
    assert adjusted_rand_score(truth[inside], found[inside]) > 0.999
    whole = find_clusters(points)
    both = inside & (whole >= 0)
    assert adjusted_rand_score(whole[both], found[both]) > 0.999


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_a_handful_of_points_is_no_cluster(count: int) -> None:
    found = find_clusters(np.zeros((count, 2), np.float32))
    assert found.tolist() == [-1] * count


def test_points_on_one_spot_do_not_matter() -> None:
    assert len(find_clusters(np.zeros((500, 2), np.float32))) == 500


def test_numbers_follow_sizes_and_ties_the_first_row() -> None:
    assert by_size(np.array([7, 3, 3, -1, 7, 3, 5, 9, 5, 9])).tolist() == [1, 0, 0, -1, 1, 0, 2, 3, 2, 3]
    assert by_size(np.array([-1, -1])).tolist() == [-1, -1]


def naive(
    assignment: list[int], labels: list[str | None], u: np.ndarray, percentiles: np.ndarray
) -> list[list[object]]:
    table = []
    for cluster in sorted(set(assignment) - {-1}):
        own = [row for row, c in enumerate(assignment) if c == cluster]
        named = [labels[row] for row in own if labels[row] is not None]
        best = max(sorted(set(named)), key=named.count) if named else None
        name = best if best is not None else f"group {cluster + 1}"
        share = named.count(best) / len(own) if named else np.nan
        table.append([cluster, name, share, len(own), np.median(u[own]), np.median(percentiles[own])])
    return table


def test_the_table_is_what_a_plain_loop_finds() -> None:
    rng = np.random.default_rng(0)
    assignment = by_size(rng.integers(-1, 6, 300))
    labels = np.array([None if x < 0.2 else "abcd"[int(4 * x**2)] for x in rng.random(300)], dtype=object)
    labels[assignment == 3] = None
    u, percentiles = rng.random(300), 100 * rng.random(300)
    table = describe_clusters(
        assignment, labels=labels, paths=["x/1.png"] * 300, uncertainty=u, percentiles=percentiles
    )
    assert tuple(table.columns) == COLUMNS
    expected = naive(assignment.tolist(), labels.tolist(), u, percentiles)
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected, columns=list(COLUMNS)), check_dtype=False)
    assert table["name"][3] == "group 4"
    assert table["size"].is_monotonic_decreasing


def described(paths: list[str], labels: list[str | None] | None = None) -> list[str]:
    count = len(paths)
    unknown = np.full(count, np.nan, np.float32)
    own = np.array(labels or [None] * count, dtype=object)
    assignment = np.arange(count, dtype=np.int32) // 2
    table = describe_clusters(assignment, labels=own, paths=paths, uncertainty=unknown, percentiles=unknown)
    assert table[["median_uncertainty", "median_percentile"]].isna().all(axis=None)
    return table["name"].tolist()


def test_without_labels_a_cluster_is_called_after_its_folder_if_there_are_several() -> None:
    assert described(["a/1.png", "a/2.png", "a/b/3.png", "a/b/4.png", "5.png", "6.png"]) == ["a", "a/b", "group 3"]
    assert described(["a/1.png", "a/2.png", "a/3.png", "a/4.png"]) == ["group 1", "group 2"]
    assert described(["a/1.png", "b/2.png"], ["owl", None]) == ["owl"]


def test_nothing_in_a_cluster_gives_an_empty_table() -> None:
    nothing = np.full(3, -1, np.int32)
    table = describe_clusters(
        nothing, labels=np.array([None] * 3), paths=["1", "2", "3"], uncertainty=np.ones(3), percentiles=np.ones(3)
    )
    assert table.shape == (0, len(COLUMNS))


@pytest.fixture
def dataset(tmp_path: Path, quick_map: None) -> EmbeddedDataset:
    write_pictures(tmp_path / "pets", [f"{label}/{n:02d}.png" for label in ("cat", "dog", "owl") for n in range(20)])
    return embed(tmp_path / "pets", model=FakeEncoder(), workers=0)


def test_a_store_keeps_its_clusters_and_names_them(dataset: EmbeddedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = find_clusters(dataset.coords)
    np.testing.assert_array_equal(np.load(dataset.path / "clusters.npy"), expected)
    monkeypatch.setattr("pvu.clusters.find_clusters", lambda _: pytest.fail("they were stored"))
    clusters = EmbeddedDataset(dataset.path).clusters
    np.testing.assert_array_equal(clusters.assignment, expected)
    assert set(clusters.table["name"]) <= {"cat", "dog", "owl"}
    row = clusters.table.iloc[0]
    assert row["median_uncertainty"] == np.median(dataset.uncertainty[clusters.rows(0)])
    assert row["median_percentile"] == np.median(dataset.percentiles[clusters.rows(0)])


@pytest.mark.parametrize("damage", ["gone", "of another length"])
def test_a_store_without_them_finds_them_on_first_use(dataset: EmbeddedDataset, damage: str) -> None:
    expected = dataset.clusters.assignment
    file = dataset.path / "clusters.npy"
    file.unlink() if damage == "gone" else np.save(file, np.zeros(3, np.int32))
    np.testing.assert_array_equal(EmbeddedDataset(dataset.path).clusters.assignment, expected)


@pytest.mark.usefixtures("quick_map")
def test_without_a_head_nothing_is_said_of_uncertainty(photos: Path) -> None:
    clusters = embed(photos, model=FakeEncoder(has_head=False), workers=0).clusters
    assert clusters.table[["median_uncertainty", "median_percentile"]].isna().all(axis=None)


@pytest.mark.shared_data
def test_clusters_of_real_photographs_go_with_their_labels(real_set: Callable[[str], EmbeddedDataset]) -> None:
    whole = real_set("flowers17")
    first = sorted(set(whole.labels))[:6]
    rows = np.concatenate([np.flatnonzero(whole.labels == label)[:40] for label in first])
    labels, embeddings = whole.labels[rows], np.asarray(whole.embeddings[rows], np.float32)
    assignment = find_clusters(project(embeddings, *nearest_neighbors(embeddings, 30)))
    u = whole.uncertainty[rows]
    table = describe_clusters(assignment, labels=labels, paths=[""] * len(rows), uncertainty=u, percentiles=u)
    inside = assignment >= 0
    assert len(rows) == 240
    assert inside.mean() > 0.8
    assert adjusted_mutual_info_score(labels.astype(str), assignment) > 0.6
    # The name of its cluster is the label of most images; by chance it would be one in 6.
    names = table["name"].to_numpy()[assignment[inside]]
    assert (names == labels[inside]).mean() > 0.5
