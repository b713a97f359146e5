"""Names are shown as they are written, whatever Markdown would make of them."""

from __future__ import annotations

import re

import pytest

from pvu.progress import counted
from pvu.ui.text import plain


@pytest.mark.parametrize(
    "text", ["![x](http://example.org/x.png)", "*a* _b_ `c`", "$5 and $6", ":red[x]", "<b>", "a|b", "C:\\x", "~~x~~"]
)
def test_every_sign_that_means_something_is_escaped(text: str) -> None:
    shown = plain(text)
    assert re.sub(r"\\([^A-Za-z0-9\s])", r"\1", shown) == text
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]$:<|~!]", shown)


def test_words_stay_words() -> None:
    assert plain("Found 0 images in /data/cats-2. Give 1.5") == "Found 0 images in /data/cats-2. Give 1.5"
    assert plain("two\n# lines") == r"two \# lines"
    assert plain(ValueError("it's")) == "it's"


def test_counts_agree_with_their_noun() -> None:
    assert [counted(count, "image") for count in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
