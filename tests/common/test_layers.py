"""Imports go up the table of docs/design.md, never down it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "causalcxr"
ROW = re.compile(r"^\| (\d) \| ([^|]+) \|", re.MULTILINE)
LAYERS = {
    name: int(number)
    for number, names in ROW.findall((ROOT / "docs/design.md").read_text(encoding="utf-8"))
    for name in re.findall(r"`(\w+)/?`", names)
}
# `Cohort.load` and `Cohort.save` look forward, lazily; the reason stands beside them.
# So does `FileImages`, which reads what `sources.decoding` decodes.
ALLOWED = {("cohort", "sources"), ("images", "sources")}
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def imports_of(file: Path) -> set[str]:
    """Return every module that a file imports, lazily or not, with the names taken from it."""
    found: set[str] = set()
    home = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = home[: len(home) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            found |= set(re.findall(r"causalcxr\.\w+", ast.unparse(node)))
    return found


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_given_a_module_when_it_imports_then_only_from_its_own_layer_or_above(file):
    name = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert name in LAYERS, f"add `{name}` to the table of layers in docs/design.md"
    imported = {each.split(".")[1] for each in imports_of(file) if each.startswith("causalcxr.")}
    known = {each for each in imported if each in LAYERS and (name, each) not in ALLOWED}
    assert [each for each in sorted(known) if LAYERS[each] > LAYERS[name]] == []
    if LAYERS[name] <= 3:
        assert not {each for each in imports_of(file) if each.split(".")[0] == "torch"}


def test_given_the_table_of_layers_then_it_has_all_eight():
    assert sorted(set(LAYERS.values())) == list(range(8))
