"""The notebooks run from top to bottom, and show a picture soon."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

LONG = ("04_audit",)  # they make many images
NOTEBOOKS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else [])
    for path in sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_given_a_notebook_when_executed_then_its_first_cell_ends_in_a_picture(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=1800, kernel_name="python3").execute()
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert len([line for line in first.source.splitlines() if line.strip()]) <= 5
    assert any("image/png" in output.get("data", {}) for output in first.outputs)
