"""Run the peers: each in a process of their own environment; data are exchanged as .npz."""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.scm.task import Task

__all__ = ["CONTINUOUS_ONLY", "PEERS", "VARIABLE", "interpreter", "run_peer"]

VARIABLE = "CAUSALCXR_PEERS"  # the path of the peers' Python
PEERS = ("causalflows-nsf", "causalflows-maf", "tramdag", "dowhy-anm")
CONTINUOUS_ONLY = ("causalflows-nsf", "causalflows-maf", "dowhy-anm")
_HOUR = 3600


def interpreter() -> Path | None:
    """Return the Python of the peers, or None if the environment variable is not set."""
    path = os.environ.get(VARIABLE, "")
    if path and not Path(path).is_file():
        raise SystemExit(f"{VARIABLE} is {path!r}: no such file; set it to the path of a Python")
    return Path(path) if path else None


def run_peer(model: str, task: Task, python: Path, *, epochs: int) -> dict[str, np.ndarray]:
    """Return a peer's `twins`, (actions, draws, n, d), and its seconds to `fit` and to `twin`.

    Raises:
        RuntimeError: If its process fails; the message is the last line that it printed.
    """
    names = list(task.suite.nodes)
    nodes = task.suite.nodes.values()
    adjacency = np.array([[name in node.parents for name in names] for node in nodes])
    content = {part: task.matrix(part) for part in task.parts} | {
        "levels": np.array([len(node.levels) for node in nodes]),
        "adjacency": adjacency,
        "actions": np.array([(names.index(name), value) for name, value in task.actions]),
        "seed": task.seed,
        "epochs": epochs,
        "draws": task.draws,
    }
    worker = Path(__file__).with_name("worker.py")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "task.npz"), Path(folder, "answer.npz")
        np.savez(source, **content)
        process = subprocess.run(
            [python, worker, model, source, target],
            capture_output=True,
            text=True,
            timeout=_HOUR,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines() or ["no message"]
            raise RuntimeError(f"{model}: {lines[-1]}")
        with np.load(target) as file:
            return {name: file[name] for name in file.files}
