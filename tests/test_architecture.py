"""Dependencies point one way: pages -> pvu.ui -> pvu, and training -> pvu."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules(*parts: str) -> list[Path]:
    found = [path for part in parts for path in sorted((ROOT / part).rglob("*.py"))]
    assert found, parts
    return found


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or later, as an absolute name."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module or "") if part)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def offenders(paths: list[Path], *forbidden: str) -> dict[str, set[str]]:
    found = {}
    for path in paths:
        bad = {
            name for name in imports(path) for package in forbidden if name == package or name.startswith(f"{package}.")
        }
        if bad:
            found[str(path.relative_to(ROOT))] = bad
    return found


LIBRARY = [path for path in modules("pvu") if "ui" not in path.relative_to(ROOT).parts]


def test_the_check_sees_imports_of_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "pvu" / "ui").mkdir(parents=True)
    path = tmp_path / "pvu" / "ui" / "x.py"
    path.write_text(
        "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\n"
        "def later():\n    import h\n    importlib.import_module('i')\n"
    )
    assert set(imports(path)) >= {"a.b", "c", "c.d", "pvu.ui.e", "pvu.f.g", "h", "i"}


def test_the_library_knows_nothing_of_streamlit() -> None:
    assert offenders(LIBRARY, "streamlit") == {}


def test_the_library_reaches_back_to_nothing_that_uses_it() -> None:
    assert offenders(modules("pvu"), "training", "pages", "app", "tests", "benchmarks") == {}
    assert offenders(LIBRARY, "pvu.ui") == {}


def test_training_stands_on_the_library_alone() -> None:
    assert offenders(modules("training"), "streamlit", "pages", "pvu.ui", "app", "tests", "benchmarks") == {}


def test_pages_do_not_train_and_do_not_reach_into_tests() -> None:
    paths = [path for path in (ROOT / "app.py", *sorted((ROOT / "pages").glob("*.py"))) if path.exists()]
    assert offenders(paths, "training", "tests", "benchmarks") == {}


# What each step of the pipeline may import of the steps: none reaches back.
STEPS = [
    "errors",
    "images",
    "decoding",
    "sources",
    "shards",
    "neighbors",
    "projection",
    "index",
    "store",
    "assemble",
    "pipeline",
]


@pytest.mark.parametrize("step", STEPS)
def test_no_step_of_the_pipeline_reaches_back(step: str) -> None:
    later = [f"pvu.{name}" for name in STEPS[STEPS.index(step) + 1 :]]
    path = ROOT / "pvu" / f"{step}.py"
    lazy = {"pvu.index"} if step in ("store",) else set()
    found = offenders([path], *later).get(f"pvu/{step}.py", set())
    assert found - lazy == set()


def test_decoding_workers_start_without_torch_and_pandas() -> None:
    code = (
        "import sys, pvu.decoding; print(*sorted({'torch', 'timm', 'pandas', 'faiss', 'streamlit'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


def test_the_public_surface_is_there() -> None:
    import pvu

    for name in pvu.__all__:
        assert getattr(pvu, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pvu.nonsense  # noqa: B018


def test_every_test_file_of_the_library_mirrors_a_module() -> None:
    names = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")} - {"architecture"}
    assert {name for name in names if not (ROOT / "pvu" / f"{name}.py").exists()} == set()
