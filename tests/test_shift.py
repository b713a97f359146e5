"""Shift between two sets, against naive loops, SciPy's definitions and sets whose shift is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from pvu.bring import bring
from pvu.errors import QueryError
from pvu.neighbors import cross_neighbors, nearest_neighbors, normalized
from pvu.pipeline import embed
from pvu.projection import project
from pvu.shift import NEIGHBORS, compare, place, sentences, share_of_others, two_samples, visits, why_not
from pvu.store import EmbeddedDataset
from tests.conftest import SharedData
from tests.fakes import FakeEncoder, write_pictures

Make = Callable[..., EmbeddedDataset]


@pytest.fixture
def make(tmp_path: Path, quick_map: None) -> Make:
    """Makes sets of one space: clouds of vectors around centres, with uncertainties."""

    def made(
        name: str, centres: dict[int, int], *, seed: int, dim: int = 12, u: tuple[float, float] = (0.0, 1.0), spread=0.2
    ) -> EmbeddedDataset:
        rng = np.random.default_rng(seed)
        parts = [np.eye(dim)[centre] * 3 + spread * rng.normal(size=(count, dim)) for centre, count in centres.items()]
        z = np.concatenate(parts)
        labels = [centre for centre, count in centres.items() for _ in range(count)]
        np.save(tmp_path / f"{name}.npy", z)
        np.save(tmp_path / f"{name}.u.npy", rng.uniform(*u, size=len(z)))
        (tmp_path / f"{name}.csv").write_text("label\n" + "".join(f"kind {label}\n" for label in labels))
        return bring(
            tmp_path / f"{name}.npy",
            uncertainty=tmp_path / f"{name}.u.npy",
            table=tmp_path / f"{name}.csv",
            name=name,
            space="test",
        )

    return made


ALL = {0: 80, 1: 80, 2: 80, 3: 80}


def test_cross_neighbours_are_those_of_a_naive_search() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(30, 6)), rng.normal(size=(50, 6))
    shares: list[float] = []
    indices, similarities = cross_neighbors(queries, gallery, 7, progress=shares.append)
    cosines = normalized(queries) @ normalized(gallery).T
    expected = np.argsort(-cosines, axis=1)[:, :7]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(similarities, np.take_along_axis(cosines, expected, 1), atol=1e-6)
    assert shares == [1.0]
    near, _ = cross_neighbors(queries, gallery, 7, exact_limit=10)  # by HNSW
    assert np.mean([len(set(x) & set(y)) for x, y in zip(near, expected, strict=True)]) > 6.5
    assert cross_neighbors(queries, gallery[:3], 7)[0].shape == (30, 3)


def test_two_samples_by_their_definitions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=300).astype(np.float32), rng.normal(0.5, 1.5, 200).astype(np.float32)
    found = two_samples(a, b)
    points = np.concatenate([a, b])
    gaps = [abs((a <= point).mean() - (b <= point).mean()) for point in points]
    assert found.statistic == pytest.approx(max(gaps))
    # The distance is the area between the two cumulative distributions.
    grid = np.sort(points)
    area = sum(abs((a <= x).mean() - (b <= x).mean()) * (y - x) for x, y in itertools.pairwise(grid))
    assert found.distance == pytest.approx(area, rel=1e-4)
    assert found.p < 1e-4
    assert not found.alike


def test_p_values_of_random_halves_are_uniform() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    p = []
    for _ in range(300):
        order = rng.permutation(400)
        p.append(two_samples(values[order[:200]], values[order[200:]]).p)
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.1
    assert 0.4 < np.mean(p) < 0.65


def test_the_share_of_others_by_a_naive_loop_and_under_permutation() -> None:
    rng = np.random.default_rng(0)
    z = normalized(rng.normal(size=(90, 5)))

    def share(a: np.ndarray, b: np.ndarray) -> float:
        _, own = nearest_neighbors(z[b], 10)
        _, others = cross_neighbors(z[b], z[a], 10)
        return share_of_others(own, others, k=10)

    def naive(a: np.ndarray, b: np.ndarray) -> float:
        found = []
        for row in b:
            rest = [other for other in range(90) if other != row]
            nearest = sorted(rest, key=lambda other: -float(z[row] @ z[other]))[:10]
            found += [other in set(a) for other in nearest]
        return float(np.mean(found))

    shares = []
    for seed in range(40):
        order = np.random.default_rng(seed).permutation(90)
        a, b = order[:60], order[60:]
        shares.append(share(a, b))
        if seed < 3:
            assert shares[-1] == pytest.approx(naive(a, b))
    assert np.mean(shares) == pytest.approx(60 / 89, abs=0.01)  # what Shift.expected_share says


def test_random_halves_show_no_shift(make: Make) -> None:
    a, b = make("a", ALL, seed=1), make("b", ALL, seed=2)
    shift = compare(a, b)
    assert shift.percentiles is not None
    assert shift.percentiles.p > 0.01
    assert shift.similarity.p > 0.01
    assert shift.far_share == pytest.approx(0.05, abs=0.03)
    assert shift.uncertain_share == pytest.approx(0.1, abs=0.04)
    assert shift.share_of_a == pytest.approx(shift.expected_share, abs=0.05)
    assert shift.regions["visited"].all()
    said = sentences(a, b, shift)
    assert said["uncertainty"] == "b is about as uncertain as a."
    assert said["distance"] == "b lies as near to a as a's images lie to each other."
    assert said["mixing"].startswith("The two sets mix well: of the 15 images nearest to one of b, 5")
    assert said["regions"] == "b has images in every cluster of a that is large enough to tell."


def test_other_contents_are_found_whatever_the_uncertainty(make: Make) -> None:
    a, b = make("a", ALL, seed=1), make("b", {0: 100, 6: 100}, seed=2)
    shift = compare(a, b)
    assert shift.percentiles is not None
    assert shift.percentiles.alike
    assert shift.similarity.statistic > 0.4
    assert shift.far_share == pytest.approx(0.5, abs=0.08)
    assert set(shift.farthest[:100]) == set(range(100, 200))  # the new kind
    assert not shift.far[:100].all()
    missed = shift.regions[~shift.regions["visited"]]
    assert "kind 0" not in set(missed["name"])
    assert missed["share_a"].sum() == pytest.approx(0.75, abs=0.05)
    said = sentences(a, b, shift)
    assert said["distance"].startswith("b shows other things than a: ")
    assert said["regions"].startswith(f"b has no image in {len(missed)} of {len(shift.regions)} clusters of a")


def test_other_uncertainties_are_found_whatever_the_contents(make: Make) -> None:
    a, b = make("a", ALL, seed=1), make("b", ALL, seed=2, u=(0.5, 1.5))
    shift = compare(a, b)
    assert shift.similarity.alike
    assert shift.percentiles is not None
    # A is uniform on [0, 1] and B on [.5, 1.5]: the cumulative distributions differ by a half everywhere in between.
    assert shift.percentiles.statistic == pytest.approx(0.5, abs=0.08)
    assert shift.uncertain_share == pytest.approx(0.6, abs=0.08)
    assert sentences(a, b, shift)["uncertainty"].startswith("b is more uncertain than a: ")
    back = compare(b, a)
    assert sentences(b, a, back)["uncertainty"].startswith("a is less uncertain than b: ")


def test_the_same_images_lie_where_they_lay_and_are_called_too_near(make: Make) -> None:
    a = make("a", ALL, seed=1)
    b = make("b", ALL, seed=1)
    shift = compare(a, b)
    np.testing.assert_array_equal(shift.neighbors[:, 0], np.arange(320))
    np.testing.assert_array_equal(shift.coords, a.coords)
    nearer = "b lies nearer to a than a's images lie to each other. 100 % of b is in a too."
    assert sentences(a, b, shift)["distance"] == nearer


def test_images_in_both_sets_are_counted_beside_what_is_new(make: Make) -> None:
    a = make("a", ALL, seed=1)
    z = np.load(Path(a.manifest["brought"]["embeddings"]))
    new = make("new", {6: 60}, seed=3)
    both = Path(a.manifest["brought"]["embeddings"]).with_name("both.npy")
    np.save(both, np.concatenate([z[:40], np.load(new.manifest["brought"]["embeddings"])]))
    np.save(both.with_name("u.npy"), np.random.default_rng(0).uniform(size=100))
    shift = compare(a, b := bring(both, uncertainty=both.with_name("u.npy"), space="test"))
    assert shift.same_share == pytest.approx(0.4)
    said = sentences(a, b, shift)["distance"]
    assert said.startswith("both shows other things than a: 60 % of both is farther")
    assert said.endswith("40 % of both is in a too.")


def test_visits_by_a_naive_loop(make: Make) -> None:
    a = make("a", ALL, seed=1)
    rng = np.random.default_rng(0)
    nearest, far = rng.integers(0, 320, 150), rng.random(150) < 0.3
    for row in visits(a, nearest, far).itertuples():
        inside = [
            n for n, is_far in zip(nearest, far, strict=True) if not is_far and a.clusters.assignment[n] == row.cluster
        ]
        assert row.images_b == len(inside)
        assert row.share_b == len(inside) / 150
        assert row.share_a == (a.clusters.assignment == row.cluster).mean()


def test_placing_by_hand() -> None:
    coords = np.array([[0, 0], [1, 0], [0, 8]], np.float32)
    neighbors, similarities = np.array([[0, 1, 2], [2, 0, 1]]), np.array([[0.9, 0.9, 0.1], [0.9, 0.85, -1]], np.float32)
    e = np.exp(-1)
    np.testing.assert_allclose(place(coords, neighbors, similarities), [[0.5, 0], [0, 8 / (1 + e)]], atol=1e-3)


def test_an_image_between_two_groups_goes_with_the_larger_one() -> None:
    coords = np.array([[0, 0], [1, 0], [0, 1], [100, 0], [101, 0]], np.float32)
    similarities = np.full((1, 5), 0.9, np.float32)
    ((x, y),) = place(coords, np.array([[3, 0, 4, 1, 2]]), similarities)
    assert (x, y) == pytest.approx((1 / 3, 1 / 3))


def test_images_held_out_of_a_map_are_placed_near_where_it_had_them() -> None:
    pictures, labels = load_digits(return_X_y=True)
    pictures, labels = pictures[:500].astype(np.float32), labels[:500]
    whole = project(pictures, *nearest_neighbors(pictures, 30))
    rng = np.random.default_rng(0)
    held = np.zeros(500, bool)
    held[rng.choice(500, 100, replace=False)] = True
    placed = place(whole[~held], *cross_neighbors(pictures[held], pictures[~held], NEIGHBORS))
    error = np.median(np.linalg.norm(placed - whole[held], axis=1))
    lot = np.median(np.linalg.norm(rng.permutation(whole[~held])[:100] - whole[held], axis=1))
    assert error < 0.05 * lot
    # UMAP's own way, a hundred times slower, on a map of its own without the held-out ones.
    import umap

    reducer = umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit(pictures[~held])
    theirs = reducer.transform(pictures[held])
    ours = place(reducer.embedding_, *cross_neighbors(pictures[held], pictures[~held], NEIGHBORS))

    def labels_kept(places: np.ndarray) -> float:
        distances = np.linalg.norm(places[:, None] - reducer.embedding_, axis=2)
        nearest = np.argsort(distances, axis=1)[:, :10]
        return float((labels[~held][nearest] == labels[held][:, None]).mean())

    assert labels_kept(ours) > labels_kept(theirs) - 0.005
    assert labels_kept(ours) > 0.8
    spread = np.median(np.linalg.norm(rng.permutation(reducer.embedding_)[:100] - theirs, axis=1))
    assert np.median(np.linalg.norm(ours - theirs, axis=1)) < 0.1 * spread


def test_sets_that_cannot_be_compared_say_why(make: Make, tmp_path: Path, photos: Path) -> None:
    a = make("a", ALL, seed=1)
    np.save(tmp_path / "alone.npy", np.eye(12))
    alone = bring(tmp_path / "alone.npy")
    assert why_not(a, make("b", ALL, seed=2)) is None
    assert why_not(a, a) == "a is the open data set itself."
    first = embed(photos, model=FakeEncoder(), workers=0)
    write_pictures(tmp_path / "others", ["1.png", "2.png"])
    write_pictures(tmp_path / "single", ["1.png"])
    weights = embed(tmp_path / "others", model=FakeEncoder(fingerprint="fake-2"), workers=0)
    model = embed(tmp_path / "others", model=FakeEncoder(name="other", fingerprint="other"), workers=0)
    single = embed(tmp_path / "single", model=FakeEncoder(), workers=0)
    reasons = {
        alone: "bring both with the same name for what made them",
        first: "The embeddings of a were brought, those of photos made here.",
    }
    for other, reason in reasons.items():
        assert reason in str(why_not(a, other))
    assert why_not(first, weights) == "others was embedded with other weights of fake than photos: embed both again."
    assert why_not(first, model) == "others was embedded with other, photos with fake: embed both with one model."
    assert why_not(first, single) == "single has one image only."
    with pytest.raises(QueryError, match="embed both with one model"):
        compare(first, model)


def test_without_uncertainties_the_rest_is_said(tmp_path: Path, quick_map: None) -> None:
    sets = []
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).normal(size=(40, 6)))
        sets.append(bring(tmp_path / f"{name}.npy", space="one"))
    shift = compare(*sets)
    assert shift.percentiles is None
    assert np.isnan(shift.uncertain_share)
    assert set(sentences(*sets, shift)) == {"distance", "mixing", "regions"}


@pytest.mark.shared_data
def test_photographs(shared_data: SharedData, tmp_path: Path, quick_map: None) -> None:
    """Random halves show nothing, birds are no flowers, blurred copies are uncertain before they are strange."""
    flowers = sorted(shared_data.folder("flowers17").rglob("*.jpg"))
    birds = sorted(shared_data.folder("cub_dev").rglob("*.jpg"))
    chosen = np.random.default_rng(0).permutation(len(flowers))[:120]
    sources = {
        "a": [flowers[i] for i in chosen[:60]],
        "b": [flowers[i] for i in chosen[60:]],
        "birds": birds[:1200:40],
    }
    for name, paths in sources.items():
        (tmp_path / name).mkdir()
        for number, path in enumerate(paths):
            (tmp_path / name / f"{number}.jpg").write_bytes(path.read_bytes())
    (tmp_path / "blurred").mkdir()
    for number, path in enumerate(sources["b"][:30]):
        Image.open(path).convert("RGB").filter(ImageFilter.GaussianBlur(3)).save(tmp_path / "blurred" / f"{number}.png")
    sets = {name: embed(tmp_path / name, workers=0) for name in (*sources, "blurred")}
    half, birds_shift, blurred = (compare(sets["a"], sets[name]) for name in ("b", "birds", "blurred"))
    assert half.percentiles is not None and blurred.percentiles is not None  # noqa: PT018
    assert min(half.percentiles.p, half.similarity.p) > 0.01
    assert birds_shift.similarity.statistic > 0.9
    assert birds_shift.far_share > 0.95
    assert birds_shift.share_of_a < 0.05
    assert blurred.percentiles.statistic > 0.5
    assert blurred.percentiles.statistic > blurred.similarity.statistic
    assert blurred.far_share < birds_shift.far_share / 2
