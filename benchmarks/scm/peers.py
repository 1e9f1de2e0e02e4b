"""Ask the peers: each runs in a process of its own environment, and data go there as .npz."""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.scm.task import Task

__all__ = ["CONTINUOUS_ONLY", "PEERS", "VARIABLE", "ask", "interpreter"]

VARIABLE = "CAUSALCXR_PEERS"  # the path of the peers' Python
PEERS = ("causalflows-nsf", "causalflows-maf", "tramdag", "dowhy-anm")
CONTINUOUS_ONLY = ("causalflows-nsf", "causalflows-maf", "dowhy-anm")
_HOUR = 3600


def interpreter() -> Path | None:
    """Return the peers' interpreter, or None where the environment names none."""
    named = os.environ.get(VARIABLE, "")
    if named and not Path(named).is_file():
        raise SystemExit(f"{VARIABLE} is {named!r}: no such file; give the path of a python")
    return Path(named) if named else None


def ask(model: str, task: Task, python: Path, *, epochs: int) -> dict[str, np.ndarray]:
    """Return a peer's `twins`, (actions, draws, n, d), and its seconds to `fit` and to `twin`.

    Raises:
        RuntimeError: If its process fails; the message is the last line that it wrote.
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
        done = subprocess.run(
            [python, worker, model, source, target],
            capture_output=True,
            text=True,
            timeout=_HOUR,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise RuntimeError(f"{model}: {lines[-1]}")
        with np.load(target) as file:
            return {name: file[name] for name in file.files}
