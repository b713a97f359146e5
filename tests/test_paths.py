"""Where pvu writes, and what it may read."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from pvu.errors import PVUError
from pvu.paths import allowed_roots, home, is_allowed, typed_path


def test_home_is_the_environments_or_the_users_cache(pvu_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == pvu_home
    for value in ("", None):
        monkeypatch.setenv("PVU_HOME", value) if value is not None else monkeypatch.delenv("PVU_HOME")
        assert home() == Path(platformdirs.user_cache_path("pvu")).resolve()
    monkeypatch.setenv("PVU_HOME", "~/somewhere")
    assert home() == Path.home().resolve() / "somewhere"


def test_without_roots_the_users_home_may_be_read(
    pvu_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert allowed_roots() == [(tmp_path / "user").resolve(), pvu_home]
    assert is_allowed(tmp_path / "user" / "photos")
    assert is_allowed(Path("~/photos"))
    assert not is_allowed(tmp_path / "user-of-another-name")
    assert not is_allowed(Path("/etc/passwd"))


def test_roots_of_the_environment_replace_it(pvu_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("PVU_ROOTS", os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")]))
    assert [is_allowed(tmp_path / name / "x") for name in ("a", "b", "c", "user")] == [True, True, False, False]
    assert is_allowed(pvu_home / "sources" / "x")


def test_dots_and_links_are_followed_before_judging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path / "a"))
    assert is_allowed(tmp_path / "a" / "deep" / ".." / "x")
    assert not is_allowed(tmp_path / "a" / ".." / "secret" / "x")
    assert not is_allowed(tmp_path / "a" / "link" / "x")


def test_a_link_that_leads_in_a_circle_is_judged_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv("PVU_ROOTS", str(tmp_path / "a"))
    assert not is_allowed(tmp_path / "loop")


def test_a_typed_path_has_its_tilde_expanded() -> None:
    assert typed_path("~/photos") == Path.home() / "photos"
    assert typed_path("not/there") == Path("not/there")


@pytest.mark.parametrize("text", ["~no-such-user/photos", "x" * 300, "zero\0byte"])
def test_a_path_that_no_disk_can_have_gives_a_sentence(text: str) -> None:
    with pytest.raises(PVUError, match=r"cannot be read \(.+\)\. Check the path\."):
        typed_path(text)
