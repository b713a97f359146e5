"""The picture on the first page says what the default model says."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pvu.errors import SourceError
from pvu.models import load_model
from pvu.reference import percentile_among
from pvu.ui import explainer


def test_the_numbers_are_those_of_the_default_model() -> None:
    examples = [*explainer.SAME, explainer.UNFAMILIAR]
    model = load_model()
    _, u = model.encode([example.picture() for example in examples])
    found = percentile_among(model.reference_quantiles, u)
    np.testing.assert_allclose(found, [example.percentile for example in examples], atol=3)


def test_it_tells_what_it_is_to_tell() -> None:
    clear, *worse = (example.percentile for example in explainer.SAME)
    assert max(clear, explainer.UNFAMILIAR.percentile) < 15
    assert min(worse) > 90


def test_it_is_drawn_from_the_pictures_and_their_numbers() -> None:
    page = explainer._drawn()
    assert len(re.findall(r'<img src="data:image/jpeg;base64,[A-Za-z0-9+/=]{1000,}"', page)) == 5
    widths = [int(width) for width in re.findall(r"width:(\d+)%;background", page)]
    assert widths == [example.percentile for example in (*explainer.SAME, explainer.UNFAMILIAR)]
    assert len(page) < 150_000


def test_without_the_photographs_there_are_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise SourceError("not here")

    monkeypatch.setattr(explainer, "photograph", missing)
    explainer._drawn.clear()  # type: ignore[attr-defined]
    assert explainer._drawn() == ""
    explainer._drawn.clear()  # type: ignore[attr-defined]
