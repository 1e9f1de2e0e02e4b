"""Run notebooks from top to bottom, and make their outputs small.

    python notebooks/execute.py notebooks/05_edit_and_retrain.ipynb
    python notebooks/execute.py                  # all of them

Pictures are saved at 80 dots per inch, in 256 colours if that suffices, so that a notebook stays
under one megabyte. A cell with the tag `not-kept` runs, but its outputs are not saved, because we
must not redistribute real radiographs. Progress bars and details of the machine are removed, too.
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

__all__ = ["execute", "shrink"]

HERE = Path(__file__).parent
_DPI = 80
_VISIBLE = 16  # of 255: the largest error of a palette's colour that is not visible
_KEPT = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def execute(path: Path) -> None:
    """Run one notebook in its own folder, and save it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=resources).execute()
    nbformat.write(shrink(notebook), path)


def shrink(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook with small outputs."""
    notebook.metadata = nbformat.from_dict(_KEPT | {"language_info": {"name": "python"}})
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        is_kept = "not-kept" not in cell.metadata.get("tags", [])
        cell.outputs = [output for output in cell.outputs if is_kept and _worth_keeping(output)]
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data = {"image/png": _small(output.data["image/png"])}
    return notebook


def _worth_keeping(output: nbformat.NotebookNode) -> bool:
    """Return whether an output is neither progress nor a warning."""
    return output.output_type != "stream" or output.name == "stdout"


def _small(encoded: str) -> str:
    """Return a PNG of at most `_DPI` dots per inch, without transparency."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    scale = min(_DPI / picture.info.get("dpi", (_DPI,))[0], 1)
    size = tuple(round(side * scale) for side in picture.size)
    small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    with_palette = small.quantize(256, dither=Image.Dither.NONE)
    error = np.abs(np.asarray(with_palette.convert("RGB"), dtype=np.int16) - np.asarray(small))
    if np.quantile(error, 0.999) < _VISIBLE:  # not for a colour scale with many colours
        small = with_palette
    content = io.BytesIO()
    small.save(content, "png", optimize=True, dpi=(_DPI, _DPI))
    return base64.b64encode(content.getvalue()).decode()


if __name__ == "__main__":
    for place in sys.argv[1:] or sorted(HERE.glob("*.ipynb")):
        print(place, flush=True)
        execute(Path(place).resolve())
