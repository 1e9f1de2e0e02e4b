"""The contracts of import-linter in pyproject.toml hold, and would fail if they did not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def linted(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=root, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """Return a copy of the package and its contracts, to break."""
    import shutil

    root = tmp_path_factory.mktemp("linted")
    shutil.copytree(
        ROOT / "causalcxr", root / "causalcxr", ignore=shutil.ignore_patterns("bundled", "*.pyc")
    )
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_packages_import_in_one_direction_without_cycles():
    done = linted(ROOT)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("graph/rules.py", "import causalcxr.cohort.cohort", "Each package imports only"),
        ("graph/rules.py", "def lazy():\n    import causalcxr.graph.graph", "No import cycles"),
        ("images/decoded.py", "import torch", "work without torch"),
        ("apps/study/plan.py", "import causalcxr.apps.explorer.question", "Programs do not"),
    ],
)
def test_a_wrong_import_breaks_its_contract(copied, file, line, contract):
    target = copied / "causalcxr" / file
    before = target.read_text(encoding="utf-8")
    target.write_text(f"{before}\n{line}\n", encoding="utf-8")
    done = linted(copied)
    target.write_text(before, encoding="utf-8")
    assert done.returncode == 1
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), done.stdout[-2000:]


def test_the_package_root_stays_small():
    entries = {path.name for path in (ROOT / "causalcxr").iterdir()} - {"__pycache__", "py.typed"}
    assert len(entries) <= 13, sorted(entries)
