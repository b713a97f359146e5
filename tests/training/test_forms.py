"""Forms of a representation: each is what its name says, against numpy."""

from __future__ import annotations

import numpy as np
import torch

from training.experiments.forms import make_forms


def test_forms_are_what_their_names_say() -> None:
    rng = np.random.default_rng(0)
    upstream, z = (rng.gamma(1.0, size=(size, 12)).astype(np.float32) for size in (80, 5))
    forms = make_forms(torch.from_numpy(upstream), 4)
    found = {name: form(torch.from_numpy(z)).numpy() for name, form in forms.items()}

    def unit(values: np.ndarray) -> np.ndarray:
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    roots, centre = unit(np.sqrt(z)), unit(np.sqrt(upstream)).mean(0)
    np.testing.assert_array_equal(found["as it is"], z)
    np.testing.assert_allclose(found["square roots"], roots, rtol=1e-5)
    np.testing.assert_allclose(found["square roots, centred"], roots - centre, atol=1e-6)
    values, vectors = np.linalg.eigh(np.cov((unit(np.sqrt(upstream)) - centre).T))
    strongest = np.argsort(values)[::-1][:8]
    for power in (0.25, 0.5):
        expected = (roots - centre) @ vectors[:, strongest] / (values[strongest] + 1e-6) ** power
        name = f"the same, components over eigenvalues to the {power:g}"
        a, b = np.abs(found[name][:, :8]), np.abs(expected)
        np.testing.assert_allclose(a / a[:, :1], b / b[:, :1], rtol=0.02)
    last = list(found)[-1]
    assert found[last].shape == (5, 4)
    np.testing.assert_array_equal(found[last], found["the same, components over eigenvalues to the 0.25"][:, :4])
