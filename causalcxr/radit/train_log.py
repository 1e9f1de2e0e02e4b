"""`train.jsonl`: the losses of a training run, one JSON object per line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from causalcxr.common.files import atomic_write

__all__ = ["TrainLog"]


class TrainLog:
    r"""Append rows to a file, without repeating any when a run resumes.

    Rows after the last checkpoint are removed at the start, as their steps are about to be
    repeated; so is a line that a kill has cut off.

    Args:
        path: The file; None logs nothing.
        step: The step at which the run starts or resumes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "train.jsonl"
        ...     TrainLog(path, 0).write(10, {"loss": 0.5})
        ...     TrainLog(path, 5).write(6, {"loss": 0.75})
        ...     path.read_text()
        '{"step": 6, "loss": 0.75}\n'
    """

    def __init__(self, path: Path | None, step: int) -> None:
        self.path = path
        if path is not None and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            atomic_write(path, "".join(f"{line}\n" for line in lines if _step(line) <= step))

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Append a row."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **row}) + "\n")


def _step(line: str) -> float:
    """Return the step of a line; infinity if the line is damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, LookupError, TypeError):
        return float("inf")
