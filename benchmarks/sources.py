"""How quickly are seven data sets harmonised, in how much memory, and is every row right?

    python -m benchmarks sources

The tables are made up, in the published formats, with the marginals of CXR7-1M (1,205,494 rows;
`--quick`: a twentieth). Making them is not timed. They are then read by a process of its own,
whose time and peak memory are told; every cell of every row is compared with the truth. The real
table of ChestX-ray14 is read where it is at hand.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import Row, stopwatch
from benchmarks._cxr7_tables import FINDINGS_PUBLISHED, PUBLISHED, write
from causalcxr.sources.policy import FINDINGS

__all__ = ["main"]

_QUICK = 0.05
_READ = """
import json, sys, time
import numpy as np
from pathlib import Path
from causalcxr.sources import harmonise
from causalcxr.sources.harmonised import combined
from causalcxr.sources.policy import CXR7
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
seconds, parts = {}, []
for name in sys.argv[3].split(","):
    start = time.perf_counter()
    policy = CXR7.with_(labels="labels.csv") if name == "rexgradient" else CXR7
    parts.append(harmonise(folder / name, policy, name))
    seconds[name] = time.perf_counter() - start
start = time.perf_counter()
whole = combined(parts)
seconds["combined"] = time.perf_counter() - start
busy = time.process_time()
columns = sys.argv[4].split(",")
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) / 2**20
codes = {n: c.cat.codes if hasattr(c, "cat") else c for n, c in whole.table[columns].items()}
levels = {n: list(c.cat.categories) for n, c in whole.table[columns].items() if hasattr(c, "cat")}
np.savez(out, **{name: column.to_numpy() for name, column in codes.items()})
told = {"seconds": seconds, "busy": busy, "gib": peak, "rows": len(whole), "levels": levels}
print(json.dumps(told))
"""
_COLUMNS = ("Dataset", "View", "Sex", "Age", "Race", *FINDINGS)
_NAMES = ("mimic", "rexgradient", "chexpert_plus", "padchest", "nih", "brax", "vindr")


def _row(figure: str, value: object, target: str = "") -> Row:
    return {"figure": figure, "value": value, "target": target}


def main(quick: bool = False) -> list[Row]:
    """Return times, memory and the number of cells that are wrong."""
    scale = _QUICK if quick else 1.0
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place), Path(place) / "whole.npz"
        truth = write(folder, scale)
        command = [
            sys.executable,
            "-c",
            _READ,
            place,
            str(out),
            ",".join(_NAMES),
            ",".join(_COLUMNS),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        told = json.loads(done.stdout)
        found = _table(out, told["levels"])
    rows = [_row(f"{name}, s", seconds) for name, seconds in told["seconds"].items()]
    rows += [
        _row("all seven, s", sum(told["seconds"].values()), "<= 90"),
        _row("of which one processor was busy, s (imports included)", told["busy"]),
        _row("peak memory, GiB", told["gib"], "<= 4"),
        _row("rows", told["rows"], "1,205,494" if not quick else ""),
        _row("cells that differ from the truth", _wrong(found, truth), "0"),
        _row("marginals that differ from those published", _marginals(found, scale), "0"),
    ]
    return rows + _real()


def _table(file: Path, levels: dict[str, list[str]]) -> pd.DataFrame:
    """Return the table that the other process wrote."""
    with np.load(file, allow_pickle=False) as columns:
        return pd.DataFrame(
            {
                name: pd.Categorical.from_codes(columns[name], levels[name])
                if name in levels
                else columns[name]
                for name in columns
            }
        )


def _wrong(found: pd.DataFrame, truth: dict[str, pd.DataFrame]) -> int:
    """Return how many cells are not what they were made of."""
    whole = pd.concat([truth[name] for name in _NAMES], ignore_index=True)
    wrong = 0
    for name in whole:
        mine = found[name].astype(object).where(found[name].notna(), "")
        wrong += int((mine.to_numpy() != whole[name].to_numpy()).sum())
    return wrong


def _marginals(found: pd.DataFrame, scale: float) -> int:
    """Return how many of the published numbers are not met to the row."""
    wanted = {
        (name, level): n for name, levels in PUBLISHED.items() for level, n in levels.items()
    }
    for name, counts in FINDINGS_PUBLISHED.items():
        wanted |= {(name, level): n for level, n in zip("PN", counts, strict=True)}
    return sum(
        int((found[name] == level).sum()) != round(n * scale)
        for (name, level), n in wanted.items()
    )


def _real() -> list[Row]:
    from causalcxr.sources.datasets.nih import harmonise

    folder = Path(os.environ.get("CAUSALCXR_DATA", "")) / "nih"
    if not folder.is_dir():
        return []
    harmonise(folder)
    with stopwatch() as watch:
        rows = len(harmonise(folder))
    return [_row(f"ChestX-ray14, the real table of {rows:,} rows, s", watch.seconds, "<= 3")]
