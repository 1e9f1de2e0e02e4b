"""The time that the import of the package takes in a fresh Python process.

    python -m benchmarks import_time

The median over several processes, minus the time of an empty process. Targets: 0.3 s to import the
package and read a graph, 3 s for everything that a model needs.
"""

import subprocess
import sys
from statistics import median

from benchmarks import Row, stopwatch

__all__ = ["main"]

CODE = {
    "nothing": "pass",
    "import causalcxr": "import causalcxr",
    "a graph": "import causalcxr; causalcxr.Graph.load('cxr7')",
    "a model": "import causalcxr; causalcxr.SCM",
    "causalcxr --help": "from causalcxr.apps.cli.main import app; "
    "from causalcxr.apps.cli.command import guarded; "
    "guarded(app, ['--help'])",
}


def seconds(code: str, times: int) -> float:
    """Return the median wall time of a fresh process that runs the code."""
    wall_times = []
    for _ in range(times):
        with stopwatch() as watch:
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        wall_times.append(watch.seconds)
    return median(wall_times)


def main(quick: bool = False) -> list[Row]:
    """Return the seconds of each import."""
    times = 2 if quick else 7
    medians = {what: seconds(code, times) for what, code in CODE.items()}
    empty = medians.pop("nothing")
    return [{"what": what, "seconds": total - empty} for what, total in medians.items()]
