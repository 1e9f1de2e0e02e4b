"""The notebooks run from top to bottom, show a picture early, and end with one."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
LONG = (  # many images, or training
    "01_do_sex_M",
    "02_your_graph_your_data",
    "03_pairs_and_audit",
    "04_stress",
    "05_edit_and_retrain",
    "06_train_radit",
    "07_nih_patients",
    "08_the_phantom",
    "09_effects",
)
NOTEBOOKS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else [])
    for path in PATHS
]
EARLY, LARGEST = 3, 1_000_000  # code cells to the first picture; bytes of a notebook
PLACE = re.compile(r"/(?:home|root|Users|work|tmp|var|mnt)/")  # paths of a machine


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def has_picture(cell: nbformat.NotebookNode) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


def words(output: nbformat.NotebookNode) -> str:
    """Return the text of an output, without its pictures."""
    data = output.get("data", {})
    text = [str(value) for kind, value in data.items() if not kind.startswith("image/")]
    return "\n".join([*text, str(output.get("text", ""))])


def check_pictures(notebook: nbformat.NotebookNode) -> None:
    """Assert that the first cell is short, and that there is a picture early and at the end."""
    cells = code_cells(notebook)
    assert len([line for line in cells[0].source.splitlines() if line.strip()]) <= 5
    assert any(has_picture(cell) for cell in cells[:EARLY])
    assert has_picture(cells[-1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebook_runs_and_shows_pictures(path):
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=resources).execute()
    check_pictures(notebook)


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_saved_outputs_are_clean_and_have_pictures(path):
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert not PLACE.findall("\n".join(words(output) for output in outputs))
    assert len(text) < LARGEST
    check_pictures(notebook)


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_links_of_notebooks_lead_to_files(path):
    notebook = nbformat.read(path, as_version=4)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)#]+)", prose) if "://" not in link]
    assert not [link for link in links if not (FOLDER / link).exists()]


def test_no_real_radiograph_is_saved_in_a_notebook():
    notebook = nbformat.read(FOLDER / "07_nih_patients.ipynb", as_version=4)
    drawn = [cell for cell in code_cells(notebook) if re.search(r"compare\(.*\.plot", cell.source)]
    assert drawn
    assert not any(cell.outputs for cell in drawn)
