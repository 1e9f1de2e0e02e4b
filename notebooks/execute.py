"""Run notebooks from top to bottom, and keep their outputs small.

    python notebooks/execute.py notebooks/05_edit_and_retrain.ipynb
    python notebooks/execute.py                  # all of them

Pictures are kept at 80 dots an inch, in 256 colours where that suffices, so that a notebook stays
under a megabyte. A cell with the tag `not-kept` runs, but its outputs are not written: real
radiographs are not ours to hand on. Progress and the machine's details are left out, too.
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

__all__ = ["execute", "slimmed"]

HERE = Path(__file__).parent
_DPI = 80
_SEEN = 16  # of 255: how far off a colour of a palette may be before it shows
_KEPT = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def execute(path: Path) -> None:
    """Run one notebook in its own folder, and write it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=resources).execute()
    nbformat.write(slimmed(notebook), path)


def slimmed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook with what is worth keeping of its outputs."""
    notebook.metadata = nbformat.from_dict(_KEPT | {"language_info": {"name": "python"}})
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept = "not-kept" not in cell.metadata.get("tags", [])
        cell.outputs = [output for output in cell.outputs if kept and _worth_keeping(output)]
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data = {"image/png": _small(output.data["image/png"])}
    return notebook


def _worth_keeping(output: nbformat.NotebookNode) -> bool:
    """Return whether an output is no progress and no warning."""
    return output.output_type != "stream" or output.name == "stdout"


def _small(encoded: str) -> str:
    """Return a PNG of no more than so many dots an inch, without transparency."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    scale = min(_DPI / picture.info.get("dpi", (_DPI,))[0], 1)
    size = tuple(round(side * scale) for side in picture.size)
    small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    painted = small.quantize(256, dither=Image.Dither.NONE)
    lost = np.abs(np.asarray(painted.convert("RGB"), dtype=np.int16) - np.asarray(small))
    if np.quantile(lost, 0.999) < _SEEN:  # a scale of many colours would suffer
        small = painted
    content = io.BytesIO()
    small.save(content, "png", optimize=True, dpi=(_DPI, _DPI))
    return base64.b64encode(content.getvalue()).decode()


if __name__ == "__main__":
    for place in sys.argv[1:] or sorted(HERE.glob("*.ipynb")):
        print(place, flush=True)
        execute(Path(place).resolve())
