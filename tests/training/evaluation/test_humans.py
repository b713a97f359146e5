from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from pvu.errors import SourceError
from training.evaluation.humans import entropy, human_entropies

PATHS = ["cat/test_2.png", "cat/0.png", "dog/a1.png"]


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_rows_of_an_array_go_by_the_number_at_the_end_of_the_name(tmp_path: Path, scale: float) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(10), 4)
    probabilities[1] = np.eye(10)[3]
    np.save(tmp_path / "votes.npy", scale * probabilities)
    found = human_entropies(tmp_path / "votes.npy", PATHS)
    np.testing.assert_allclose(found, scipy_entropy(probabilities[[2, 0, 1]], axis=1), atol=1e-12)
    assert found[2] == 0


def test_a_table_of_votes_is_summed_by_image(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text(
        "path,label,votes\ncat/0.png,cat,6\ncat/0.png,dog,1\ncat/0.png,dog,1\ncat/test_2.png,NA,5\nelse.png,cat,1\n"
    )
    found = human_entropies(tmp_path / "votes.csv", PATHS)
    np.testing.assert_allclose(found, [0, scipy_entropy([6, 2]), np.nan])


def test_no_votes_are_no_entropy() -> None:
    np.testing.assert_allclose(entropy(np.array([[0.0, 0], [2, 2]])), [np.nan, np.log(2)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na,b\n", "needs path, label, votes"),
        ("path,label,votes\ncat/0.png,a,many\n", "line 2 of .* has 'many'"),
        ("path,label,votes\ncat/0.png,a,1\ncat/0.png,b,-1\n", "line 3"),
        ("path,label,votes\nelse.png,a,1\n", "labels of none of the 3 images"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "votes.csv").write_text(text)
    with pytest.raises(SourceError, match=message):
        human_entropies(tmp_path / "votes.csv", PATHS)


@pytest.mark.parametrize(
    ("array", "paths", "message"),
    [
        (np.ones(3), PATHS, r"float64 \(3,\)"),
        (-np.ones((3, 2)), PATHS, "from 0 on"),
        (np.ones((2, 2)), PATHS, "up to 2"),
        (np.ones((3, 2)), ["a/1.png", "b/1.png"], "1 of 2 different"),
        (np.ones((3, 2)), ["a/one.png"], "ends in none"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, array: np.ndarray, paths: list[str], message: str) -> None:
    np.save(tmp_path / "votes.npy", array)
    with pytest.raises(SourceError, match=message):
        human_entropies(tmp_path / "votes.npy", paths)


def test_files_of_other_forms_are_refused(tmp_path: Path) -> None:
    (tmp_path / "votes.txt").touch()
    (tmp_path / "pickle.npy").write_bytes(b"no array")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, message in (
        ("votes.txt", ".npy or .csv"),
        ("absent.npy", "no file"),
        ("pickle.npy", "Cannot read"),
        ("objects.npy", "Cannot read"),
    ):
        with pytest.raises(SourceError, match=message):
            human_entropies(tmp_path / name, PATHS)
